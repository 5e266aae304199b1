"""How a message of the log and what is here of it become one.

Invariants
1. Two messages never have one number. What comes from the log takes its place in it; what stood
   there by another history is kept, and marked.
2. A message of the log that is here already, under its id and with its bytes, is the same one.
3. Nothing is ever deleted, but the second row of what proves to be one message.
"""

from __future__ import annotations

from typing import Final

from collab.protocol import chat_changes as cc
from collab.protocol.gaps import is_missing
from collab.protocol.message_state import PATH, MessageState, advance
from collab.protocol.messages import LoggedMessage, Verdict
from collab.protocol.verdicts import DECIDED
from collab.storage.chat_rows import farthest
from collab.storage.chat_work import ChatWork
from collab.storage.message_rows import (
    TAIL,
    MessageRow,
    at_seq,
    by_row,
    digest,
    slots,
    update,
    with_id,
)

__all__ = ["IN_LOG", "OTHER_USER", "LogMessages"]

IN_LOG: Final = PATH[2:]
"""The states of a message that is in the log."""

OTHER_USER: Final = "other_user"
"""Why a message is stalled that somebody else wrote on this device."""


class LogMessages(ChatWork):
    """Puts messages into the log's order, and takes them out of it."""

    def _take(self, message: LoggedMessage) -> None:
        """A message of the log."""
        there = at_seq(self.connection, self.room_id, message.seq)
        if there is not None and there.id == message.id and self._is_same(there, message):
            now = update(self.connection, there.row, **self._of_log(there, message))
            self._set_logged(there, now, message)
            return
        if there is not None and self._was_rewritten(there, message):
            log = self._of_log(there, message)
            rewritten = self._rewrite(there, message.body, message.meta, **log)
            self.stored.changed.append(rewritten)
            self._set_logged(there, rewritten, message)
            return
        if there is not None and there.position is not None and there.id != message.id:
            self._offer_again(there)
        elif there is not None:
            self.stored.changed.append(
                update(self.connection, there.row, replaced=1, tie=-there.row)
            )
        known = self._known(message)
        if known is None:
            self.stored.added.append(self._add(message))
        else:
            log = self._of_log(known, message) | _rewritten(known, message.body, message.meta)
            in_log = self._into_log(known, message.seq, **log)
            self._set_logged(known, in_log, message)
            if known.position is not None:
                self.stored.logged.append(known.id)

    def _into_log(self, row: MessageRow, seq: int, **columns: object) -> MessageRow:
        """A message that is here has this number, unless another has it; the row as it is then."""
        if row.state not in IN_LOG:
            state = advance(row.state, MessageState.ACCEPTED)
            if columns.get("mine", True):
                state = self._state_in_log(seq)
            columns |= {"state": state, "code": "", "reason": ""}
        elif row.seq is None and row.mine:  # receipts did not reach it while it had no number
            columns |= {"state": max(row.state, self._state_in_log(seq), key=PATH.index)}
        there = at_seq(self.connection, self.room_id, seq)
        if there is None or there.row == row.row:
            columns |= {"seq": seq, "place": seq, "tie": 0, "replaced": 0}
        elif self._is_made_of(there, row):
            return self._merge(row, there, columns)
        else:
            columns |= {"place": row.written_after}  # a relay that gives one number twice
        now = update(self.connection, row.row, **columns)
        self.stored.changed.append(now)
        return now

    def _add(self, message: LoggedMessage) -> MessageRow:
        mine = message.sender == self.chat.user
        cursor = self.connection.execute(
            "INSERT INTO messages (room_id, message_id, place, tie, seq, state, mine, sender, body,"
            " meta, sent_at, accepted_at, kind, verdict, size)"
            " VALUES (?, ?, ?, 0, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                self.room_id, message.id, message.seq, message.seq,
                self._state_in_log(message.seq) if mine else MessageState.ACCEPTED,
                mine, message.sender, message.body, message.meta, message.sent_at,
                message.accepted_at, message.kind,
                self._verdict(Verdict.NOT_ASKED, message), 0,
            ),
        )  # fmt: skip
        assert cursor.lastrowid is not None
        return by_row(self.connection, [cursor.lastrowid])[0]

    def _state_in_log(self, seq: int) -> MessageState:
        delivered, read = farthest(self.connection, self.room_id)
        if seq <= read:
            return advance(MessageState.ACCEPTED, MessageState.READ)
        if seq <= delivered:
            return advance(MessageState.ACCEPTED, MessageState.DELIVERED)
        return MessageState.ACCEPTED

    # Which message it is, and whose

    def _known(self, message: LoggedMessage) -> MessageRow | None:
        """The message that is here already, and has no certain place in the log."""
        for row in with_id(self.connection, self.room_id, message.id):
            if (
                row.seq is None and row.state in IN_LOG
            ):  # accepted under a number that another had here
                certain, same = False, self._was_rewritten(row, message)
            else:
                certain = row.is_in_log and not is_missing(self._gaps(), row.place)
                same = self._is_same(row, message)
            if same and not certain:
                return row
        return None

    def _is_same(self, row: MessageRow, message: LoggedMessage) -> bool:
        """Whether a message of the same id is the same message."""
        is_ours = row.position is not None and not row.is_in_log
        sender = row.sender or (self.chat.user if is_ours else "") or message.sender
        asked = row.verdict != Verdict.NOT_ASKED, message.verdict != Verdict.NOT_ASKED
        content = (message.body, message.meta, message.sender)
        return (row.body, row.meta, sender) == content and asked[0] == asked[1]

    def _was_rewritten(self, row: MessageRow, message: LoggedMessage) -> bool:
        """Whether what was sent here was accepted, and the relay keeps something else of it.

        The outcome said that its number holds what was sent; this is the first that is seen of it.
        """
        accepted = row.position is not None and row.accepted_at is None
        return accepted and row.id == message.id and row.sender in ("", message.sender)

    def _is_made_of(self, there: MessageRow, row: MessageRow) -> bool:
        """Whether ``there`` is what the relay made of ``row``, and was seen before its outcome."""
        ours = there.position is None and there.sender == self.chat.user
        return ours and there.id == row.id

    def _merge(self, row: MessageRow, there: MessageRow, columns: dict[str, object]) -> MessageRow:
        self.connection.execute("DELETE FROM messages WHERE id = ?", (there.row,))
        log = {
            "seq": there.seq, "place": there.place, "tie": 0, "replaced": 0,
            "sender": there.sender, "sent_at": there.sent_at, "accepted_at": there.accepted_at,
            "kind": there.kind, "verdict": there.verdict, "verdict_reason": there.verdict_reason,
        }  # fmt: skip
        merged = self._rewrite(row, there.body, there.meta, **(columns | log))
        self.stored.merged[there.row] = merged
        self.stored.changed.append(merged)
        if merged.verdict in DECIDED:
            self.stored.decided.append(merged)
        return merged

    def _rewrite(self, row: MessageRow, body: str, meta: bytes, **columns: object) -> MessageRow:
        columns |= _rewritten(row, body, meta)
        return update(self.connection, row.row, **columns)

    def _of_log(self, row: MessageRow, message: LoggedMessage) -> dict[str, object]:
        """What the log says of a message that is here as ``row``.

        What was this user's under an earlier name of the device stays so. Between two names of
        the device nobody knows the user, and all that was sent from here is theirs.
        """
        if self.chat.user:
            was_mine = row.state in IN_LOG and row.mine and row.sender in ("", message.sender)
        else:
            was_mine = row.mine and row.code != OTHER_USER
        return {
            "sender": message.sender, "sent_at": message.sent_at,
            "accepted_at": message.accepted_at, "kind": message.kind,
            "mine": was_mine or message.sender == self.chat.user,
        }  # fmt: skip

    # Verdicts

    def _set_logged(self, before: MessageRow, row: MessageRow, message: LoggedMessage) -> None:
        """Store the verdict of a message that is here and, as it says now, in the log."""
        verdict = self._verdict(before.verdict, message)
        if verdict == before.verdict:
            return
        now = update(self.connection, row.row, verdict=verdict)
        if verdict in DECIDED:
            self._was_decided(now)

    def _verdict(self, known: int, message: LoggedMessage) -> int:
        """The verdict to store for what the log has; ``known`` is what is stored.

        The first one stays. A refusal counts once its reason is here, which the log's messages do
        not carry: until then it is awaited, and asked for.
        """
        if known in DECIDED:
            return known
        if message.verdict == Verdict.REFUSED:
            self.stored.awaited.append(message.id)
            return Verdict.AWAITED
        return message.verdict

    def _was_decided(self, row: MessageRow) -> None:
        self.stored.decided.append(row)
        self.stored.changed.append(row)

    # Out of the log

    def _offer_again(self, row: MessageRow) -> None:
        """The log does not have it under the number with which it was accepted."""
        queued = advance(row.state, MessageState.QUEUED)
        if row.slot is not None:  # it is sent again anyhow
            self._off_log(row, advance(queued, MessageState.SENDING))
            bound = slots(self.connection, self.room_id, first=row.slot)
            self.stored.slots += [slot for slot in bound if slot.id == row.id]
        else:
            # It was taken in time once; it must not expire now.
            self._off_log(row, queued, expires_ms=None)
            if not row.mine:
                self._stall_for_another(by_row(self.connection, [row.row])[0])
                return
            self.stored.waiting.append(cc.Waiting(row.id, row.position or 0, None, offered=True))
        self.stored.reoffered += 1
        self.stored.changed += by_row(self.connection, [row.row])

    def _stall_for_another(self, row: MessageRow) -> None:
        """It is not this user's: it waits for its writer, or for the program's word."""
        reason = f"{row.sender} wrote it, and this device speaks for {self.chat.user} now"
        self._change(row, MessageState.STALLED, code=OTHER_USER, reason=reason, mine=1)

    def _off_log(self, row: MessageRow, state: MessageState, **columns: object) -> None:
        update(
            self.connection, row.row, state=state, seq=None, place=TAIL, tie=row.position,
            replaced=0, accepted_at=None, refusals=0, offered=1, verdict_reason="",
            verdict=Verdict.AWAITED if row.verdict else Verdict.NOT_ASKED, **columns,
        )  # fmt: skip


def _rewritten(row: MessageRow, body: str, meta: bytes) -> dict[str, object]:
    """What changes of a message of which the relay keeps this."""
    if (row.body, row.meta) == (body, meta):
        return {}
    return {"body": body, "meta": meta, "as_sent": row.as_sent or digest(row.body, row.meta)}
