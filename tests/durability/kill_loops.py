"""Kills a program again and again, and looks after each time at what is on its disk. Not a test.

What was promised must be there, once, and nothing may be claimed that is not:

1. Of the client's file: it opens; each edit that ``wait_saved`` covered is in it once, and each run
   of edits is there from its beginning without a gap.
2. The stored position covers nothing that is not stored: all of the relay's log up to it is.
3. What the relay does not have yet is still owed to it; what ``wait_synced`` covered it has.
4. Of the relay's log: it opens; each edit that it acked is in it once, whoever is connected.
5. In the end all replicas, and one that is new, read the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import pycrdt

import collab
from collab.protocol.position import Position
from collab.protocol.update import Coverage, Fit, decode_state_vector, walk
from collab.storage.documents import Documents
from collab_server.app import Relay
from collab_server.loading import coverage_of
from collab_server.log.port import StoredRoom
from collab_server.log.sqlite import SqliteLog
from collab_server.settings import Settings
from tests.durability.killing import FILE_OPENINGS, OPENING, Tally, copied, job
from tests.durability.mortal_programs import edit_a_little
from tests.durability.zygote import Zygote
from tests.e2e.client_process import tokens
from tests.e2e.support import QUICK, Wire, reads, running, until
from tests.unit.storage.files import documents

__all__ = ["kill_clients", "kill_relays"]

_ROOM_KILLS: Final = 5  # a room grows for so many kills, then comes the next one
_FILE_KILLS: Final = 20  # and a client's file for so many
_EDIT_EVERY_S: Final = 0.01  # of who edits beside it
_NEVER_COMPACT: Final = 1 << 40
_STORED: Final = """
    SELECT data FROM (
        SELECT 0 AS id, data FROM snapshots WHERE room_id = ?
        UNION ALL
        SELECT id, data FROM updates
        WHERE room_id = ? AND id > coalesce(
            (SELECT through_row FROM snapshots WHERE room_id = updates.room_id), 0)
    ) ORDER BY id
