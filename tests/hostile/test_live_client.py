"""What the guard lets pass does not kill a client, stop its other rooms, or make it unreadable."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any, Final

from collab.errors import BadUpdate
from collab.protocol import frames
from collab.protocol.document_sync import Apply
from collab.protocol.update import (
    Coverage,
    Fit,
    cut,
    decode_awareness,
    decode_state_vector,
    walk,
)
from collab.protocol.walk import structs_of
from tests.e2e.authors import Author
from tests.e2e.support import Child, ScriptedRelay, Speaker, joined, run
from tests.hostile.generator import Adversary, awareness, state_vector
from tests.unit.protocol.test_document_sync import A0, opened
from tests.unit.protocol.updates import text, update

SEED: Final = "client 1"
ROOMS: Final = 8
UPDATES: Final = 60  # a room and turn
TURNS: Final = 5
PRESENCES: Final = 20  # a room and turn
READ_S: Final = 2.0
WELL: Final = 100


def passing(seed: str, count: int) -> list[bytes]:
    """Hostile updates that the guard lets pass, in order and cut; some add nothing."""
    adversary = Adversary(random.Random(seed))
    coverage, updates = Coverage(), list[bytes]()
    while len(updates) < count:
        data = adversary.send(coverage.clocks)
        try:
            walked = walk(data)
            fit = coverage.fit(walked)
            if fit is Fit.EARLY:
                continue
            if fit is Fit.OVERLAPS:
                data = cut(data, walked, coverage)
            coverage.add(walked)
        except BadUpdate:
            continue
        updates.append(data)
    return updates


async def _open(visit: Speaker, channels: dict[str, int]) -> None:
    """Answer the joins as a relay whose rooms are empty does."""
    waiting = set(channels)
    while waiting:
        request = await visit.expect(frames.Join)
        channel = channels[request.room]
        waiting.discard(request.room)
        await visit.send(joined(request, channel=channel), frames.Difference(channel, 0, b"\0\0"))


def test_a_client_survives_and_reads_all_that_the_guard_lets_pass() -> None:
    async def main() -> None:
        print(f"seed {SEED!r}")
        logs = [passing(f"{SEED}/{room}", UPDATES * TURNS) for room in range(ROOMS)]
        names = [f"sick {room}" for room in range(ROOMS)]
        channels = {name: number for number, name in enumerate(names, 1)} | {"well": WELL}
        author = Author(3)
        async with (
            ScriptedRelay() as relay,
            Child("tests.hostile.target", relay.url, *names) as child,
        ):
            visit = await relay.welcomed()
            await _open(visit, channels)
            told: dict[str, Any] = {"well": ""}
            for turn in range(TURNS):
                for room, log in enumerate(logs):
                    for at in range(turn * UPDATES, (turn + 1) * UPDATES):
                        await visit.send(frames.Updates(room + 1, at + 1, log[at]))
                await visit.send(frames.Updates(WELL, turn + 1, author.insert(0, "x")))
                while len(told["well"]) <= turn:
                    told = json.loads(await child.line())
                assert told["errors"] == []
                assert float(told["took_s"]) < READ_S
            assert relay.attempts == 1

    run(main())


def let_pass(
    make: Callable[[random.Random], bytes], check: Callable[[bytes], object], seed: str, count: int
) -> list[bytes]:
    """What ``make`` gives and ``check`` does not refuse."""
    rng, passed = random.Random(seed), list[bytes]()
    while len(passed) < count:
        data = make(rng)
        try:
            check(data)
        except BadUpdate:
            continue
        passed.append(data)
    return passed


def test_a_client_survives_all_presence_and_state_vectors_that_the_guard_lets_pass() -> None:
    """What is lacking by a state vector is offered; five such a room, more would be refused."""

    async def main() -> None:
        print(f"seed {SEED!r}")
        people = let_pass(awareness, decode_awareness, SEED, ROOMS * TURNS * PRESENCES)
        vectors = let_pass(state_vector, decode_state_vector, SEED, ROOMS * TURNS)
        names = [f"sick {room}" for room in range(ROOMS)]
        channels = {name: number for number, name in enumerate(names, 1)} | {"well": WELL}
        author, first = Author(3), Author(4).insert(0, "to be offered")
        async with (
            ScriptedRelay() as relay,
            Child("tests.hostile.target", relay.url, *names) as child,
        ):
            visit = await relay.welcomed()
            await _open(visit, channels)
            told: dict[str, Any] = {"well": ""}
            for turn in range(TURNS):
                for channel in range(1, ROOMS + 1):
                    await visit.send(frames.Updates(channel, 1, first))
                    for _ in range(PRESENCES):
                        await visit.send(frames.Awareness(channel, people.pop()))
                    await visit.send(frames.Resync(channel, vectors.pop()))
                await visit.send(frames.Updates(WELL, turn + 1, author.insert(0, "x")))
                while len(told["well"]) <= turn:
                    told = json.loads(await child.line())
                assert told["errors"] == []
                assert float(told["took_s"]) < READ_S
                for _ in range(ROOMS):
                    await visit.expect(frames.Offer)
            assert relay.attempts == 1

    run(main())


def test_a_device_cuts_off_what_it_knows_before_its_engine_sees_an_update() -> None:
    """The tail of an item that is known in part stands after its head, whatever the update says.

    The guard judges it there. yrs goes by what the update says, and a tail in another list than
    its head ends the process when the list is freed. Relays cut; a hostile one need not.
    """
    sync = opened(A0)
    lie = update((1, 0, [text("ab", parent="elsewhere")]))
    [effect] = sync.updates(9, lie, walk(lie))
    assert isinstance(effect, Apply)
    [tail] = structs_of(effect.update)
    assert (tail.clock, tail.left_clock) == (1, 0)
