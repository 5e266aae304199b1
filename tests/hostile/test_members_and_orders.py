"""Whatever devices send of members and orders, the log holds only what it may, and all go on."""

from __future__ import annotations

import contextlib
import random
import sqlite3
from itertools import count
from pathlib import Path
from typing import Any

from websockets.exceptions import ConnectionClosed

from collab import limits
from collab.protocol import frames
from collab.protocol.codec import pack_rows
from collab.protocol.verdicts import pack_inquiry
from collab_server.confirming import Confirm, ConfirmRequest, Refuse, VerdictRuling
from collab_server.settings import Settings
from tests.e2e.chat_member import LANE, entered, id_of, joined
from tests.e2e.support import run, running, until

SEED = 20_331
FRAMES = 1_500
NAMES = ["ana", "本", "", "x" * limits.MAX_USER_BYTES, "ana\0", "eve"]
ROLES = ["reader", "writer", "admin", "", "owner", "x" * limits.MAX_ROLE_BYTES]


def hostile(dice: random.Random, channel: int, slots: count[int]) -> frames.Frame:
    """One frame; some are right, most are not, and some end their connection."""
    channel = dice.choice((channel, channel, channel, channel, 99))
    ids = [id_of(dice.randrange(60)) for _ in range(dice.choice((0, 1, 3, 100, 101)))]
    match dice.randrange(8):
        case 0 | 1 | 2:
            return frames.Change(
                channel, dice.randrange(3), dice.choice(NAMES), dice.choice(ROLES)
            )  # fmt: skip
        case 3:
            return frames.Inquire(channel, pack_inquiry(ids))
        case 4:
            junk = (b"", b"junk", pack_rows([(1,)]), pack_rows([(b"x", b"y")]), b"\xc1" * 40)
            return frames.Inquire(channel, dice.choice(junk))
        case 5:
            return frames.Enter(channel, dice.randbytes(16), 0, bytes(16), 0)
        case _:
            slot = next(slots)
            body = dice.choice(("yes", "no", "fails"))
            confirm = dice.random() < 0.8
            number = id_of(dice.randrange(60))
            return frames.Send(channel, slot, number, body, b"", 1, None, confirm)


def test_the_log_bears_hostile_changes_inquiries_and_orders(tmp_path: Path) -> None:
    dice = random.Random(SEED)
    failed: set[bytes] = set()

    async def on_confirm(request: ConfirmRequest) -> VerdictRuling:
        if request.body == "fails" and request.id.bytes not in failed:
            failed.add(request.id.bytes)
            raise RuntimeError("not yet")
        return Refuse("sold out") if request.body == "no" else Confirm()

    async def attack(url: str) -> int:
        """One connection, until it is ended or has had enough; how many frames it sent."""
        sent = 0
        with contextlib.suppress(ConnectionClosed):
            async with joined(url, device=dice.randbytes(16)) as member:
                if dice.random() < 0.9:
                    await member.enter(lane=dice.randbytes(16))
                slots = count(1)
                for _ in range(dice.randrange(1, 60)):
                    await member.speaker.send(hostile(dice, member.channel, slots))
                    sent += 1
                await member.speaker.send(frames.Ping(7))
                await member.speaker.expect(frames.Pong)
        return sent

    async def main() -> None:
        async with (
            running(tmp_path, on_confirm=on_confirm, confirm_retry_s=0.005) as (url, relay),
            entered(url, "healthy", device=b"h" * 16, lane=LANE) as healthy,
        ):
            sent = 0
            while sent < FRAMES:
                sent += await attack(url)
            told = await healthy.say(healthy.message(1, body="yes", confirm=True))
            assert told.code == "accepted", f"seed {SEED}"
            await healthy.until(lambda: healthy.verdicts)
            await until(lambda: not rows(tmp_path, "SELECT 1 FROM messages WHERE verdict = 1"))
            assert relay._running().log.failing is None

    run(main())
    members = rows(tmp_path, "SELECT user, role FROM members")
    assert all(user and role in ("reader", "writer", "admin") for user, role in members)
    log = rows(
        tmp_path,
        "SELECT seq, kind, body, verdict FROM messages"
        " WHERE room_id = (SELECT id FROM rooms WHERE name = 'talk') ORDER BY seq",
    )
    assert [seq for seq, *_ in log] == list(range(1, len(log) + 1)), f"seed {SEED}"
    assert {kind for _, kind, *_ in log} == {0, 1}
    verdicts = {"yes": {0, 2}, "no": {0, 3}, "fails": {0, 2}}
    for _, kind, body, verdict in log:
        assert verdict in ({0} if kind else verdicts[body]), f"seed {SEED}: {body}"
    assert {verdict for *_, verdict in log} == {0, 2, 3}


def rows(data: Path, query: str) -> list[tuple[Any, ...]]:
    path = f"file:{Settings(data=data).log_path}?mode=ro"
    with contextlib.closing(sqlite3.connect(path, uri=True)) as log:
        return log.execute(query).fetchall()
