"""``/y/{room}``, byte by byte: what providers may send, what comes back, who is let in."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import logging
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import pycrdt
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidMessage, InvalidStatus
from websockets.typing import Origin, Subprotocol

import collab
from collab import limits
from collab.protocol.frames import Access, Close
from collab.protocol.update import walk
from collab.protocol.ysync import AwarenessState
from collab_server.gateway import yjs_messages as messages
from collab_server.gateway.yjs_messages import Awareness, Message, Step1, Step2, Update, messages_in
from collab_server.room import BEHIND
from tests.e2e.support import QUICK, reads, rows, run, running, soon, until
from tests.e2e.test_rights import House

T = TypeVar("T")
EMPTY = b"\0\0"
DENIED = b"\2\0"


def update_message(update: bytes) -> bytes:
    return messages.in_updates(0, 0, update)


def query() -> bytes:
    return b"\3"


class Provider:
    """A provider whose every byte is the test's."""

    def __init__(self, connection: ClientConnection) -> None:
        self.socket = connection
        self.document: pycrdt.Doc[Any] = pycrdt.Doc()
        self.text = self.document.get("text", type=pycrdt.Text)
        self._passed: list[Message | bytes] = []

    async def send(self, *said: bytes) -> None:
        """Send messages, all in one frame."""
        await self.socket.send(b"".join(said))

    async def receive(self) -> Message | bytes:
        """The next message; it comes alone in its frame. Bytes: a refusal."""
        data = await soon(self.socket.recv())
        assert isinstance(data, bytes)
        if data.startswith(DENIED):
            return data
        (message,) = messages_in(data)
        if isinstance(message, Step2 | Update):
            self.document.apply_update(message.update)
        return message

    async def expect(self, kind: type[T]) -> T:
        """The next message of a kind; what came before it waits for its own turn."""
        for passed in self._passed:
            if isinstance(passed, kind):
                self._passed.remove(passed)
                return passed
        while not isinstance(message := await self.receive(), kind):
            self._passed.append(message)
        return message

    async def hello(self) -> bytes:
        """Exchange differences as a provider does; the relay's state vector."""
        asked = await self.expect(Step1)
        await self.send(
            messages.step1(self.document.get_state()),
            messages.step2(self.document.get_update(asked.state_vector)),
        )
        await self.expect(Step2)
        return asked.state_vector

    async def closed(self) -> int:
        """The code with which the relay closes."""
        with contextlib.suppress(ConnectionClosed):
            while True:
                await soon(self.socket.recv())
        assert self.socket.close_code is not None
        return self.socket.close_code

    def type(self, letters: str) -> bytes:
        """Type at the end; the update."""
        before = self.document.get_state()
        self.text += letters
        return self.document.get_update(before)


@asynccontextmanager
async def provider(
    url: str, path: str = "/y/notes", *, subprotocols: list[str] | None = None,
    origin: str | None = None, token: str | None = None, **options: Any,
) -> AsyncIterator[Provider]:  # fmt: skip
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    async with connect(
        url + path,
        origin=None if origin is None else Origin(origin),
        additional_headers=headers,
        subprotocols=[Subprotocol(name) for name in subprotocols] if subprotocols else None,
        compression=None, max_size=None, close_timeout=2, **options,
    ) as connection:  # fmt: skip
        yield Provider(connection)


# Documents


def test_step1_comes_unasked_and_is_answered_with_a_difference(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path) as (url, _), provider(url) as one, provider(url) as other:
            assert await one.hello() == b"\0"
            await one.send(update_message(one.type("hello")))
            assert await other.expect(Step1) == Step1(b"\0")
            await until(lambda: rows(tmp_path))
            await other.send(messages.step1(b"\0"))
            await other.expect(Step2)
            assert str(other.text) == "hello"
            async with provider(url) as late:
                assert await late.hello() == one.document.get_state()
                assert str(late.text) == "hello"

    run(main())


