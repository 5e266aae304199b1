"""The relay's side of a chat, spoken to in raw frames: lanes, outcomes, rights, reading."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import AsyncExitStack, suppress
from itertools import count
from pathlib import Path

import pytest
from starlette.requests import HTTPConnection
from websockets.asyncio.client import connect

from collab import limits
from collab.protocol import frames
from collab.protocol.codec import pack_map
from collab.protocol.frames import Access, Close
from collab.protocol.messages import Receipt, unpack_outcomes
from collab_server.auth import User
from collab_server.gateway.connection import bounds_of
from tests.e2e.chat_member import LANE, Member, entered, id_of, joined
from tests.e2e.support import Wire, run, running, scripted_client, socket_to, soon, until

ANA, BEN = b"a" * 16, b"b" * 16


def outcome(slot: int, code: str, seq: int = 0, *, number: int | None = None) -> tuple[object, ...]:
    return slot, id_of(slot if number is None else number), code, seq


def brief(told: frames.Outcome) -> tuple[object, ...]:
    return told.lane_seq, told.message_id, told.code, told.seq


class House:
    """Everybody who has a token; rights by user, WRITE where nothing is said."""

    def __init__(self) -> None:
        self.rights: dict[str, Access] = {}

    async def authenticate(self, token: str | None, _request: HTTPConnection) -> User | None:
        return None if token is None else User(token)

    async def authorize(self, user: User, _room: str) -> Access:
        return self.rights.get(user.sub, Access.WRITE)


# --- sending and reading ---


def test_a_message_is_accepted_and_read_by_everybody_its_writer_too(tmp_path: Path) -> None:
    async def main() -> None:
        async with (
            running(tmp_path) as (url, _),
            entered(url, device=ANA) as ana,
            entered(url, device=BEN) as ben,
        ):
            assert (ana.now.lane_seq, ana.now.good, ana.now.head, ana.now.oldest) == (0, True, 0, 1)
            meta = pack_map({"reply": 1})
            sent = ana.message(1, body="你好 📊", meta=meta)
            assert brief(await ana.say(sent)) == outcome(1, "accepted", 1)
            for member in (ana, ben):
                await member.reach(1)
                (message,) = member.messages
                assert (message.seq, message.id, message.body) == (1, id_of(1), "你好 📊")
                assert (message.sender, message.meta) == (ana.now.user, meta)
                assert (message.sent_at, message.kind, message.verdict) == (sent.sent_at, 0, 0)
            assert ana.now.user != ben.now.user

    run(main())


def test_messages_of_two_lanes_at_once_are_in_lane_order_and_the_same_for_all(
    tmp_path: Path,
) -> None:
    async def write(member: Member) -> None:
        slots = iter(range(1, 201))
        await member.send(*(next(slots) for _ in range(limits.LANE_WINDOW)))
        while len(member.outcomes) < 200:
            known = len(member.outcomes)
            while len(member.outcomes) == known:
                await member.hear()
            slot = next(slots, None)
            if slot is not None:
                await member.send(slot)

    async def main() -> None:
        async with (
            running(tmp_path) as (url, _),
            entered(url, device=ANA) as ana,
            entered(url, device=BEN) as ben,
            entered(url, device=b"c" * 16) as reader,
        ):
            ana.message, numbered = ana.message, ben.message  # type: ignore[method-assign]
            ben.message = lambda slot: numbered(slot, number=1000 + slot)  # type: ignore[method-assign,assignment,misc]
            await asyncio.gather(write(ana), write(ben))
            for member in (ana, ben, reader):
                await member.reach(400)
            assert ana.messages == ben.messages == reader.messages
            for author in (ana, ben):
                mine = [m for m in reader.messages if m.sender == author.now.user]
                first = 1 if author is ana else 1001
                assert [m.id for m in mine] == [id_of(first + n) for n in range(200)]
                seqs = [author.outcomes[slot].seq for slot in range(1, 201)]
                assert seqs == [m.seq for m in mine]

    run(main())


def test_a_document_that_is_in_parts_on_the_wire_does_not_hold_up_messages(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path) as (url, _):
            async with joined(url, "big", device=ANA) as writer:
                text = b"x" * 20_000_000
                update = b"\x01\x01\x01\x00\x04\x01\x01t" + _varint(len(text)) + text + b"\x00"
                await writer.speaker.send(frames.Offer(writer.channel, 1, update))
                await writer.speaker.expect(frames.Ack)
            async with (
                Wire(url) as wire,
                entered(url, device=ANA) as ana,
                entered(wire.url, device=BEN) as ben,
            ):
                start = wire.down
                wire.down_limit = start + 100_000  # the rest waits on the way
                await ben.speaker.send(frames.Join(9, "big", None, bytes(16), 0, b"\0"))
                await until(lambda: wire.down > start + 50_000)
                await ana.say(ana.message(1))
                wire.down_limit = 1 << 62
                await ben.until(lambda: ben.messages)
                assert wire.down - start < len(text) / 2

    run(main())


def _varint(number: int) -> bytes:
    made = bytearray()
    while number > 0x7F:
        made.append(number & 0x7F | 0x80)
        number >>= 7
    made.append(number)
    return bytes(made)


def test_what_a_stock_provider_hears_has_nothing_of_the_chat(tmp_path: Path) -> None:
    async def main() -> None:
        async with (
            running(tmp_path) as (url, _),
            connect(url + "/y/talk") as provider,
            entered(url, device=ANA) as ana,
        ):
            await soon(provider.recv())  # its first step 1
            await ana.say(ana.message(1, body="a secret of our own"))
            await ana.mark(1, 1)
            heard: list[object] = []
            with suppress(TimeoutError):
                async with asyncio.timeout(0.3):
                    while True:
                        heard.append(await provider.recv())
            assert not any(b"secret" in said for said in heard if isinstance(said, bytes))

    run(main())


# --- lanes ---


def test_a_frame_that_came_twice_is_one_message(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path) as (url, _), entered(url) as ana:
            first = await ana.say(ana.message(1))
            again = await ana.say(ana.message(1))
            assert first == again
            await ana.say(ana.message(2))
            await ana.until(lambda: ana.place == 2)
            assert ana.bodies == ["m1", "m2"]

    run(main())


def test_a_slot_that_holds_another_message_is_answered_with_that(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path) as (url, _), entered(url) as ana:
            await ana.say(ana.message(1))
            told = await ana.say(ana.message(1, number=77))
            assert brief(told) == outcome(1, "accepted", 1)

    run(main())


def test_a_slot_before_its_turn_is_answered_once_and_the_lane_goes_on_from_there(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        async with running(tmp_path) as (url, _), entered(url) as ana:
            await ana.say(ana.message(1))
            await ana.send(3, 4, 5)
            await ana.speaker.send(frames.Skip(ana.channel, 6, id_of(6)))
            await ana.send(2, 3)
            await ana.until(lambda: 3 in ana.outcomes)
            assert [told for told in ana.told if isinstance(told, frames.Expected)] == [
                frames.Expected(ana.channel, 2)
            ]
            assert set(ana.outcomes) == {1, 2, 3}
            await ana.send(9)
            await ana.until(lambda: ana.told[-1] == frames.Expected(ana.channel, 4))
            assert ana.bodies == ["m1", "m2", "m3"]

    run(main())


def test_the_same_id_in_another_lane_is_accepted_once_and_other_content_conflicts(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        async with running(tmp_path) as (url, _):
            async with entered(url) as ana:
                await ana.say(ana.message(1))
                await ana.say(ana.message(2))
            async with entered(url, lane=b"new lane of file") as ana:  # a file that was put back
                assert ana.now.lane_seq == 0
                assert brief(await ana.say(ana.message(1, number=2))) == outcome(
                    1, "accepted", 2, number=2
                )
                told = await ana.say(ana.message(2, number=1, body="something else"))
                assert brief(told) == outcome(2, "conflict", number=1)
                assert brief(await ana.say(ana.message(3))) == outcome(3, "accepted", 3)
                await ana.catch_up()
                await ana.until(lambda: ana.place == 3)
                assert ana.bodies == ["m1", "m2", "m3"]

    run(main())


def test_a_device_that_comes_back_is_told_what_became_of_its_slots(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path) as (url, _):
            async with entered(url) as ana:
                await ana.say(ana.message(1))
                await ana.say(frames.Skip(ana.channel, 2, id_of(2)))
                await ana.say(ana.message(3, ttl_ms=0))
            async with entered(url) as ana:
                assert ana.now.lane_seq == 3
                assert [
                    (o.lane_seq, o.message_id, o.code, o.seq)
                    for o in unpack_outcomes(ana.now.outcomes)
                ] == [outcome(1, "accepted", 1), outcome(2, "skipped"), outcome(3, "expired")]
        async with running(tmp_path) as (url, _), entered(url) as ana:  # and after a restart
            assert ana.now.lane_seq == 3
            assert brief(await ana.say(ana.message(2))) == outcome(2, "skipped")

    run(main())


def test_sixteen_in_flight_over_a_cut_connection_are_each_once_and_in_order(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path) as (url, _), Wire(url) as wire:
            decided = 0
            for cut in range(12):
                async with joined(wire.url) as ana:
                    decided = (await ana.enter()).lane_seq
                    await ana.send(*range(decided + 1, decided + 1 + limits.LANE_WINDOW))
                    if cut % 3:
                        await ana.until(lambda ana=ana, cut=cut: len(ana.outcomes) >= cut)  # type: ignore[misc]
                    await wire.cut()
            async with entered(url) as ana:
                last = ana.now.lane_seq
                assert last >= decided > 0
                await ana.send(*range(last + 1, 201))
                await ana.until(lambda: len(ana.outcomes) == 200 - last)
            async with entered(url, lane=b"of another file.") as reader:
                await reader.catch_up()
                assert reader.bodies == [f"m{n}" for n in range(1, 201)]

    run(main())


def test_a_second_enter_on_a_channel_begins_another_lane(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path) as (url, _), entered(url) as ana:
            await ana.say(ana.message(1))
            await ana.until(lambda: ana.place == 1)
            again = await ana.enter(lane=b"another lane now", place=(b"?" * 16, 0))
            assert (again.lane_seq, again.head, again.after) == (0, 1, 0)
            ana.messages.clear()
            assert brief(await ana.say(ana.message(1, number=2))) == outcome(
                1, "accepted", 2, number=2
            )
            await ana.until(lambda: ana.place == 2)
            assert ana.bodies == ["m1", "m2"]

    run(main())


@pytest.mark.parametrize("when", ["before JOINED", "before ENTER", "before ENTERED"])
def test_a_chat_is_not_spoken_to_before_it_was_entered(tmp_path: Path, when: str) -> None:
    async def main() -> None:
        async with running(tmp_path) as (url, _), scripted_client(url) as speaker:
            ana = Member(speaker)
            if when == "before JOINED":
                ana.channel = 99
                await ana.send(1)  # an unknown channel: it crossed a LEFT
                await speaker.send(frames.Ping(1))
                assert await speaker.receive() == frames.Pong(1)
                return
            await ana.join("talk")
            if when == "before ENTERED":
                await speaker.send(frames.Enter(ana.channel, LANE, 0, bytes(16), 0))
            await ana.send(1)
            assert (await speaker.closed())[0] == Close.BAD_FRAME

    run(main())


def test_slot_zero_is_a_bad_frame(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path) as (url, _), entered(url) as ana:
            await ana.send(0)
            assert (await ana.speaker.closed())[0] == Close.BAD_FRAME

    run(main())


@pytest.mark.parametrize("field", ["body", "meta"])
def test_a_body_or_meta_above_its_bound_is_a_bad_frame_and_at_it_a_message(
    tmp_path: Path, field: str
) -> None:
    async def main() -> None:
        async with running(tmp_path) as (url, _), entered(url) as ana:
            filler = "x" * (limits.MAX_META_BYTES - 6)
            meta = pack_map({"m": filler})
            assert len(meta) == limits.MAX_META_BYTES
            body = "é" * (limits.MAX_BODY_BYTES // 2)
            assert (await ana.say(ana.message(1, body=body, meta=meta))).code == "accepted"
            await ana.until(lambda: ana.place == 1)
            assert (ana.messages[0].body, ana.messages[0].meta) == (body, meta)
            if field == "body":
                await ana.speaker.send(ana.message(2, body=body + "x"))
            else:
                await ana.speaker.send(ana.message(2, meta=pack_map({"m": filler + "x"})))
            assert (await ana.speaker.closed())[0] == Close.BAD_FRAME

    run(main())


@pytest.mark.parametrize(
    "meta", [b"\xc1", b"\x01", b"\x90", b"\x81\xa1a"], ids=["x", "1", "[]", "cut"]
)
def test_a_meta_that_is_no_map_is_invalid_and_does_not_hold_up_what_follows(
    tmp_path: Path, meta: bytes
) -> None:
    async def main() -> None:
        async with running(tmp_path) as (url, _), entered(url) as ana:
            told = await ana.say(ana.message(1, meta=meta))
            assert brief(told) == outcome(1, "invalid")
            assert told.reason
            assert brief(await ana.say(ana.message(2))) == outcome(2, "accepted", 1)
            assert brief(await ana.say(ana.message(1, meta=meta))) == outcome(1, "invalid")

    run(main())


def test_a_message_that_asks_for_a_verdict_is_invalid_where_nobody_gives_one(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        async with running(tmp_path) as (url, _), entered(url) as ana:
            told = await ana.say(ana.message(1, confirm=True))
            assert brief(told) == outcome(1, "invalid")

    run(main())


def test_a_message_whose_time_is_over_expires_and_one_that_may_wait_does_not(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        async with running(tmp_path) as (url, _), entered(url) as ana:
            assert brief(await ana.say(ana.message(1, ttl_ms=0))) == outcome(1, "expired")
            accepted = await ana.say(ana.message(2, ttl_ms=60_000))
            assert brief(accepted) == outcome(2, "accepted", 1)
            known = await ana.say(ana.message(3, number=2, ttl_ms=0))
            assert brief(known) == outcome(3, "accepted", 1, number=2)
            assert (await ana.say(ana.message(4, ttl_ms=2**63 - 1))).code == "accepted"

    run(main())


# --- rights ---


def test_a_reader_reads_and_marks_and_is_told_that_his_message_is_forbidden(
    tmp_path: Path,
) -> None:
    house = House()
    house.rights["eve"] = Access.READ

    async def main() -> None:
        async with (
            running(
                tmp_path, authenticate=house.authenticate, authorize=house.authorize
            ) as (url, _),
            entered(url, token="ana", device=ANA) as ana,
            entered(url, token="eve", device=BEN) as eve,
        ):  # fmt: skip
            assert (ana.now.user, eve.now.user) == ("ana", "eve")
            await ana.say(ana.message(1, number=50))
            told = await eve.say(eve.message(1))
            assert brief(told) == outcome(1, "forbidden")
            assert told.reason
            assert brief(await eve.say(frames.Skip(eve.channel, 2, id_of(2)))) == outcome(
                2, "skipped"
            )
            await eve.until(lambda: eve.place == 1)
            assert (await eve.fetch(0, 2)).upto == 1
            await eve.mark(1, 1)
            await ana.until(lambda: ana.receipts)
            assert ana.receipts == {"eve": Receipt("eve", 1, 1)}
            assert (await ana.say(ana.message(2))).seq == 2

    run(main())


def test_two_users_of_one_device_file_have_lanes_of_their_own(tmp_path: Path) -> None:
    house = House()

    async def main() -> None:
        async with running(
            tmp_path, authenticate=house.authenticate, authorize=house.authorize
        ) as (url, _):
            async with entered(url, token="ana") as ana:
                await ana.say(ana.message(1))
            async with entered(url, token="ben") as ben:
                assert ben.now.lane_seq == 0
                told = await ben.say(ben.message(1))
                assert brief(told) == outcome(1, "conflict")  # it is ana's

    run(main())


@pytest.mark.parametrize("sub", ["é" * 128, "\ud800"])
def test_a_user_whose_name_fits_no_message_is_the_applications_fault(
    tmp_path: Path, sub: str
) -> None:
    async def authenticate(_token: str | None, _request: HTTPConnection) -> User | None:
        return User(sub)

    async def authorize(_user: User, _room: str) -> Access:
        return Access.WRITE

    async def main() -> None:
        async with (
            running(tmp_path, authenticate=authenticate, authorize=authorize) as (url, _),
            socket_to(url) as speaker,
        ):
            await speaker.send(frames.Hello(frames.VERSION, b"n" * 16, ANA, 1, None))
            assert (await speaker.closed())[0] == Close.INTERNAL

    run(main())


def test_devices_at_an_open_relay_are_different_people_and_stay_who_they_are(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        async with running(tmp_path) as (url, _):
            async with entered(url, device=ANA) as ana, entered(url, "other", device=BEN) as ben:
                users = {ana.now.user, ben.now.user}
                assert len(users) == 2
                assert not any(ANA.hex() in user or BEN.hex() in user for user in users)
            async with entered(url, "other", device=ANA) as ana:
                assert ana.now.user in users

    run(main())


# --- marks ---


def test_marks_are_told_to_others_and_to_the_same_users_other_devices(tmp_path: Path) -> None:
    house = House()

    async def main() -> None:
        async with running(
            tmp_path, authenticate=house.authenticate, authorize=house.authorize
        ) as (url, _):
            async with (
                entered(url, token="ana", device=ANA) as phone,
                entered(url, token="ana", device=BEN) as laptop,
                entered(url, token="ben", device=ANA) as ben,
            ):
                for slot in (1, 2, 3):
                    await ben.say(ben.message(slot))
                await phone.until(lambda: phone.place == 3)
                await phone.mark(3, 2)
                await laptop.until(lambda: laptop.receipts)
                await ben.until(lambda: ben.receipts)
                assert laptop.receipts == ben.receipts == {"ana": Receipt("ana", 3, 2)}
                await phone.mark(1, 1)  # late: registers never fall
                await phone.mark(3, 10**12)  # and never pass the head
                await ben.until(lambda: ben.receipts["ana"].read_upto == 3)
                assert ben.receipts == {"ana": Receipt("ana", 3, 3)}
                assert phone.receipts == {}
            async with entered(url, token="ben", device=BEN) as late:
                await late.until(lambda: late.receipts)
                assert late.receipts == {"ana": Receipt("ana", 3, 3)}
        async with (
            running(tmp_path, authenticate=house.authenticate, authorize=house.authorize) as (
                url,
                _,
            ),
            entered(url, token="ana", device=ANA) as phone,
        ):
            assert (phone.now.read_upto, phone.now.unread) == (3, 0)

    run(main())


def test_unread_is_what_others_wrote_beyond_what_the_user_read_on_any_device(
    tmp_path: Path,
) -> None:
    house = House()

    async def main() -> None:
        async with (
            running(
                tmp_path, authenticate=house.authenticate, authorize=house.authorize
            ) as (url, _),
            entered(url, token="ben", device=ANA) as ben,
        ):  # fmt: skip
            for slot in range(1, 11):
                await ben.say(ben.message(slot))
            assert (await ben.enter()).unread == 0
            async with entered(url, token="ana", device=ANA) as phone:
                assert (phone.now.unread, phone.now.read_upto) == (10, 0)
                await phone.mark(10, 4)
                await ben.until(lambda: ben.receipts)
            async with entered(url, token="ana", device=BEN) as laptop:
                assert (laptop.now.unread, laptop.now.read_upto) == (6, 4)

    run(main())


# --- the socket ---


def test_a_frame_that_follows_another_does_not_wait_for_the_clients_acknowledgement(
    tmp_path: Path,
) -> None:
    """OUTCOME and then MESSAGES: without TCP_NODELAY the second one is 40 ms late."""

    async def main() -> None:
        async with running(tmp_path) as (url, relay), entered(url):
            assert relay._shared is not None
            (connection,) = relay._shared.connections
            bounds = bounds_of(connection._socket)  # type: ignore[attr-defined]
            assert bounds is not None
            taken: socket.socket = bounds.transport.get_extra_info("socket")
            assert taken.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)

    run(main())


# --- many ---


def test_five_hundred_messages_of_ten_devices_come_to_everybody_in_one_order(
    tmp_path: Path,
) -> None:
    async def write(member: Member, numbers: Iterator[int]) -> None:
        for slot in range(1, 51):
            await member.say(member.message(slot, number=next(numbers)))

    async def main() -> None:
        numbers = count(1)
        async with running(tmp_path) as (url, relay), AsyncExitStack() as stack:
            members = [
                await stack.enter_async_context(entered(url, device=bytes([n]) * 16))
                for n in range(10)
            ]
            await asyncio.gather(*(write(member, numbers) for member in members))
            for member in members:
                await member.reach(500)
            assert all(member.messages == members[0].messages for member in members)
            assert relay._shared is not None
            chats = [loaded.chat for loaded in relay._shared.rooms._loaded.values()]
            await until(lambda: all(len(chat._tail) <= limits.MAX_TAIL_MESSAGES for chat in chats))

    run(main())
