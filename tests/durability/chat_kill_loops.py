"""Kills clients, and relays, while four lanes send; looks each time at the disks. Not a test.

The claims are those of ``chat_views``; in the end, besides: everything that was sent is decided and
in the log, and both devices and one that is new read all of it, alike.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

import collab
from collab_server.settings import Settings
from tests.durability.chat_views import LogView, Promises, check, in_order, lane_of, read_file
from tests.durability.killing import ANYWHERE, PATIENCE_S, Tally, copied, job
from tests.durability.mortal_programs import DEVICES, chats_of, talk, tell_accepted
from tests.durability.zygote import Job, Zygote
from tests.e2e.chat_support import bodies, until_true
from tests.e2e.support import QUICK, Wire, running

__all__ = ["kill_chat_clients", "kill_chat_relays"]

_ROOM_KILLS: Final = 5  # two rooms fill up for so many kills, then come the next ones
_FILE_KILLS: Final = 20  # and the devices' files for so many
_EVERYTHING: Final = 100_000
_WAIT_S: Final = 40

Rooms = dict[str, Promises]  # by name


async def kill_chat_clients(
    folder: Path, point: str, kills: int, seed: int, *, broken: str | None = None
) -> Tally:
    """Kill a program that has two devices, each in two rooms, ``kills`` times at a point.

    A claim that does not hold is an ``AssertionError`` or an error of collab. ``broken`` is a name
    in ``broken.BREAK``: then some claim must not hold.
    """
    dice = random.Random(f"{seed}/{point}")
    tally = Tally()
    data = folder / "relay"
    log = Settings(data=data).log_path
    rooms: Rooms = {}
    async with running(data) as (url, _), Zygote() as zygote:
        for kill in range(kills):
            if kill % _FILE_KILLS == 0:
                rooms = {}
            files = folder / f"devices {kill // _FILE_KILLS}"
            files.mkdir(exist_ok=True)
            name = f"room {kill // _ROOM_KILLS}"
            now = {chat: rooms.setdefault(chat, Promises()) for chat in chats_of(name)}
            life = _life("chatter", point, kill, dice, files, url, name, kill)
            zygote.start(replace(life, broken=broken))
            with _saying(f"kill {kill} {point} of seed {seed}"):
                while (words := await zygote.line()) is not None:
                    _take(now, *words)
                tally.kills += 1
                tally.late += life.point is not None and zygote.was_late
                async with _copies(files) as copies:
                    _look(now, copies, log)
                if (kill + 1) % _FILE_KILLS == 0 or kill + 1 == kills:
                    async with _devices(files, url) as devices:
                        await _bring_home(devices, rooms, url, files, log, tally)
    return tally


async def kill_chat_relays(
    folder: Path, point: str, kills: int, seed: int, *, broken: str | None = None
) -> Tally:
    """Kill a relay ``kills`` times at a point, while two devices send in two rooms each.

    As ``kill_chat_clients`` does.
    """
    dice = random.Random(f"{seed}/{point}")
    tally = Tally()
    data = folder / "relay"
    log = Settings(data=data).log_path
    rooms: Rooms = {}
    async with Wire("") as wire, _devices(folder, wire.url) as devices:
        async with Zygote() as zygote:
            for kill in range(kills):
                chats = chats_of(f"room {kill // _ROOM_KILLS}")
                now = {chat: rooms.setdefault(chat, Promises()) for chat in chats}
                life = _life("relay", point, kill, dice, data)
                zygote.start(replace(life, broken=broken))
                words = await zygote.line()
                if words is not None:
                    wire.target = words[1]
                    async with _talking(devices, now, str(kill)):
                        assert await zygote.line() is None
                    wire.target = ""
                tally.kills += 1
                tally.late += life.point is not None and zygote.was_late
                with _saying(f"kill {kill} {point} of seed {seed}"):
                    async with copied(log) as copy:
                        _look(now, folder, copy)
                if (kill + 1) % _ROOM_KILLS == 0:
                    for device in devices.values():
                        for chat in chats:
                            await (await device.room(chat)).close()
        with _saying(f"the end {point} of seed {seed}"):
            async with running(data) as (url, _):
                wire.target = url
                await _bring_home(devices, rooms, url, folder, log, tally)
    return tally


def _life(program: str, point: str, kill: int, dice: random.Random, *arguments: object) -> Job:
    """Of those that die at random a quarter may do so before they have anything to lose."""
    life = job(program, point, kill, dice, *arguments)
    if point != ANYWHERE or kill % 4 == 0:
        return life
    return replace(life, arguments=(*life.arguments, str(life.alive_s)), alive_s=PATIENCE_S)


@contextmanager
def _saying(where: str) -> Iterator[None]:
    """A claim that does not hold says where."""
    try:
        yield
    except AssertionError as error:
        raise AssertionError(f"{where}: {error}") from error


def _take(rooms: Rooms, word: str, what: str, number: str) -> None:
    """A line of the program; the run of a message ends with the number of its room."""
    room = list(rooms)[int(what.split(".")[1][-1])]
    rooms[room].take(word, what, number)


@asynccontextmanager
async def _copies(files: Path) -> AsyncIterator[Path]:
    """A folder with what the devices' files came to."""
    async with AsyncExitStack() as stack:
        copies = [await stack.enter_async_context(copied(files / f"{d}.db")) for d in DEVICES]
        together = copies[0].parent
        for copy in copies[1:]:
            for part in copy.parent.iterdir():
                part.rename(together / part.name)
        yield together