def test_many_messages_in_one_frame_are_all_taken_and_each_answer_comes_alone(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        async with running(tmp_path) as (url, _), provider(url) as one, provider(url) as other:
            await other.hello()
            ada = AwarenessState(1, 1, '{"name":"Ada"}')
            await one.send(
                messages.step1(b"\0"), messages.awareness([ada]), query(),
                *[update_message(one.type(letter)) for letter in "hello"],
                b"\x7d unknown, which ends the frame",
            )  # fmt: skip
            while str(other.text) != "hello":
                await other.receive()
            answers = [await one.receive() for _ in range(3)]
            assert isinstance(answers[0], Step1)
            assert isinstance(answers[1], Step2)
            assert answers[2] == Awareness([ada])

    run(main())


def test_an_update_that_comes_early_is_asked_for_once_and_heals(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path) as (url, _), provider(url) as one, provider(url) as other:
            await one.hello()
            await other.hello()
            one.type("missing ")
            await one.send(*[update_message(one.type(letter)) for letter in "early"])
            assert await one.receive() == Step1(b"\0")
            await one.send(messages.step2(one.document.get_update()))
            while str(other.text) != "missing early":
                await other.receive()
            await one.send(update_message(one.type("!")))
            while str(other.text) != "missing early!":
                await other.receive()
            await one.send(messages.step1(one.document.get_state()))
            assert isinstance(await one.receive(), Step2)  # and no second Step1

    run(main())


def test_a_step2_that_does_not_fit_is_refused_and_not_asked_for_for_ever(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path) as (url, _), provider(url) as one:
            await one.hello()
            one.type("missing ")
            await one.send(messages.step2(one.type("early")))
            refused = await one.receive()
            assert isinstance(refused, bytes)
            assert b"does not have" in refused
            await one.send(messages.step1(b"\0"))
            assert isinstance(await one.receive(), Step2)
            assert rows(tmp_path) == []

    run(main())


def test_what_is_known_is_neither_stored_nor_shown_again(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path) as (url, _), provider(url) as one, provider(url) as other:
            await one.hello()
            await other.hello()
            await one.send(update_message(one.type("ab")))
            await other.expect(Update)
            await one.send(update_message(one.document.get_update()))
            one.type("c")
            await one.send(update_message(one.document.get_update()))  # overlaps: "c" is new
            shown = await other.expect(Update)
            assert [first for _, first, _ in walk(shown.update).ranges] == [2]
            assert str(other.text) == "abc"
            await until(lambda: len(rows(tmp_path)) == 2)

    run(main())


def test_a_damaged_update_ends_only_its_own_socket(tmp_path: Path) -> None:
    damaged = {
        "bytes that are none": update_message(b"\xff" * 20),
        "a struct that is cut off": update_message(b"\1\1\5\0\4\1\4text\x20hi"),
        "bytes after it": update_message(EMPTY + b"\0"),
        "a frame that is cut off": b"\0\2\x7f",
        "a state vector that is none": messages.step1(b"\5"),
        "awareness that is none": b"\1\3\1\1\1",
    }

    async def main() -> None:
        async with (
            running(tmp_path) as (url, _),
            collab.open(":memory:", relay=url, settings=QUICK) as client,
            provider(url) as other,
        ):
            room = await client.room("notes")
            await other.hello()
            for name, message in damaged.items():
                async with provider(url) as one:
                    await one.hello()
                    await one.send(message)
                    assert await one.closed() == Close.BAD_UPDATE, name
            await other.send(update_message(other.type("all is well")))
            await reads(room, "all is well", name="text")

    run(main())


def test_a_text_frame_is_ignored(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path) as (url, _), provider(url) as one:
            await one.socket.send("ping")
            await one.hello()

    run(main())


def test_a_slow_provider_gets_everything_and_the_relay_keeps_no_queue_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MAX_TAIL_BYTES", 256 * limits.KIB)
    small = socket.socket()
    small.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * 1024)

    async def main() -> None:
        async with (
            running(tmp_path) as (url, relay),
            collab.open(":memory:", relay=url, settings=QUICK) as client,
        ):
            host, port = url.removeprefix("ws://").split(":")
            small.setblocking(False)
            await asyncio.get_running_loop().sock_connect(small, (host, int(port)))
            async with provider(url, sock=small, max_queue=1, ping_interval=None) as slow:
                await slow.hello()
                room = await client.room("notes")
                body = room.text("text")
                for number in range(120):  # 8 MB, more than the system's own buffers hold
                    body.insert(len(body), f"{number:03} " + "x" * 65_000)
                    if number % 4 == 3:
                        await room.wait_synced(30)
                assert relay._shared is not None
                loaded = await relay._shared.rooms.hold("notes", epoch=None)
                assert sum(map(len, loaded.room.tail_after(0))) < limits.MIB
                assert any(loaded.room.next_run(reader) is BEHIND for reader in loaded.room.readers)
                relay._shared.rooms.release(loaded)
                expected = str(body)
                while len(slow.text) < len(expected):
                    await slow.receive()
                assert str(slow.text) == expected

    run(main())


# Awareness

