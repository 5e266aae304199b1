"""A socket that the server has closed already, while its connection still has something to say."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from starlette.websockets import WebSocket, WebSocketDisconnect

from collab import limits
from collab.protocol import frames
from collab.protocol.frames import Access, Close
from collab_server.auth import User
from collab_server.gateway import yjs_messages as messages
from collab_server.gateway.connection import send
from collab_server.gateway.websocket import BoundedWebSocket
from tests.e2e.authors import Author
from tests.e2e.support import join, rooms_at, run, running, scripted_client, until
from tests.e2e.test_rights import House
from tests.e2e.test_yjs_endpoint import provider


@pytest.fixture
def gone(monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """Set when the server has closed a socket because of what came on it.

    It is heard of when the connection ends, and not before, as with a peer that takes its time to
    read what is on its way.
    """
    event = asyncio.Event()
    original = BoundedWebSocket.handle_parser_exception

    def handle(self: BoundedWebSocket) -> None:
        of_transport = vars(self.transport)
        of_transport["close"] = lambda: of_transport.pop("close")
        original(self)
        event.set()

    monkeypatch.setattr(BoundedWebSocket, "handle_parser_exception", handle)
    return event


def test_what_is_sent_on_a_socket_that_the_server_closed_is_no_failure(
    tmp_path: Path, gone: asyncio.Event, caplog: pytest.LogCaptureFixture
) -> None:
    house, may_answer = House(), asyncio.Event()

    async def authorize(user: User, room: str) -> Access:
        if room.startswith("slow"):
            await may_answer.wait()
        return Access.WRITE

    async def main() -> None:
        async with (
            running(tmp_path, authenticate=house.authenticate, authorize=authorize) as (url, relay),
            scripted_client(url, token="ada") as ada,
            scripted_client(url, token="bob") as bob,
        ):
            for speaker in (ada, bob):
                await speaker.send(join("notes"))
                joined = await speaker.expect(frames.Joined)
                await speaker.expect(frames.Difference)
            assert relay._shared is not None
            connections = relay._shared.connections
            for number in range(9):  # eight wait for their rights; nothing is read behind the ninth
                await ada.send(join(f"slow {number}", request=number))
            await until(lambda: any(rooms._joins._waiters for rooms in rooms_at(relay)))
            await ada.socket.send(b"x" * (limits.MAX_FRAME_BYTES + 1))
            await asyncio.wait_for(gone.wait(), 10)
            await bob.send(frames.Offer(joined.channel, 1, Author(5).insert(0, "for ada")))
            await bob.expect(frames.Ack)
            await until(lambda: len(connections) == 1)
            may_answer.set()

    with caplog.at_level(logging.WARNING):
        run(main())
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


def test_a_difference_for_a_provider_that_the_server_closed_is_no_failure(
    tmp_path: Path,
    gone: asyncio.Event,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def main() -> None:
        async with running(tmp_path) as (url, relay), provider(url) as one:
            await one.hello()
            await one.send(messages.in_updates(0, 0, one.type("hello")))
            assert relay._shared is not None
            worker = relay._shared.rooms._replicas.worker_pid
            assert worker is not None
            os.kill(worker, signal.SIGSTOP)
            monkeypatch.setattr(limits, "MAX_CONTROL_FRAMES", 1)
            await one.send(messages.step1(b"\0"))  # nothing is read until this is answered
            await asyncio.sleep(0.05)
            length = limits.MAX_PAYLOAD_BYTES + 1
            one.socket.transport.write(b"\x82\xff" + length.to_bytes(8) + bytes(4))  # announced
            await asyncio.wait_for(gone.wait(), 10)
            os.kill(worker, signal.SIGCONT)
            await until(lambda: relay._shared is not None and not relay._shared.connections)

    with caplog.at_level(logging.WARNING):
        run(main())
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


def test_a_server_that_refuses_a_message_after_its_close_means_a_socket_that_is_gone() -> None:
    async def refuse(message: Any) -> None:
        if message["type"] == "websocket.send":
            raise RuntimeError("Unexpected ASGI message 'websocket.send'")

    async def connects() -> Any:
        return {"type": "websocket.connect"}

    async def main() -> None:
        socket = WebSocket({"type": "websocket", "headers": []}, connects, refuse)
        await socket.accept()
        with pytest.raises(WebSocketDisconnect):
            await send(socket, b"x")

    run(main())


@pytest.mark.parametrize("who", ["the provider", "the relay"])
def test_a_provider_that_waits_for_a_room_can_be_gone_before_it_comes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, who: str
) -> None:
    """A new room waits for as long as the disk takes nothing, and providers come again."""
    asked, may_open = asyncio.Event(), asyncio.Event()

    async def main() -> None:
        async with running(tmp_path) as (url, relay):
            assert relay._shared is not None
            shared = relay._shared
            original = shared.log.open_room

            async def open_room(name: str, *, epoch: bytes) -> Any:
                asked.set()
                await may_open.wait()
                return await original(name, epoch=epoch)

            monkeypatch.setattr(shared.log, "open_room", open_room)
            async with provider(url) as one:
                await asyncio.wait_for(asked.wait(), 10)
                if who == "the relay":
                    (connection,) = shared.connections
                    connection.close(Close.RESTART, "it restarts")
                    assert await one.closed() == Close.RESTART
            await until(lambda: not shared.connections)
            may_open.set()
            await until(lambda: len(shared.rooms) == 1)
            loaded = shared.rooms.named("notes")
            assert loaded is not None
            assert loaded.users == 0

    run(main())
