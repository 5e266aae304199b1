"""Updates that come before what they build on: nobody shows, logs or acks them."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

import collab
from collab.protocol import frames
from collab.protocol.update import Coverage, Fit, walk
from tests.e2e.authors import Author, text_of
from tests.e2e.support import (
    QUICK,
    ScriptedRelay,
    Speaker,
    join,
    joined,
    reads,
    rows,
    run,
    running,
    scripted_client,
    soon,
)

CHANNEL, BARRIER = 7, 8
HEAD_START = 12  # of the first author's updates, before the second begins


def histories(seed: int) -> tuple[list[bytes], list[bytes], bytes]:
    """Two authors' updates, the second's made after ``HEAD_START`` of the first's; and all."""
    dice = random.Random(seed)
    one, two = Author(101), Author(202)
    first = one.scribble(dice, HEAD_START)
    two.take(first)
    second = two.scribble(dice, 10)
    first += one.scribble(dice, 10)
    two.take(first)
    return first, second, two.all()


def closed_prefixes(first: list[bytes], second: list[bytes]) -> set[str]:
    """Every text that may be seen: so many of one author's updates, so many of the other's.

    The second author's need of the first's only what they name: neighbours, and what they delete.
    """
    needed = [0]  # by so many of the second's: how many of the first's, each of one clock or more
    ends = [walk(update).ranges[-1][2] for update in first]
    for update in second:
        walked = walk(update)
        named = [end for client, at, size in walked.deletes if client == 101 for end in [at + size]]
        clock = max([walked.needs.get(101, 0), *named])
        needed.append(max(needed[-1], sum(end < clock for end in ends) + 1 if clock else 0))
    return {
        text_of(*first[:a], *second[:b])
        for a in range(len(first) + 1)
        for b in range(len(second) + 1)
        if a >= needed[b]
    }


async def barrier(visit: Speaker, room: collab.Room, author: Author) -> None:
    """Return when the client has taken in everything that was sent to it before."""
    update = author.insert(0, ".")
    await visit.send(frames.Updates(BARRIER, len(author.updates), update))
    await reads(room, str(author.text))


@pytest.mark.parametrize("seed", range(6))
def test_a_client_never_shows_a_text_that_nobody_wrote_and_ends_whole(seed: int) -> None:
    print(f"seed {seed}")
    first, second, everything = histories(seed)
    allowed = closed_prefixes(first, second)
    dice = random.Random(seed)
    sent = [*first, *second]
    while True:
        dice.shuffle(sent)
        # Shuffled within a window, so that some fit and some do not.
        sent.sort(key=lambda update: [*first, *second].index(update) + dice.uniform(0, 6))
        if sent[0] is not first[0]:
            break

    async def main() -> None:
        async with (
            ScriptedRelay() as relay,
            collab.open(":memory:", relay=relay.url, settings=QUICK) as client,
        ):
            visit = await relay.welcomed()
            await open_with(visit, await client.room("barrier"), channel=BARRIER)
            room = await client.room("notes")
            await open_with(visit, room, channel=CHANNEL)
            seen = [""]
            room.text("body").observe(lambda event: seen.append(event.apply_to(seen[-1])))
            dots, dotter = await client.room("barrier"), Author(303)
            for number, update in enumerate(sent):
                await visit.send(frames.Updates(CHANNEL, number + 1, update))
                await barrier(visit, dots, dotter)
                assert str(room.text("body")) in allowed, f"seed {seed}, update {number}"
                assert not room.status.synced or number < sent.index(second[-1])
            again = await visit.expect(frames.Join)
            assert (again.room, again.generation) == ("notes", bytes(16))
            assert not [frame for frame in visit.passed if isinstance(frame, frames.Join)]
            await visit.send(
                joined(again, channel=CHANNEL, head=len(sent)),
                frames.Difference(CHANNEL, len(sent), everything),
            )
            offer = await visit.expect(frames.Offer)
            await visit.send(frames.Ack(CHANNEL, offer.number, len(sent)))
            await soon(room.wait_synced())
            assert str(room.text("body")) == text_of(everything)
            assert set(seen) <= allowed, f"seed {seed}"
            assert seen[-1] == text_of(everything)

    run(main())