ADA = AwarenessState(1, 1, '{"name":"Ada"}')
BOB = AwarenessState(2, 1, '{"name":"小波 📊"}')


def test_a_state_comes_back_to_its_sender_also_when_it_is_renewed(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path) as (url, _), provider(url) as one:
            await one.send(messages.awareness([ADA]))
            assert await one.expect(Awareness) == Awareness([ADA])
            await one.hello()
            for clock in (2, 3, 3):
                state = AwarenessState(1, clock, ADA.state)
                await one.send(messages.awareness([state]))
                assert await one.expect(Awareness) == Awareness([state])

    run(main())


def test_what_a_provider_says_of_others_is_ignored(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path) as (url, _), provider(url) as ada, provider(url) as bob:
            await ada.send(messages.awareness([ADA]))
            await ada.hello()
            await ada.expect(Awareness)
            await bob.send(messages.awareness([BOB]))
            await bob.hello()
            while ADA not in (await bob.expect(Awareness)).states:
                pass
            gone = AwarenessState(1, 1, None)  # his timer says that she has left
            other = AwarenessState(1, 9, '{"name":"Eve"}')
            for false in (gone, other):
                await bob.send(messages.awareness([false]))
            await bob.send(query())
            while ADA not in (await bob.expect(Awareness)).states:
                pass
            async with provider(url) as late:
                known = (await late.expect(Awareness)).states
                assert sorted(known, key=lambda state: state.client_id) == [ADA, BOB]

    run(main())


