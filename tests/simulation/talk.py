"""The traffic of chats: what programs do with theirs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from collab.protocol.message_state import MessageState
from collab.storage.message_rows import MessageRow, select
from tests.simulation.device_chat import DeviceChat, Letter

if TYPE_CHECKING:
    from tests.simulation.device import Device
    from tests.simulation.plan import Plan

_OWN = "WHERE room_id = ? AND position IS NOT NULL ORDER BY position"
_OPEN = (MessageState.QUEUED, MessageState.SENDING, MessageState.STALLED)


def own(chat: DeviceChat) -> list[MessageRow]:
    """What was sent from this file, as it is on the disk."""
    return select(chat.connection, _OWN, (chat.number,))


class Talk:
    """All programs' mouths; every message of a history has another body."""

    def __init__(self, plan: Plan) -> None:
        assert plan.chat is not None
        self._ttls = plan.chat.ttls
        self._sent = 0

    def act(self, device: Device, chat: DeviceChat, kind: str) -> None:
        """One act of a program."""
        rng = device.world.rng
        match kind:
            case "send":
                chat.send(self._letter(device))
            case "again":
                rows = own(chat)
                if rows:
                    row = rng.choice(rows)
                    chat.send(Letter(row.id, row.body, row.ttl_ms, is_again=True))
            case "conflict":
                rows = own(chat)
                if rows:
                    chat.send(Letter(rng.choice(rows).id, "another body", None, is_again=True))
            case "edit":
                rows = [row for row in own(chat) if row.state is MessageState.QUEUED]
                if rows:
                    self._sent += 1
                    chat.edit(rng.choice(rows), f"message {self._sent}, edited")
            case "cancel":
                rows = [row for row in own(chat) if row.state in _OPEN]
                if rows:
                    chat.cancel(rng.choice(rows))
            case "retry":
                for row in own(chat):
                    if row.state is MessageState.STALLED:
                        chat.retry(row)
            case "read":
                upto = rng.choice((None, None, rng.randrange(1 + chat.machine.reader.seq)))
                chat.read(upto)
            case "fetch":
                chat.fetch(newest=rng.random() < 0.5)
            case _:
                raise AssertionError(kind)

    def _letter(self, device: Device) -> Letter:
        rng = device.world.rng
        ttl_s = rng.choices(list(self._ttls), list(self._ttls.values()))[0]
        self._sent += 1
        ttl_ms = None if ttl_s is None else round(ttl_s * 1000)
        return Letter(rng.randbytes(16), f"message {self._sent}", ttl_ms)
