"""What is on the disks of a chat after a kill, and whether it is what was promised. Not a test.

1. What ``send`` returned for is in its device's file once, in the order of sending.
2. What was shown as accepted is in the relay's log, under the number that was shown, and accepted
   in the file.
3. The log has the numbers 1 to n, no message twice, and of each lane a beginning, in its order.
4. What a file has under a number is what the log has, and nothing up to its mark is missing that
   is not in a gap.
5. A lane is one for ever: a crash is no reason to begin another, nor to say that a file was put
   back, nor that the relay was.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

__all__ = ["FileView", "LogView", "Promises", "check", "in_order", "lane_of", "read_file"]

_IN_LOG: Final = ("accepted", "delivered", "read")
_CHAT: Final = """
    SELECT chats.room_id, lane_epoch, seq FROM chats JOIN rooms ON rooms.id = room_id
    WHERE name = ?
"""
_SENT: Final = """
    SELECT body, state FROM messages WHERE room_id = ? AND position IS NOT NULL ORDER BY position
"""
_NUMBERED: Final = "SELECT seq, body FROM messages WHERE room_id = ? AND seq IS NOT NULL"
_REPLACED: Final = "SELECT count(*) FROM messages WHERE room_id = ? AND replaced"
_GAPS: Final = "SELECT low, high FROM gaps WHERE room_id = ?"
_ROOM: Final = """
    SELECT id, coalesce(head, 0) FROM rooms LEFT JOIN chats ON chats.room_id = id WHERE name = ?
"""
_LOG: Final = "SELECT seq, body FROM messages WHERE room_id = ? ORDER BY seq"
_LANES: Final = "SELECT count(*), count(DISTINCT device) FROM lanes WHERE room_id = ?"


@dataclass
class Promises:
    """What was told of one room. A body is ``<run>-<number>``; see ``lane_of``."""

    sent: Counter[str] = field(default_factory=Counter)  # of each run, from its first message on
    accepted: dict[str, int] = field(default_factory=dict)  # body to seq
    lanes: dict[str, bytes] = field(default_factory=dict)  # device to the epoch of its lane

    def take(self, word: str, what: str, number: str | int) -> None:
        """``sent RUN N`` or ``accepted BODY SEQ``."""
        if word == "sent":
            self.sent[what] = max(self.sent[what], int(number))
        else:
            assert self.accepted.setdefault(what, int(number)) == int(number), (
                f"{what} is there twice"
            )

    def bodies(self, device: str) -> set[str]:
        """All that a device was told is saved."""
        return {
            f"{run}-{number}"
            for run, count in self.sent.items()
            if lane_of(run) == device
            for number in range(count)
        }


@dataclass(frozen=True)
class FileView:
    """One room in the file of one device."""

    lane: bytes
    sent: list[tuple[str, str]]  # body and state, in the order of sending
    numbered: dict[int, str]
    mark: int
    gaps: list[tuple[int, int]]
    replaced: int


@dataclass(frozen=True)
class LogView:
    """One room in the relay's log."""

    bodies: list[str]
    head: int
    lanes: tuple[int, int]  # how many, and of how many devices

    @classmethod
    def read(cls, path: Path, room: str) -> LogView:
        """An empty one if there is none."""
        with _opened(path) as log:
            found = log.execute(_ROOM, (room,)).fetchone() if log is not None else None
            if log is None or found is None:
                return cls([], 0, (0, 0))
            rows = log.execute(_LOG, found[:1]).fetchall()
            assert [seq for seq, _ in rows] == list(range(1, len(rows) + 1)), "a hole in the log"
            lanes = log.execute(_LANES, found[:1]).fetchone()
            return cls([body for _, body in rows], found[1], lanes)


def lane_of(body: str) -> str:
    """The device whose message this is: the part of its run before the number of the room."""
    return body.split(".")[1][:-1]


def read_file(path: Path, room: str) -> FileView | None:
    """One room in a device's file; None if it is not in it yet."""
    with _opened(path) as file:
        found = file.execute(_CHAT, (room,)).fetchone() if file is not None else None
        if file is None or found is None:
            return None
        key = found[:1]
        rows = file.execute(_NUMBERED, key).fetchall()
        assert len(dict(rows)) == len(rows), "one number for two messages"
        return FileView(
            lane=found[1],
            sent=file.execute(_SENT, key).fetchall(),
            numbered=dict(rows),
            mark=found[2],
            gaps=file.execute(_GAPS, key).fetchall(),
            replaced=file.execute(_REPLACED, key).fetchone()[0],
        )


@contextlib.contextmanager
def _opened(path: Path) -> Any:
    if not path.exists():
        yield None
        return
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        connection.execute("BEGIN")
        known = connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'chats'").fetchone()
        yield None if known is None else connection


def in_order(bodies: Sequence[str]) -> None:
    """Each message once, and each run from its first message on, in its order."""
    counts = Counter(bodies)
    assert len(counts) == len(bodies), f"twice: {[body for body in counts if counts[body] > 1][:3]}"
    runs: defaultdict[str, int] = defaultdict(int)
    for body in bodies:
        run, _, number = body.partition("-")
        assert int(number) == runs[run], f"{body} comes when {runs[run]} is due"
        runs[run] += 1


def check(promised: Promises, files: dict[str, FileView | None], log: LogView) -> None:
    """All claims, of one room. ``files`` by device."""
    in_order(log.bodies)
    assert log.head == len(log.bodies), "the log's head is not that of its last message"
    assert log.lanes[0] == log.lanes[1], "a device has two lanes"
    for body, seq in promised.accepted.items():
        assert log.bodies[seq - 1 : seq] == [body], f"{body} was accepted as {seq}"
    for device, file in files.items():
        if file is None:
            assert not promised.bodies(device), "what was sent is not in the file"
            continue
        _check_file(promised, device, file, log)


def _check_file(promised: Promises, device: str, file: FileView, log: LogView) -> None:
    sent = [body for body, _ in file.sent]
    in_order(sent)
    missing = promised.bodies(device) - set(sent)
    assert not missing, f"not in the file: {sorted(missing)[:3]}"
    states = dict(file.sent)
    for body in promised.accepted:
        if lane_of(body) == device:
            assert states[body] in _IN_LOG, f"{body} was accepted, and is {states[body]}"
    of_lane = [body for body in log.bodies if lane_of(body) == device]
    assert of_lane == sent[: len(of_lane)], "the log has the lane in another order"
    for seq, body in file.numbered.items():
        assert log.bodies[seq - 1 : seq] == [body], f"{body} is not number {seq} of the log"
    here = file.numbered.keys() | {n for low, high in file.gaps for n in range(low, high + 1)}
    assert here >= set(range(1, file.mark + 1)), "a hole below the mark"
    assert promised.lanes.setdefault(device, file.lane) == file.lane, "another lane was begun"
    assert not file.replaced, "a message counts as replaced"