def test_who_has_no_state_yet_repeats_others_in_vain_and_may_have_one_later(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        async with running(tmp_path) as (url, _), provider(url) as ada, provider(url) as bob:
            await ada.send(messages.awareness([ADA]))
            await ada.hello()
            await ada.expect(Awareness)
            await bob.hello()
            assert await bob.expect(Awareness) == Awareness([ADA])
            await ada.socket.close()
            left = await bob.expect(Awareness)
            assert left == Awareness([AwarenessState(1, 1, None)])
            await bob.send(messages.awareness([ADA]))  # he had not heard of it yet
            await bob.send(messages.awareness([BOB]))
            assert await bob.expect(Awareness) == Awareness([BOB])
            async with provider(url) as late:
                assert await late.expect(Awareness) == Awareness([BOB])

    run(main())


def test_a_provider_that_hears_nothing_else_hears_a_sign_of_life(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "YJS_SILENCE_S", 0.02)

    async def main() -> None:
        async with running(tmp_path) as (url, _), provider(url) as one:
            await one.hello()
            for _ in range(3):
                assert await one.receive() == Awareness([])

    run(main())


# Who is let in, and where


@pytest.mark.parametrize(
    ("path", "name"),
    [("/y/a", "a"), ("/y/a/b", "a/b"), ("/y/a%2Fb", "a/b"), ("/y/%25C3%25BC", "%C3%BC"),
     ("/y/" + quote("über 你好"), "über 你好"), ("/y//", "/"), ("/y/a?b=c", "a"),
     ("/y/" + "x" * 255, "x" * 255)],
)  # fmt: skip
def test_the_room_is_the_rest_of_the_path_decoded_once(
    path: str, name: str, tmp_path: Path
) -> None:
    async def main() -> None:
        async with (
            running(tmp_path) as (url, _),
            collab.open(":memory:", relay=url, settings=QUICK) as client,
            provider(url, path) as one,
        ):
            await one.hello()
            await one.send(update_message(one.type("here")))
            await reads(await client.room(name), "here", name="text")

    run(main())


@pytest.mark.parametrize(
    "path", ["/y/", "/y/a%00", "/y/a%7F", "/y/%C2%80", "/y/%FF", "/y/a%0A", "/y/" + "x" * 256]
)
def test_a_name_that_no_room_may_have_is_closed_for_good(path: str, tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path) as (url, _), provider(url, path) as one:
            assert await one.closed() == Close.BAD_FRAME

    run(main())


def test_a_page_of_an_unlisted_origin_is_refused(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path, origins=["https://good.example"]) as (url, _):
            async with provider(url, origin="https://good.example") as one:
                await one.hello()
            for origin in ("https://bad.example", "http://good.example", "null"):
                with pytest.raises(InvalidStatus) as refused:
                    async with provider(url, origin=origin):
                        pass
                assert refused.value.response.status_code == 403

    run(main())


def test_without_a_good_token_nothing_is_answered_but_the_refusal(tmp_path: Path) -> None:
    house = House()

    async def main() -> None:
        async with running(
            tmp_path, authenticate=house.authenticate, authorize=house.authorize
        ) as (url, _):
            async with provider(url, token="ada") as ada:
                await ada.hello()
            for token in (None, "bad"):
                async with provider(url, token=token) as one:
                    assert (await soon(one.socket.recv()))[:2] == DENIED
                    assert await one.closed() == Close.UNAUTHENTICATED
            assert house.asked == {"ada": 1, None: 1, "bad": 1}

    run(main())


def test_a_token_beside_a_subprotocol_is_not_what_the_answer_names(tmp_path: Path) -> None:
    house = House()

    async def main() -> None:
        async with running(
            tmp_path, authenticate=house.authenticate, authorize=house.authorize
        ) as (url, _):
            async with provider(url, subprotocols=["token.ada", "y"]) as one:
                assert one.socket.subprotocol == "y"
                await one.hello()
            async with provider(url, subprotocols=["token.ada"]) as one:
                assert one.socket.subprotocol == "token.ada"
            assert house.asked == {"ada": 2}

    run(main())


def test_no_log_shows_a_token(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with running(tmp_path, origins=[]) as (url, _):
            caplog.set_level(logging.DEBUG)
            logging.getLogger("uvicorn.error").setLevel(logging.INFO)
            async with provider(url, "/y/notes?a=b&token=s3cret&token=s3cret") as one:
                await one.hello()
            with pytest.raises(InvalidStatus):
                async with provider(url, "/y/notes?token=s3cret", origin="https://bad.example"):
                    pass
        lines = [line for line in caplog.messages if "/y/notes" in line and "GET" not in line]
        assert len(lines) >= 2
        assert all("s3cret" not in line for line in lines)

    run(main())


def test_a_right_that_is_withdrawn_closes_the_socket(tmp_path: Path) -> None:
    house = House()

    async def main() -> None:
        async with (
            running(
                tmp_path, authenticate=house.authenticate, authorize=house.authorize,
                recheck_rights_s=0.02,
            ) as (url, _),
            provider(url, token="ada") as one,
        ):  # fmt: skip
            await one.hello()
            house.rights["ada", "notes"] = Access.NONE
            assert await one.closed() == Close.FORBIDDEN

    run(main())


# The socket itself


def test_an_opening_request_that_is_too_long_ends_the_connection_at_once(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path) as (url, _):
            with pytest.raises((InvalidMessage, InvalidStatus)):
                async with provider(url, token="t" * 10_000):
                    pass

    async def quickly() -> None:
        async with asyncio.timeout(5):
            await main()

    run(quickly())


async def raw_socket(url: str, path: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A WebSocket that answers nothing by itself, after its handshake."""
    host, port = url.removeprefix("ws://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    key = base64.b64encode(os.urandom(16)).decode()
    writer.write(
        f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: websocket\r\n"
        f"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n"
        f"Sec-WebSocket-Protocol: collab.v1\r\n\r\n".encode()
    )
    await soon(reader.readuntil(b"\r\n\r\n"))
    return reader, writer


def test_a_provider_that_leaves_a_ping_unanswered_is_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "YJS_PING_S", 0.1)

    async def main() -> None:
        async with running(tmp_path) as (url, _), provider(url) as alive:
            reader, writer = await raw_socket(url, "/y/notes")
            received = b""
            with contextlib.suppress(ConnectionError):
                while data := await soon(reader.read(1000)):
                    received += data
            assert b"\x89\x04" in received  # a ping
            writer.close()
            await alive.hello()  # it answers pings

    run(main())


def test_before_hello_a_device_may_send_kilobytes_only(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path) as (url, _):
            reader, writer = await raw_socket(url, "/sync")
            length = 4 * limits.MAX_HELLO_BYTES
            writer.write(b"\x82\xfe" + length.to_bytes(2) + bytes(4))  # the announcement alone
            received = b""
            with contextlib.suppress(ConnectionError):
                while data := await soon(reader.read(1000)):
                    received += data
            assert received.startswith(b"\x88")
            assert int.from_bytes(received[2:4]) == 1009
            writer.close()

    run(main())


def test_a_message_above_the_bound_is_refused_when_it_is_announced(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path) as (url, _):
            reader, writer = await raw_socket(url, "/y/notes")
            length = limits.MAX_PAYLOAD_BYTES + 1
            writer.write(b"\x82\xff" + length.to_bytes(8) + bytes(4))
            received = b""
            with contextlib.suppress(ConnectionError):
                while data := await soon(reader.read(1000)):
                    received += data
            assert (1009).to_bytes(2) in received
            writer.close()

    run(main())