@asynccontextmanager
async def _devices(files: Path, url: str) -> AsyncIterator[dict[str, collab.Client]]:
    async with AsyncExitStack() as stack:
        yield {
            name: await stack.enter_async_context(
                collab.open(files / f"{name}.db", relay=url, settings=QUICK)
            )
            for name in DEVICES
        }


@asynccontextmanager
async def _talking(
    devices: dict[str, collab.Client], rooms: Rooms, kill: str
) -> AsyncIterator[None]:
    """Four lanes send while the block runs."""
    talks: list[asyncio.Task[None]] = []
    try:
        for name, device in devices.items():
            for number, (chat, promised) in enumerate(rooms.items()):
                room = await device.room(chat)
                if not room.chat._chat.view.observers:
                    tell_accepted(room, promised.take)
                run = f"{kill}.{name}{number}.0"
                talks.append(asyncio.create_task(talk(room, run, promised.take)))
        yield
    finally:
        for each in talks:
            each.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*talks)


def _look(rooms: Rooms, files: Path, log: Path) -> None:
    """All claims of ``chat_views``. What the files say is read first: the log may go on."""
    for chat, promised in rooms.items():
        views = {name: read_file(files / f"{name}.db", chat) for name in DEVICES}
        check(promised, views, LogView.read(log, chat))


async def _bring_home(
    devices: dict[str, collab.Client],
    rooms: Rooms,
    url: str,
    files: Path,
    log: Path,
    tally: Tally,
) -> None:
    """In peace everything arrives, and everybody reads it."""
    async with collab.open(":memory:", relay=url, settings=QUICK) as fresh:
        for chat, promised in rooms.items():
            opened = [await device.room(chat) for device in (*devices.values(), fresh)]
            for room in opened:
                await room.wait_synced(_WAIT_S)
            in_log = LogView.read(log, chat).bodies

            async def agree(opened: list[collab.Room] = opened, said: list[str] = in_log) -> bool:
                return all([bodies(await r.chat.history(_EVERYTHING)) == said for r in opened])

            await until_true(agree)
            assert not any(room.status.pending_messages or room.status.gaps for room in opened)
            _look({chat: promised}, files, log)
            in_order(in_log)
            for name in DEVICES:
                view = read_file(files / f"{name}.db", chat)
                mine = [body for body in in_log if lane_of(body) == name]
                assert view is not None
                assert mine == [body for body, _ in view.sent]
            tally.promised += promised.sent.total()
            tally.accepted += len(promised.accepted)
            for room in opened:
                await room.close()
