"""Clients that never read, and ask: what the relay keeps for them has a bound."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from starlette.websockets import WebSocket

from collab import limits
from collab.protocol import frames
from collab.protocol.codec import encode
from collab.protocol.frames import Access
from collab.protocol.ysync import decode_state_vector, write_var_uint
from collab_server.auth import User
from collab_server.gateway import connection as connections
from collab_server.gateway import yjs_messages as messages
from collab_server.gateway.yjs import YjsConnection
from tests.e2e.authors import Author
from tests.e2e.chat_member import LANE
from tests.e2e.support import Speaker, join, rooms_at, run, running, scripted_client, soon, until
from tests.e2e.test_rights import House
from tests.e2e.test_yjs_endpoint import provider

JOINS_AT_WORK = 8


class Reading:
    """Whether the relay's clients read: while not, whatever is sent to them waits."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, of: str = "sync") -> None:
        self._goes_on = asyncio.Event()
        self._goes_on.set()

        async def send(socket: WebSocket, data: bytes) -> None:
            await self._goes_on.wait()
            await connections.send(socket, data)

        monkeypatch.setattr(f"collab_server.gateway.{of}.send", send)

    def stop(self) -> None:
        self._goes_on.clear()

    def go_on(self) -> None:
        self._goes_on.set()


@asynccontextmanager
async def sending(speaker: Speaker, *sent: frames.Frame) -> AsyncIterator[None]:
    """Send all of it meanwhile, as fast as the relay takes it."""

    async def send() -> None:
        for frame in sent:
            await speaker.send(frame)

    task = asyncio.create_task(send())
    try:
        yield
        await soon(task)
    finally:
        task.cancel()


async def settles(look: Any) -> Any:
    """What ``look()`` says once the relay has nothing more to do about what came."""
    last, same = look(), 0
    while same < 5:
        await asyncio.sleep(0.05)
        found = look()
        same = same + 1 if found == last else 0
        last = found
    return last


def of_many_authors(count: int) -> bytes:
    """An update with a letter of each: its state vector is nearly as long."""
    out = bytearray()
    write_var_uint(out, count)
    for client in range(2**28 + count, 2**28, -1):
        write_var_uint(out, 1)
        write_var_uint(out, client)
        write_var_uint(out, 0)
        out += b"\x04\x01\x04body\x01x"
    write_var_uint(out, 0)
    return bytes(out)


def test_joins_of_somebody_who_never_reads_are_not_read_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    house, asked = House(), 0

    async def authorize(_user: User, _room: str) -> Access:
        nonlocal asked
        asked += 1
        return Access.WRITE

    async def main() -> None:
        async with running(tmp_path, authenticate=house.authenticate, authorize=authorize) as (
            url,
            _,
        ):
            reading = Reading(monkeypatch)
            async with scripted_client(url, token="ada") as ada:
                reading.stop()
                joins = [join("notes", request=number) for number in range(1, 2_001)]
                async with sending(ada, *joins):
                    found = await settles(lambda: asked)
                    assert found <= limits.MAX_CONTROL_FRAMES + 2 * JOINS_AT_WORK
                    reading.go_on()
                    for number in range(1, 2_001):
                        assert (await ada.expect(frames.Joined)).request == number

    run(main())


