"""Clients that do not keep the rules, disks that take nothing, relays that are killed."""

from __future__ import annotations

import asyncio
import resource
from pathlib import Path

import pytest

from collab import limits
from collab.protocol import frames
from collab.protocol.codec import encode
from collab.protocol.messages import unpack_messages
from tests.e2e.chat_member import LANE, NOWHERE, Member, connected, entered, id_of, joined
from tests.e2e.support import Wire, relay_process, rooms_at, run, running, until

ANA, BEN = b"a" * 16, b"b" * 16


@pytest.mark.parametrize("what", ["messages", "skips", "fetches", "gaps"])
def test_a_hundred_thousand_frames_of_somebody_who_never_reads_stay_bounded(
    tmp_path: Path, what: str
) -> None:
    async def flood(ana: Member) -> None:
        for number in range(1, 100_001):
            frame: frames.Frame
            match what:
                case "messages":
                    frame = ana.message(number)
                case "skips":
                    frame = frames.Skip(ana.channel, number, id_of(number))
                case "fetches":
                    frame = frames.Fetch(ana.channel, number, 0, 10**6, False)
                case _:
                    frame = frames.Skip(ana.channel, 1 + (number % 2) * 10**6, id_of(number))
            await ana.speaker.socket.send(encode(frame))

    async def main() -> None:
        async with (
            running(tmp_path) as (url, relay),
            Wire(url) as wire,
            entered(wire.url, device=ANA) as ana,
            entered(url, device=BEN) as ben,
        ):
            assert relay._shared is not None
            room = relay.room("talk")
            await asyncio.gather(*(room.send("x" * 5_000, sender="bot") for _ in range(100)))
            wire.down_limit = wire.down
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            chats = [rooms._chat for rooms in rooms_at(relay)]
            flooding = asyncio.create_task(flood(ana))
            waiting, before_that = -1, -2
            while waiting != before_that:
                await asyncio.sleep(0.4)
                waiting, before_that = sum(chat._answers + chat._fetches for chat in chats), waiting
            undecided = limits.MAX_UNDECIDED_BYTES // 1024
            assert all(chat._answers <= limits.MAX_CONTROL_FRAMES + undecided for chat in chats)
            assert all(chat._fetches <= limits.MAX_WAITING_FETCHES for chat in chats)
            assert all(chat._undecided_bytes <= limits.MAX_UNDECIDED_BYTES + 2048 for chat in chats)
            assert relay._shared.log.uncommitted_bytes <= limits.MAX_UNDECIDED_BYTES
            # Others are served meanwhile.
            assert (await ben.say(ben.message(1, number=2 * 10**6))).code == "accepted"
            flooding.cancel()
            await asyncio.wait([flooding])
            after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            assert after - before < 64 * 1024  # KiB: the test's own client is in it
            await wire.cut()

    run(main())


def test_a_client_that_reads_late_gets_an_outcome_for_each_of_ten_thousand(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path) as (url, _), entered(url) as ana:
            sending = asyncio.create_task(ana.send(*range(1, 10_001)))
            await asyncio.sleep(0.5)
            await ana.until(lambda: len(ana.outcomes) == 10_000)
            await sending
            assert [ana.outcomes[n].seq for n in range(1, 10_001)] == list(range(1, 10_001))
            await ana.until(lambda: ana.place == 10_000)

    run(main())


def test_outcomes_and_messages_wait_for_the_commit(tmp_path: Path) -> None:
    stall = tmp_path / "stall"

    async def main() -> None:
        async with (
            relay_process(tmp_path / "relay", stall=stall) as (_, url),
            entered(url, device=ANA) as ana,
            entered(url, device=BEN) as ben,
        ):
            await ana.say(ana.message(1))
            await ben.until(lambda: ben.place == 1)
            stall.touch()
            await ana.send(2)
            for member in (ana, ben):
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.4):
                        await member.until(lambda member=member: member.place > 1)  # type: ignore[misc]
            assert 2 not in ana.outcomes
            stall.unlink()
            await ana.until(lambda: 2 in ana.outcomes)
            await ben.until(lambda: ben.place == 2)

    run(main())


def test_what_was_accepted_is_there_after_the_relay_was_killed_and_nothing_is_doubled(
    tmp_path: Path,
) -> None:
    """A device with sixteen in flight; the relay is killed in the middle, five times."""

    async def main() -> None:
        accepted: dict[int, int] = {}
        last_sent = 0
        for life in range(5):
            async with relay_process(tmp_path) as (child, url), joined(url) as ana:
                told = await ana.enter(bound=last_sent)
                assert told.lane_seq >= max(accepted, default=0)
                for outcome in ana.outcomes.values():
                    accepted[outcome.lane_seq] = outcome.seq
                slot = told.lane_seq
                goal = len(accepted) + 30 + 17 * life
                while len(accepted) < goal:
                    decided = max([*ana.outcomes, told.lane_seq])
                    while slot < decided + limits.LANE_WINDOW:
                        slot += 1
                        await ana.send(slot)
                    last_sent = max(last_sent, slot)
                    await ana.hear()
                    for outcome in ana.outcomes.values():
                        assert outcome.code == "accepted"
                        assert accepted.setdefault(outcome.lane_seq, outcome.seq) == outcome.seq
                await child.kill()
        async with relay_process(tmp_path) as (_, url), entered(url, device=BEN) as reader:
            low = reader.now.head + 1
            found: list[tuple[int, bytes]] = []
            while low > 1:
                page = await reader.fetch(0, low, newest=True)
                found = [(m.seq, m.id) for m in unpack_messages(page.data)] + found
                low = page.after + 1
            assert [seq for seq, _ in found] == list(range(1, len(found) + 1))
            # One lane, nothing refused: slot n holds message n under seq n.
            assert [id_ for _, id_ in found] == [id_of(n) for n in range(1, len(found) + 1)]
            assert all(seq == slot for slot, seq in accepted.items())
            assert len(found) >= len(accepted)

    run(main())


def test_a_connection_that_ends_in_the_middle_of_everything_leaves_nothing_behind(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        async with running(tmp_path, room_idle_s=0.0) as (url, relay):
            assert relay._shared is not None
            for number in range(12):
                async with Wire(url) as wire, connected(wire.url) as speaker:
                    ana = Member(speaker)
                    await ana.join("talk")
                    await speaker.send(frames.Enter(ana.channel, LANE, 0, *NOWHERE))
                    if number % 2:
                        await ana.until(lambda ana=ana: ana.entered)  # type: ignore[misc]
                        await ana.send(*range(1, 40))
                        await speaker.send(frames.Fetch(ana.channel, 1, 0, 100, True))
                        await ana.mark(1, 1)
                    await asyncio.sleep(0.002 * number)
                    await wire.cut()
            shared = relay._shared
            await until(lambda: not shared.connections)
            await until(lambda: len(shared.rooms) == 0)
            await until(lambda: shared.log.uncommitted_bytes == 0)

    run(main())


def test_leaving_and_joining_again_in_one_breath_keeps_chats_apart(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path) as (url, _), entered(url) as ana:
            for slot in range(1, 21):
                await ana.send(slot)  # its outcome belongs to the joining that ends now
                await ana.speaker.send(frames.Leave(ana.channel))
                ana.joined = None
                ana.outcomes.clear()
                await ana.join("talk")
                told = await ana.enter()
                assert told.lane_seq in (slot - 1, slot)
                assert brief_of(await ana.say(ana.message(slot))) == (slot, "accepted", slot)

    run(main())


def brief_of(told: frames.Outcome) -> tuple[int, str, int]:
    return told.lane_seq, told.code, told.seq
