"""A room's own state, and how far it has caught up."""

from __future__ import annotations

from pathlib import Path

import pytest

import collab
from collab.protocol import frames
from collab.protocol.codec import Reassembly, decode_from_relay, encode, parts
from collab.protocol.messages import LoggedMessage, pack_messages
from collab.testing import proxy
from tests.e2e.authors import Author
from tests.e2e.support import (
    QUICK,
    ScriptedRelay,
    entered,
    joined,
    reads,
    run,
    running,
    soon,
    until,
)

BIG = 10_000_000


def watch(room: collab.Room) -> list[tuple[collab.RoomState, collab.Progress | None]]:
    """What the room's status says, at each of its events."""
    seen = [(room.status.state, room.status.progress)]
    room.observe(lambda _: seen.append((room.status.state, room.status.progress)))
    return seen


def test_a_rooms_state_follows_it_from_the_disk_to_live_and_back() -> None:
    async def main() -> None:
        async with (
            ScriptedRelay() as relay,
            collab.open(":memory:", relay=relay.url, settings=QUICK) as client,
        ):
            room = await client.room("notes")
            assert (room.status.state, room.status.progress) == (collab.RoomState.OFFLINE, None)
            visit = await relay.welcomed()
            visit.chats = True
            request = await visit.expect(frames.Join)
            assert room.status.state is collab.RoomState.JOINING
            await visit.send(joined(request, head=5))
            await until(lambda: room.status.state is collab.RoomState.SYNCING)
            assert room.status.progress == collab.Progress(0, 2000)
            enter = await visit.expect(frames.Enter)
            await visit.expect(frames.Offer)
            await visit.send(frames.Difference(7, 5, b"\0\0"))
            await until(lambda: room.status.progress == collab.Progress(1000, 2000))
            assert str(room.status.state) == "syncing"  # its messages are not here
            assert client.connection is not None
            assert str(client.connection.state) == "syncing"
            await visit.send(entered(enter))
            await until(lambda: room.status.state is collab.RoomState.LIVE)
            await until(lambda: client.connection.state is collab.State.LIVE)  # type: ignore[union-attr]
            await visit.send(frames.Ack(7, 1, 5))
            await until(lambda: room.status.progress == collab.Progress(2000, 2000))
            await visit.socket.close()
            await until(lambda: room.status.state is collab.RoomState.OFFLINE)
            assert room.status.progress is None
            request = await (await relay.welcomed()).expect(frames.Join)

    run(main())


def test_a_room_that_is_denied_or_damaged_says_so_and_others_are_live(tmp_path: Path) -> None:
    async def main() -> None:
        async with (
            ScriptedRelay() as relay,
            collab.open(":memory:", relay=relay.url, settings=QUICK) as client,
        ):
            visit = await relay.welcomed()
            denied = await client.room("denied")
            request = await visit.expect(frames.Join)
            await visit.send(frames.Denied(request.request, "forbidden", "no such room"))
            await until(lambda: denied.status.state is collab.RoomState.DENIED)
            damaged = await client.room("damaged")
            await visit.send(joined(await visit.expect(frames.Join), channel=2))
            await visit.send(frames.Difference(2, 1, b"\xff"))
            await until(lambda: damaged.status.state is collab.RoomState.STOPPED)
            well = await client.room("well")
            await visit.send(joined(await visit.expect(frames.Join), channel=3))
            await visit.send(frames.Difference(3, 0, b"\0\0"))
            await visit.expect(frames.Offer)  # and, before it, ENTER
            await until(lambda: well.status.state is collab.RoomState.LIVE)
            assert client.connection is not None
            assert client.connection.state is collab.State.LIVE

    run(main())


async def check_huge(huge: collab.Room, small: collab.Room) -> set[int]:
    """The huge one is on its way, and the small one does not wait for it; the totals seen."""
    seen = watch(huge)
    await small.wait_synced(20)
    assert small.status.state is collab.RoomState.LIVE
    assert not huge.status.synced
    await huge.wait_synced(20)
    done = [progress.done for _, progress in seen if progress is not None]
    assert done == sorted(done)
    assert len(set(done)) > 3, done
    return {progress.total for _, progress in seen if progress is not None}