async def open_with(visit: Speaker, room: collab.Room, *, channel: int) -> None:
    """Answer the room's JOIN as a relay whose room is empty does."""
    await visit.send(joined(await visit.expect(frames.Join), channel=channel))
    await visit.send(frames.Difference(channel, 0, b"\0\0"))
    offer = await visit.expect(frames.Offer)
    await visit.send(frames.Ack(channel, offer.number, 0))
    await soon(room.wait_synced())


def test_the_relay_neither_logs_nor_acks_what_comes_early_and_asks_for_the_rest(
    tmp_path: Path,
) -> None:
    author = Author(101)
    one, two, three, four = (author.insert(at, text) for at, text in enumerate("cadb"))
    before_two = Author(102)
    before_two.take([one])

    async def main() -> None:
        async with running(tmp_path) as (url, _):
            async with scripted_client(url) as writer:
                await writer.send(join("notes"))
                opened = await writer.expect(frames.Joined)
                channel = opened.channel
                await writer.expect(frames.Difference)
                await writer.send(frames.Offer(channel, 1, one))
                assert (await writer.expect(frames.Ack)).number == 1
                # The second is missing; the relay asks once, and drops what was on its way.
                await writer.send(
                    frames.Update(channel, 2, three),
                    frames.Update(channel, 3, four),
                    frames.Update(channel, 4, two),
                    frames.Ping(1),
                )
                await writer.expect(frames.Pong)
                asked = [frame for frame in writer.passed if isinstance(frame, frames.Resync)]
                if not asked:
                    asked = [await writer.expect(frames.Resync)]
                assert len(asked) == 1
                assert asked[0].state_vector == before_two.document.get_state()
                assert not [frame for frame in writer.passed if isinstance(frame, frames.Ack)]
                assert len(rows(tmp_path)) == 1
                offer = author.since(asked[0].state_vector)
                await writer.send(frames.Offer(channel, 5, offer))
                assert (await writer.expect(frames.Ack)).number == 5
                five = author.insert(4, "!")
                await writer.send(frames.Update(channel, 6, five))
                assert (await writer.expect(frames.Ack)).number == 6
            async with collab.open(":memory:", relay=url, settings=QUICK) as client:
                await reads(await client.room("notes"), str(author.text))
            log = Coverage()
            for _, data in rows(tmp_path):
                walked = walk(data)
                assert log.fit(walked) is Fit.NEW  # no gap, no overlap
                log.add(walked)
            assert log.state_vector() == author.document.get_state()

    run(main())


def test_a_client_answers_a_resync_with_the_difference_and_goes_on() -> None:
    async def main() -> None:
        async with (
            ScriptedRelay() as relay,
            collab.open(":memory:", relay=relay.url, settings=QUICK) as client,
        ):
            visit = await relay.welcomed()
            room = await client.room("notes")
            await open_with(visit, room, channel=CHANNEL)
            text = room.text("body")
            kept: list[bytes] = []
            for number in range(4):
                text.insert(number, str(number))
                update = await visit.expect(frames.Update)
                kept.append(update.update)
            # A relay that has lost all but the first asks for the rest.
            has = Author(1)
            has.take(kept[:1])
            await visit.send(frames.Resync(CHANNEL, has.document.get_state()))
            text.insert(4, "4")
            offer = await visit.expect(frames.Offer)
            has.take([offer.update])
            while str(has.text) != "01234":
                has.take([(await visit.expect(frames.Update)).update])
            assert not room.status.synced
            assert room.status.pending_updates == 5
            await visit.send(frames.Ack(CHANNEL, offer.number + 1, 9))
            await soon(room.wait_synced())

    run(main())
