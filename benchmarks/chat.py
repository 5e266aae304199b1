"""What a chat costs: accepting, sending, waiting for the disk, and catching up.

The relay is a process of its own, as operators run it, with its log on the disk (FULL); who sends
is this process. Lanes keep to the protocol: at most ``LANE_WINDOW`` messages are undecided.
"""

from __future__ import annotations

import asyncio
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import collab
from benchmarks.measure import Row
from collab import limits
from collab.protocol import frames
from collab.protocol.codec import decode_from_relay, encode
from collab.protocol.messages import OutcomeCode
from tests.e2e.chat_member import entered
from tests.e2e.support import relay_process, running
from tests.e2e.test_chat_relay_catch_up import fill

BODY = "What a person says in a chat is about as long as this."
RAW_S = 3.0
LANES = 50
SENDS = 1_000
BACKLOG = 10_000
WAITS = 200
OFFLINE_SENDS = 1_000
PATIENCE_S = 60.0


def chat(rounds: int) -> list[Row]:
    """All figures of the chat, and what this disk needs for a commit, to compare them with."""
    samples = zip(*(_round() for _ in range(rounds)), strict=True)
    return [Row(what, figures, unit) for (what, unit), figures in zip(_WHAT, samples, strict=True)]


_WHAT = (
    ("a commit of one row in bare SQLite, FULL, median", "ms"),
    (f"raw frames accepted, 1 lane with {limits.LANE_WINDOW} undecided", "/s"),
    (f"raw frames accepted, {LANES} lanes, a room each", "/s"),
    (f"raw frames accepted, {LANES} lanes in one room, each sent to all of them", "/s"),
    ("send() to accepted, each waited for", "/s"),
    (f"send() to accepted, {SENDS:,} at once", "/s"),
    (f"joining after {BACKLOG:,} messages, until the newest are here", "s"),
    (f"reading the {BACKLOG:,} by pages of {limits.PAGE_MESSAGES}", "s"),
    ("send() offline, median", "ms"),
    ("send() offline, 99th of 100", "ms"),
)


def _round() -> tuple[float, ...]:
    """One figure for each of ``_WHAT``."""
    return (
        _bare_commit_ms(),
        *asyncio.run(_raw()),
        *asyncio.run(_sends()),
        *asyncio.run(_catch_up()),
        *asyncio.run(_offline_ms()),
    )


def _bare_commit_ms() -> float:
    with tempfile.TemporaryDirectory() as folder:
        connection = sqlite3.connect(Path(folder, "bare.db"), isolation_level=None)
        with closing(connection) as file:
            file.execute("PRAGMA journal_mode = WAL")
            file.execute("PRAGMA synchronous = FULL")
            file.execute("CREATE TABLE messages (body TEXT)")
            samples = []
            for _ in range(OFFLINE_SENDS):
                started = time.perf_counter()
                file.execute("INSERT INTO messages VALUES (?)", (BODY,))
                samples.append(time.perf_counter() - started)
    return statistics.median(samples) * 1000


# Raw frames


async def _raw() -> tuple[float, float, float]:
    """Messages that a relay accepts in a second: of one lane, of many, of many in one room."""
    with tempfile.TemporaryDirectory() as data:
        async with relay_process(Path(data)) as (_, url):
            return (
                await _accepted(url, ["alone"]),
                await _accepted(url, [f"room {n}" for n in range(LANES)]),
                await _accepted(url, ["together"] * LANES),
            )


async def _accepted(url: str, rooms: Sequence[str]) -> float:
    """The same of one lane in each of these rooms."""
    ready = asyncio.Barrier(len(rooms))
    sending = (_lane(url, number, room, ready) for number, room in enumerate(rooms))
    return sum(await asyncio.gather(*sending)) / RAW_S


async def _lane(url: str, number: int, room: str, ready: asyncio.Barrier) -> int:
    """Keep a lane's window full for a while, once all are ready; how many it had accepted then."""
    device = (number + 1).to_bytes(16, "big")
    async with entered(url, room, device=device) as member:
        socket = member.speaker.socket
        sent = accepted = 0
        await ready.wait()
        until = time.perf_counter() + RAW_S
        while time.perf_counter() < until:
            while sent - accepted < limits.LANE_WINDOW:
                sent += 1
                message = member.message(sent, number=(number << 32) + sent, body=BODY)
                await socket.send(encode(message))
            data = await socket.recv()
            assert isinstance(data, bytes)
            frame = decode_from_relay(data)
            if isinstance(frame, frames.Outcome):
                assert frame.code == OutcomeCode.ACCEPTED
                accepted += 1
        return accepted


# A client


async def _sends() -> tuple[float, float]:
    """Messages a second: one after the other, each waited for; and many at once."""
    with tempfile.TemporaryDirectory() as folder:
        async with (
            relay_process(Path(folder, "relay")) as (_, url),
            collab.open(Path(folder, "a.db"), relay=url) as client,
        ):
            room = await client.room("talk")
            await room.wait_synced(PATIENCE_S)
            started = time.perf_counter()
            for _ in range(WAITS):
                await (await room.chat.send(BODY)).wait("accepted", PATIENCE_S)
            in_turn = WAITS / (time.perf_counter() - started)
            started = time.perf_counter()
            sent = await asyncio.gather(*(room.chat.send(BODY) for _ in range(SENDS)))
            await sent[-1].wait("accepted", PATIENCE_S)
            return in_turn, SENDS / (time.perf_counter() - started)


async def _catch_up() -> tuple[float, float]:
    """Seconds until the newest messages of a full room are here, and then until all are."""
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder, "relay")
        async with running(data) as (_, relay):
            await fill(relay, BACKLOG, body=BODY)
        async with (
            relay_process(data) as (_, url),
            collab.open(Path(folder, "a.db"), relay=url) as client,
        ):
            started = time.perf_counter()
            room = await client.room("talk")
            await room.wait_synced(PATIENCE_S)
            page = await room.chat.history(limits.NEWEST_IN_LIMITED)
            joined = time.perf_counter()
            assert page[-1].seq == BACKLOG
            seqs = [message.seq for message in page]
            while page:
                page = await room.chat.history(limits.PAGE_MESSAGES, before=page[0])
                seqs = [*(message.seq for message in page), *seqs]
            ended = time.perf_counter()
            assert seqs == list(range(1, BACKLOG + 1))
            return joined - started, ended - joined


async def _offline_ms() -> tuple[float, float]:
    """Milliseconds of a ``send()`` without a relay: the median, and the 99th of 100."""
    with tempfile.TemporaryDirectory() as folder:
        async with collab.open(Path(folder, "a.db")) as client:
            room = await client.room("talk")
            samples = []
            for _ in range(OFFLINE_SENDS):
                started = time.perf_counter()
                await room.chat.send(BODY)
                samples.append((time.perf_counter() - started) * 1000)
    return statistics.median(samples), statistics.quantiles(samples, n=100)[-1]