"""


@dataclass
class _Promises:
    """How much of each run of edits was promised, in one room."""

    saved: Counter[str] = field(default_factory=Counter)
    synced: Counter[str] = field(default_factory=Counter)

    def take(self, word: str, run: str, count: str | int) -> None:
        """``saved RUN N`` or ``synced RUN N``: the first N edits of this run."""
        kept = {"saved": self.saved, "synced": self.synced}[word]
        kept[run] = max(kept[run], int(count))


def _names(runs: Counter[str]) -> set[str]:
    return {f"{run}-{number}" for run, count in runs.items() for number in range(count)}


def _read(updates: Iterable[bytes]) -> set[str]:
    """The edits in what the updates come to: each once, each run without a gap."""
    document: pycrdt.Doc[Any] = pycrdt.Doc()
    for update in updates:
        document.apply_update(update)
    found = tokens(str(document.get("body", type=pycrdt.Text)))
    assert len(found) == len(set(found)), "an edit is there twice"
    ends: Counter[str] = Counter()
    for token in found:
        run, _, number = token.rpartition("-")
        ends[run] = max(ends[run], int(number) + 1)
    assert set(found) == _names(ends), "an edit is missing, and a later one is there"
    return set(found)


def _coverage(updates: Iterable[bytes]) -> Coverage:
    coverage = Coverage()
    for update in updates:
        coverage.add(walk(update))
    return coverage


@asynccontextmanager
async def _beside(room: collab.Room, run: str, promised: _Promises) -> AsyncIterator[None]:
    """Edit a room while the block runs, and keep what the relay has acked of it."""
    dice = random.Random(run)

    async def edit() -> None:
        number = 0
        while True:
            number = edit_a_little(dice, room.text("body"), run, number)
            if dice.random() < 0.5:
                await room.wait_synced(None)
                promised.take("synced", run, number)
            await asyncio.sleep(_EDIT_EVERY_S)

    editing = asyncio.create_task(edit())
    try:
        yield
    finally:
        editing.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await editing


def _log_rows(data: Path, name: str, through: int = 1 << 62) -> list[bytes]:
    """The committed updates of a room, of a log that was never compacted."""
    address = f"file:{Settings(data=data).log_path}?mode=ro"
    with contextlib.closing(sqlite3.connect(address, uri=True)) as log:
        rows = log.execute(
            'SELECT data FROM updates WHERE room_id = (SELECT id FROM rooms WHERE name = ?) '
            'AND "offset" <= ? ORDER BY "offset"', (name, through),
        ).fetchall()  # fmt: skip
    return [data for (data,) in rows]


# Clients


async def kill_clients(
    folder: Path, point: str, kills: int, seed: int, *, broken: str | None = None
) -> Tally:
    """Kill a client ``kills`` times at a point, while somebody else edits the same room.

    A claim that does not hold is an ``AssertionError`` or an error of collab. ``broken`` is a name
    in ``broken.BREAK``: then some claim must not hold.
    """
    dice = random.Random(f"{seed}/{point}")
    tally = Tally()
    data = folder / "relay"
    file_kills = FILE_OPENINGS if point == OPENING else _FILE_KILLS
    async with (
        running(data, compact_from_bytes=_NEVER_COMPACT) as (url, relay),
        collab.open(":memory:", relay=url, settings=QUICK) as peer,
        Zygote() as zygote,
    ):
        promises: dict[str, _Promises] = {}
        for kill in range(kills):
            if kill % file_kills == 0:
                promises = {}
            path = folder / f"client {kill // file_kills}.db"
            name = f"room {kill // min(_ROOM_KILLS, file_kills)}"
            promised = promises.setdefault(name, _Promises())
            room = await peer.room(name)
            life = job("client", point, kill, dice, path, url, name, f"c{kill}")
            async with _beside(room, f"p{kill}", promised):
                zygote.start(replace(life, broken=broken))
                while (words := await zygote.line()) is not None:
                    promised.take(*words)
            tally.kills += 1
            tally.late += life.point is not None and zygote.was_late
            where = f"kill {kill} {point} of seed {seed}"
            async with copied(path) as copy:
                await _look_at_file(copy, data, relay, promises, where)
            if (kill + 1) % file_kills == 0 or kill + 1 == kills:
                await _bring_home(path, url, promises, peer, where)
                tally.promised += sum(len(_names(one.saved)) for one in promises.values())
    return tally


async def _look_at_file(
    copy: Path, data: Path, relay: Relay, promises: dict[str, _Promises], where: str
) -> None:
    """Claims 1 to 3."""
    if not copy.exists():
        assert not any(one.saved for one in promises.values()), where
        return
    assert relay._shared is not None
    log = relay._shared.log
    await until(lambda: log.committed == log.head)
    async with documents(copy) as (_, store):
        rooms = {row.name: row for row in await store.rooms()}
        for name, promised in promises.items():
            at = f"{where}, {name}"
            if name not in rooms:
                assert not promised.saved, at
                continue
            updates, owed = await _stored(store, rooms[name].id)
            found = _read(updates)
            assert _names(promised.saved) <= found, at
            position = rooms[name].position
            if position is not None and position.offset:
                assert position.generation == log.generation, at
                covers = _coverage(updates)
                for row in _log_rows(data, name, position.offset):
                    assert covers.fit(walk(row)) is Fit.NOTHING, f"{at}: beyond what is stored"
            at_relay = _log_rows(data, name)
            assert _names(promised.synced) <= _read(at_relay), at
            assert found <= _read([*at_relay, *owed]), f"{at}: neither at the relay nor owed"


async def _stored(store: Documents, room_id: int) -> tuple[list[bytes], list[bytes]]:
    """All updates of a room, and those that are not acked."""
    stored = await store.load(room_id)
    snapshot = [stored.snapshot] if stored.snapshot is not None else []
    return [*snapshot, *stored.updates], [data for _, data in stored.unacked]


async def _bring_home(
    path: Path, url: str, promises: dict[str, _Promises], peer: collab.Client, where: str
) -> None:
    """Claim 5: the file is opened once more, in peace."""
    async with (
        collab.open(path, relay=url, settings=QUICK) as device,
        collab.open(":memory:", relay=url, settings=QUICK) as fresh,
    ):
        for name, promised in promises.items():
            mine, theirs = await device.room(name), await peer.room(name)
            await mine.wait_synced(20)
            await theirs.wait_synced(20)
            await reads(theirs, str(mine.text("body")))
            await reads(await fresh.room(name), str(mine.text("body")))
            found = tokens(str(mine.text("body")))
            assert len(found) == len(set(found)), where
            assert _names(promised.saved) | _names(promised.synced) <= set(found), where


# Relays


async def kill_relays(
    folder: Path, point: str, kills: int, seed: int, *, broken: str | None = None
) -> Tally:
    """Kill a relay ``kills`` times at a point, while a client edits and another one reads.

    As ``kill_clients`` does.
    """
    dice = random.Random(f"{seed}/{point}")
    tally = Tally()
    data = folder / "relay"
    file = folder / "writer.db"
    promises: dict[str, _Promises] = {}
    async with (
        Wire("") as wire,
        collab.open(file, relay=wire.url, settings=QUICK) as writer,
        collab.open(":memory:", relay=wire.url, settings=QUICK) as reader,
    ):
        async with Zygote() as zygote:
            for kill in range(kills):
                name = f"room {kill // _ROOM_KILLS}"
                promised = promises.setdefault(name, _Promises())
                room = await writer.room(name)
                await reader.room(name)
                where = f"kill {kill} {point} of seed {seed}"
                life = job("relay", point, kill, dice, data)
                zygote.start(replace(life, broken=broken))
                words = await zygote.line()
                if words is not None:
                    wire.target = words[1]
                    async with _beside(room, f"w{kill}", promised):
                        assert await zygote.line() is None
                    wire.target = ""
                tally.kills += 1
                tally.late += life.point is not None and zygote.was_late
                # Rooms that nobody edits any more are looked at once more in the end.
                recent = dict(list(promises.items())[-2:])
                async with copied(Settings(data=data).log_path) as copy:
                    await _look_at_log(copy, file, recent, where)
        async with (
            running(data) as (url, _),
            collab.open(":memory:", relay=url, settings=QUICK) as fresh,
        ):
            wire.target = url
            for name, promised in promises.items():
                mine = await writer.room(name)
                await mine.wait_synced(20)
                await reads(await reader.room(name), str(mine.text("body")))
                await reads(await fresh.room(name), str(mine.text("body")))
                found = tokens(str(mine.text("body")))
                assert len(found) == len(set(found)), where
                assert _names(promised.synced) <= set(found), where
                tally.promised += len(_names(promised.synced))
    return tally


async def _look_at_log(copy: Path, file: Path, promises: dict[str, _Promises], where: str) -> None:
    """Claim 4, and claim 2 of the writer, who lives."""
    if not copy.exists():
        assert not any(one.synced for one in promises.values()), where
        return
    log = await SqliteLog.open(copy, generation=bytes(16), relay_id=bytes(16), now_ms=0)
    try:
        for name, promised in promises.items():
            row = await log.find_room(name)
            if row is None:
                assert not promised.synced, f"{where}, {name}"
                continue
            stored = await log.load(row.id)
            acked = _read(_updates_of(stored))
            assert _names(promised.synced) <= acked, f"{where}, {name}"
            _look_at_position(log, stored, *_position_of(file, name), f"{where}, {name}")
    finally:
        await log.close()


def _updates_of(stored: StoredRoom) -> list[bytes]:
    """All of a room in the log; what is told of it agrees with what an engine makes of it."""
    snapshot = [stored.snapshot] if stored.snapshot is not None else []
    updates = [*snapshot, *(data for _, data in stored.updates)]
    document: pycrdt.Doc[Any] = pycrdt.Doc()
    for update in updates:
        document.apply_update(update)
    assert decode_state_vector(document.get_state()) == coverage_of(stored).clocks
    return updates


def _position_of(file: Path, name: str) -> tuple[Position | None, list[bytes]]:
    """The position and the updates of a room in the file of a client that runs."""
    with contextlib.closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as store:
        store.execute("BEGIN")
        found = store.execute(
            'SELECT id, generation, "offset" FROM rooms WHERE name = ?', (name,)
        ).fetchone()
        if found is None or found[1] is None:
            return None, []
        room = found[:1]
        updates = store.execute(_STORED, room * 2).fetchall()
    return Position(*found[1:]), [data for (data,) in updates]


def _look_at_position(
    log: SqliteLog, stored: StoredRoom, position: Position | None, updates: list[bytes], where: str
) -> None:
    """If the log takes a position for good, what it covers is stored."""
    if position is None or not log.is_good(position.generation, position.offset):
        return
    covers = _coverage(updates)
    snapshot = stored.snapshot if stored.snapshot_offset <= position.offset else None
    covered = [data for offset, data in stored.updates if offset <= position.offset]
    for data in [*([snapshot] if snapshot is not None else []), *covered]:
        assert covers.fit(walk(data)) is Fit.NOTHING, f"{where}: beyond what is stored"