def test_a_huge_room_comes_with_progress_that_only_rises_while_a_small_one_is_live(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        async with (
            running(tmp_path) as (url, _),
            proxy(url) as wire,
            collab.open(":memory:", relay=url, settings=QUICK) as writer,
        ):
            there = await writer.room("huge")
            there.text("body").insert(0, "x" * BIG)
            await there.wait_synced(20)
            wire.bytes_per_s = 10_000_000.0
            async with collab.open(":memory:", relay=wire.url, settings=QUICK) as client:
                huge, small = await client.room("huge"), await client.room("small")
                assert await check_huge(huge, small) == {2000}
                assert huge.status.progress == collab.Progress(2000, 2000)

    run(main())


def test_what_waited_goes_up_with_progress_by_what_is_acked() -> None:
    async def main() -> None:
        async with (
            ScriptedRelay() as relay,
            collab.open(":memory:", relay=relay.url, settings=QUICK) as client,
        ):
            visit = await relay.welcomed()
            room = await client.room("notes")
            await visit.send(joined(await visit.expect(frames.Join)))
            await visit.send(frames.Difference(7, 1, b"\0\0"))
            await visit.send(frames.Ack(7, (await visit.expect(frames.Offer)).number, 1))
            await soon(room.wait_synced())
            await visit.socket.close()
            await client.suspend()
            for number in range(4):
                room.text("body").append(str(number))
                await room.wait_saved()
            client.resume()
            visit = await relay.welcomed()
            await visit.send(joined(await visit.expect(frames.Join), good=True, head=1))
            for number in range(1, 5):
                assert (await visit.expect(frames.Update)).number == number
                await visit.send(frames.Ack(7, number, 1 + number))
                expected = collab.Progress(2000 + 250 * number, 3000)
                await until(lambda expected=expected: room.status.progress == expected)  # type: ignore[misc]
            assert room.status.synced

    run(main())


def messages(first: int, last: int) -> bytes:
    """The log of somebody else's messages with these numbers."""
    return pack_messages(
        LoggedMessage(seq, seq.to_bytes(16, "big"), "ana", f"number {seq}", b"", 1, 2, 0, 0)
        for seq in range(first, last + 1)
    )


def test_missed_messages_come_with_progress_and_the_room_is_live_when_they_are_here() -> None:
    async def main() -> None:
        async with (
            ScriptedRelay() as relay,
            collab.open(":memory:", relay=relay.url, settings=QUICK) as client,
        ):
            room = await client.room("notes")
            visit = await relay.welcomed()
            visit.chats = True
            await visit.send(joined(await visit.expect(frames.Join)))
            await visit.send(frames.Difference(7, 0, b"\0\0"))
            await visit.send(entered(await visit.expect(frames.Enter), head=4))
            await visit.send(frames.Ack(7, (await visit.expect(frames.Offer)).number, 0))
            for upto in range(1, 5):
                await until(
                    lambda upto=upto: (
                        room.status.progress  # type: ignore[misc]
                        == collab.Progress(1000 + 250 * (upto - 1), 2000)
                    )
                )
                assert room.status.state is collab.RoomState.SYNCING
                assert client.connection is not None
                assert client.connection.state is collab.State.SYNCING
                await visit.send(frames.Messages(7, upto - 1, upto, messages(upto, upto)))
            await until(lambda: room.status.state is collab.RoomState.LIVE)
            await until(lambda: client.connection.state is collab.State.LIVE)  # type: ignore[union-attr]
            assert room.status.progress == collab.Progress(2000, 2000)

    run(main())


def test_messages_that_waited_go_up_with_progress_by_what_is_decided() -> None:
    async def main() -> None:
        async with (
            ScriptedRelay() as relay,
            collab.open(":memory:", relay=relay.url, settings=QUICK) as client,
        ):
            room = await client.room("notes")
            await relay.welcomed()
            await client.suspend()
            for number in range(4):
                await room.chat.send(str(number))
            assert room.status.pending_messages == 4
            client.resume()
            visit = await relay.welcomed()
            visit.chats = True
            await visit.send(joined(await visit.expect(frames.Join)))
            await visit.send(frames.Difference(7, 0, b"\0\0"))
            enter, offer = await visit.expect(frames.Enter), await visit.expect(frames.Offer)
            await visit.send(frames.Ack(7, offer.number, 0), entered(enter))
            await until(lambda: room.status.progress == collab.Progress(2000, 3000))
            for seq in range(1, 5):
                sent = await visit.expect(frames.Send)
                assert sent.body == str(seq - 1)
                await visit.send(
                    frames.Outcome(7, sent.lane_seq, sent.message_id, "accepted", seq, 0, "")
                )
                expected = collab.Progress(2000 + 250 * seq, 3000)
                await until(lambda expected=expected: room.status.progress == expected)  # type: ignore[misc]
            assert room.status.pending_messages == 0

    run(main())


def test_what_is_written_later_takes_nothing_back() -> None:
    async def main() -> None:
        async with (
            ScriptedRelay() as relay,
            collab.open(":memory:", relay=relay.url, settings=QUICK) as client,
        ):
            visit = await relay.welcomed()
            room = await client.room("notes")
            await visit.send(joined(await visit.expect(frames.Join)))
            await visit.send(frames.Difference(7, 1, b"\0\0"))
            offer = await visit.expect(frames.Offer)
            await visit.send(frames.Ack(7, offer.number, 1))
            await soon(room.wait_synced())
            room.text("body").insert(0, "x")
            await room.wait_saved()
            assert not room.status.synced
            assert room.status.progress == collab.Progress(2000, 2000)
            await visit.send(frames.Updates(7, 2, Author(3).insert(0, "theirs")))
            await until(lambda: "theirs" in str(room.text("body")))
            await reads(room, str(room.text("body")))

    run(main())


def test_what_arrives_in_parts_is_known_by_its_first_bytes() -> None:
    for frame, expected in [
        (frames.Difference(300, 2**40, bytes(300_000)), 300),
        (frames.Updates(7, 1, bytes(300_000)), 7),
        (frames.Joined(1, 9, b"e" * 16, True, 1, bytes(300_000), 2), None),
    ]:
        reassembly, pieces = Reassembly(decode_from_relay), list(parts(encode(frame), 5))
        assert reassembly.arriving(5) is None
        so_far = 0
        for piece in pieces[:-1]:
            part = decode_from_relay(piece)
            assert isinstance(part, frames.Part)
            assert reassembly.add(part) is None
            so_far += len(part.data)
            known = reassembly.arriving(5)
            assert known == (None if expected is None else (expected, so_far, part.total))
        last = decode_from_relay(pieces[-1])
        assert isinstance(last, frames.Part)
        assert reassembly.add(last) == frame
        assert reassembly.arriving(5) is None


@pytest.mark.parametrize("start", [b"\x94", b"\x94\xc0\xc0", b"\xff" * 20, b"\x94\x0b\xa1x"])
def test_a_beginning_that_makes_no_sense_is_not_known(start: bytes) -> None:
    reassembly = Reassembly(decode_from_relay)
    reassembly.add(frames.Part(1, 300_000, start))
    assert reassembly.arriving(1) is None