def test_long_answers_to_somebody_who_never_reads_are_counted_by_their_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A frame of thirty bytes is answered with a state vector of any length."""
    early = Author(5)
    early.insert(0, "never sent")
    update = early.insert(0, "needs it")

    async def main() -> None:
        async with running(tmp_path) as (url, relay):
            reading = Reading(monkeypatch)
            async with scripted_client(url) as ada:
                await ada.send(join("notes"))
                channel = (await ada.expect(frames.Joined)).channel
                await ada.send(frames.Offer(channel, 1, of_many_authors(60_000)))
                await ada.expect(frames.Ack)
                (rooms,) = rooms_at(relay)
                reader = rooms._channels[channel].reader
                reading.stop()
                async with sending(ada, *(frames.Offer(channel, n, update) for n in range(2, 402))):
                    taken = await settles(lambda: reader.number)
                    assert taken < 2 + 2 * limits.MAX_WAITING_ANSWER_BYTES // limits.MAX_FRAME_BYTES
                    reading.go_on()
                    for _ in range(400):
                        asked = await ada.expect(frames.Resync)
                        assert len(asked.state_vector) > limits.MAX_FRAME_BYTES
                    assert len(decode_state_vector(asked.state_vector)) == 60_000
                sources = len(rooms._outgoing._sources)
                assert sources < 10, "an answer that went out takes no more turns"

    run(main())


def test_questions_of_a_provider_that_never_reads_are_counted_by_their_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state_vector = bytearray()
    write_var_uint(state_vector, 60_000)
    for client in range(2**28, 2**28 + 60_000):
        write_var_uint(state_vector, client)
        write_var_uint(state_vector, 1)
    question = messages.step1(bytes(state_vector))
    bound = 1 + limits.MAX_WAITING_ANSWER_BYTES // len(question)

    async def main() -> None:
        async with running(tmp_path) as (url, relay):
            reading = Reading(monkeypatch, of="yjs")
            async with provider(url) as one:
                await one.hello()
                assert relay._shared is not None
                (connection,) = relay._shared.connections
                assert isinstance(connection, YjsConnection)
                reading.stop()
                asking = asyncio.create_task(one.send(*[question] * 4 * bound))
                assert 0 < await settles(lambda: len(connection._asked)) <= bound
                reading.go_on()
                for _ in range(4 * bound):
                    await one.expect(messages.Step2)
                await soon(asking)

    run(main())


def test_documents_are_not_fetched_for_ever_for_somebody_who_never_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = 3 * limits.MAX_FETCHED_FRAMES
    text = "x" * 2 * limits.MAX_FRAME_BYTES

    async def main() -> None:
        async with running(tmp_path) as (url, relay):
            reading = Reading(monkeypatch)
            assert relay._shared is not None
            async with scripted_client(url, device=b"w" * 16) as writer:
                for number in range(count):
                    await writer.send(join(f"room {number}", request=number))
                    joined = await writer.expect(frames.Joined)
                    update = Author(5).insert(0, text)
                    await writer.send(frames.Offer(joined.channel, 1, update))
                    await writer.expect(frames.Ack)
            shared, made = relay._shared, 0
            original = shared.rooms.difference

            async def difference(*arguments: Any) -> tuple[int, bytes]:
                nonlocal made
                answer = await original(*arguments)
                made += 1
                return answer

            monkeypatch.setattr(shared.rooms, "difference", difference)
            async with scripted_client(url) as ada:
                reading.stop()
                for number in range(count):
                    await ada.send(join(f"room {number}", request=number))
                (rooms,) = rooms_at(relay)
                await until(lambda: len(rooms._channels) == count)
                assert await settles(lambda: made) <= limits.MAX_FETCHED_FRAMES
                left = (await settles(lambda: list(rooms._channels)))[: count // 3]
                for channel in left:  # those that leave make room, whatever became of their frames
                    await ada.send(frames.Leave(channel))
                reading.go_on()
                missing = set(rooms._channels) - set(left)
                while missing:
                    difference_of = await ada.expect(frames.Difference)
                    assert len(difference_of.update) > len(text)
                    missing.discard(difference_of.channel)
                await until(lambda: rooms._fetched == 0)

    run(main())


def test_enters_are_not_read_faster_than_the_log_answers_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everybody's commits wait behind what is asked of the log."""
    asked, answers = 0, asyncio.Event()

    async def main() -> None:
        async with running(tmp_path) as (url, relay), scripted_client(url) as ada:
            assert relay._shared is not None
            log = relay._shared.chats.log
            original = log.enter

            async def enter(*arguments: Any, **more: Any) -> Any:
                nonlocal asked
                asked += 1
                await answers.wait()
                return await original(*arguments, **more)

            monkeypatch.setattr(log, "enter", enter)
            await ada.send(join("notes"))
            channel = (await ada.expect(frames.Joined)).channel
            frame = encode(frames.Enter(channel, LANE, 0, bytes(16), 0))
            for _ in range(1_000):
                await ada.socket.send(frame)
            assert await settles(lambda: asked) == limits.MAX_WAITING_ENTERS
            answers.set()
            await ada.expect(frames.Entered)
            await until(lambda: asked == 1_000)
            await ada.send(frames.Ping(1))
            await ada.expect(frames.Pong)

    run(main())
