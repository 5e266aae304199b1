"""Whatever one client sends, the relay lives on and everybody else is unaffected."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgpack
import pytest
from starlette.requests import HTTPConnection

import collab
from collab import limits
from collab.protocol import frames
from collab.protocol.codec import encode
from collab_server.app import Relay
from collab_server.auth import User
from collab_server.serving import served
from collab_server.settings import Settings
from tests.e2e.authors import Author, damaged
from tests.e2e.support import (
    QUICK,
    join,
    reads,
    run,
    running,
    scripted_client,
    socket_to,
    soon,
    until,
)

HELLO = frames.Hello(frames.VERSION, bytes(16), b"x" * 16, 1, None)
BEGINNINGS: dict[str, tuple[bytes | str, int]] = {
    "text": ("hello", frames.Close.BAD_FRAME),
    "empty": (b"", frames.Close.BAD_FRAME),
    "garbage": (b"\xc1\xff\xff", frames.Close.BAD_FRAME),
    "no array": (msgpack.packb({"a": 1}), frames.Close.BAD_FRAME),
    "unknown tag": (msgpack.packb([99, 1]), frames.Close.BAD_FRAME),
    "negative tag": (msgpack.packb([-1]), frames.Close.BAD_FRAME),
    "a relay's frame": (encode(frames.Pong(1)), frames.Close.BAD_FRAME),
    "not HELLO": (encode(frames.Ping(1)), frames.Close.BAD_FRAME),
    "HELLO in parts": (encode(frames.Part(1, 300_000, b"x")), frames.Close.BAD_FRAME),
    "too few fields": (msgpack.packb([1, 1, bytes(16)]), frames.Close.BAD_FRAME),
    "too many fields": (msgpack.packb([1, 1, bytes(16), bytes(16), 1, None, 0]), 4400),
    "a short nonce": (msgpack.packb([1, 1, bytes(15), bytes(16), 1, None]), 4400),
    "a number as bool": (msgpack.packb([1, True, bytes(16), bytes(16), 1, None]), 4400),
    "oversized": (encode(frames.Hello(1, bytes(16), bytes(16), 1, "t" * 9000)), 4400),
    "another version": (
        encode(frames.Hello(9, bytes(16), bytes(16), 1, None)),
        frames.Close.UNSUPPORTED_VERSION,
    ),
}
LATER: dict[str, tuple[bytes | str, int]] = {
    "text": ("hello", frames.Close.BAD_FRAME),
    "HELLO again": (encode(HELLO), frames.Close.BAD_FRAME),
    "a relay's frame": (encode(frames.Ack(1, 1, 1)), frames.Close.BAD_FRAME),
    "unknown tag": (msgpack.packb([19]), frames.Close.BAD_FRAME),
    "a bad room name": (msgpack.packb([3, 1, "a\n", None, bytes(16), 0, b"\0"]), 4400),
    "a damaged state vector": (encode(join("notes", state_vector=b"\x05")), 4422),
    "a part that promises too much": (encode(frames.Part(1, 1 << 40, b"x")), 4400),
    "a part of what fits one frame": (encode(frames.Part(1, 1000, b"x")), 4400),
    "an empty part": (encode(frames.Part(1, 300_000, b"")), 4400),
    "damaged awareness": (encode(frames.Awareness(1, b"\xff")), 4422),
    "awareness that is no object": (encode(frames.Awareness(1, b"\1\1\1\x011")), 4422),
}


@asynccontextmanager
async def bystanders(url: str) -> AsyncIterator[None]:
    """Two clients whose room works before and after, on one and the same connection each."""
    async with (
        collab.open(":memory:", relay=url, settings=QUICK) as one,
        collab.open(":memory:", relay=url, settings=QUICK) as other,
    ):
        room, theirs = await one.room("healthy"), await other.room("healthy")
        room.text("body").insert(0, "before ")
        await room.wait_synced(20)
        await reads(theirs, "before ")
        states: list[collab.State] = []
        for client in (one, other):
            await until(lambda client=client: client.connection.state is collab.State.LIVE)  # type: ignore[misc]
            client.observe(lambda status: states.append(status.state))
        yield
        room.text("body").insert(7, "and after")
        await room.wait_synced(20)
        await reads(theirs, "before and after")
        assert states == []


def test_a_malformed_beginning_ends_that_connection_alone(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path) as (url, _), bystanders(url):
            for name, (data, expected) in BEGINNINGS.items():
                async with socket_to(url) as speaker:
                    await speaker.socket.send(data)
                    code, reason = await speaker.closed()
                    assert (code, speaker.passed) == (expected, []), name
                    assert reason, name

    run(main())


def test_a_malformed_frame_later_ends_that_connection_alone(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path) as (url, _), bystanders(url):
            for number, (name, (data, expected)) in enumerate(LATER.items()):
                async with scripted_client(url, number=number + 1) as speaker:
                    await speaker.socket.send(data)
                    code, reason = await speaker.closed()
                    assert code == expected, name
                    assert reason, name
            async with scripted_client(url, number=100) as speaker:
                for stream in range(limits.MAX_OPEN_PARTS + 1):
                    await speaker.send(frames.Part(stream, 300_000, b"x"))
                assert (await speaker.closed())[0] == frames.Close.BAD_FRAME
            async with scripted_client(url, number=101) as speaker:
                await speaker.socket.send(b"x" * (limits.MAX_FRAME_BYTES + 1))
                assert (await speaker.closed())[0] == 1009  # RFC 6455: too big

    run(main())


def test_a_damaged_update_ends_that_connection_alone_with_a_reason(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path) as (url, relay), bystanders(url):
            for number, (name, update) in enumerate(damaged().items()):
                async with scripted_client(url, number=number + 1) as speaker:
                    await speaker.send(join("healthy"))
                    channel = (await speaker.expect(frames.Joined)).channel
                    await speaker.send(frames.Offer(channel, 1, update))
                    code, reason = await speaker.closed()
                    assert code == frames.Close.BAD_UPDATE, name
                    assert reason, name
            good = Author(5).insert(0, "x")
            for number, kind in enumerate((frames.Update, frames.Offer)):
                async with scripted_client(url, number=number + 100) as speaker:
                    await speaker.send(join("healthy"))
                    channel = (await speaker.expect(frames.Joined)).channel
                    await speaker.send(kind(channel, 2 * number, good))  # not the next one
                    assert (await speaker.closed())[0] == frames.Close.BAD_FRAME
            shared = relay._shared
            assert shared is not None
            await until(lambda: len(shared.connections) == 2)

    run(main())


def test_a_frame_for_a_channel_that_was_not_joined_is_passed_over(tmp_path: Path) -> None:
    async def main() -> None:
        async with (
            running(tmp_path) as (url, _),
            bystanders(url),
            scripted_client(url) as speaker,
        ):
            update = Author(5).insert(0, "intruder")
            for channel in range(5):
                await speaker.send(
                    frames.Offer(channel, 1, update),
                    frames.Awareness(channel, b"\0"),
                    frames.Leave(channel),
                )
            await speaker.send(frames.Ping(7))
            assert (await speaker.receive()) == frames.Pong(7)

    run(main())


def test_a_hello_that_does_not_come_is_not_waited_for(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path, hello_timeout_s=0.05) as (url, _):
            async with socket_to(url) as speaker:
                assert (await speaker.closed())[0] == frames.Close.SLOW_HELLO
            async with socket_to(url) as speaker:
                await speaker.send(HELLO)
                await speaker.expect(frames.Welcome)

    run(main())


def test_a_connection_that_says_nothing_is_ended_and_one_that_pings_is_not(tmp_path: Path) -> None:
    async def main() -> None:
        async with (
            running(tmp_path, idle_timeout_s=0.5) as (url, _),
            scripted_client(url, device=b"a" * 16) as silent,
            scripted_client(url, device=b"b" * 16) as pinging,
        ):
            number = 0
            while silent.socket.close_code is None:
                await pinging.send(frames.Ping(number))
                await pinging.expect(frames.Pong)
                number += 1
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0.1):
                        await silent.socket.wait_closed()
            assert number > 3
            assert silent.socket.close_code == frames.Close.IDLE
            await pinging.send(frames.Ping(99))
            await pinging.expect(frames.Pong)

    run(main())


async def knock(url: str, headers: dict[str, str]) -> int:
    """The HTTP status with which a relay answers a handshake that has these headers."""
    host, _, port = url.removeprefix("ws://").partition(":")
    lines = {
        "Host": f"{host}:{port}",
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Protocol": frames.SUBPROTOCOL,
        **headers,
    }
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        sent = "".join(f"{name}: {value}\r\n" for name, value in lines.items() if value)
        writer.write(f"GET /sync HTTP/1.1\r\n{sent}\r\n".encode())
        answer = await soon(reader.readline())
        return int(answer.split()[1])
    finally:
        writer.close()
        await writer.wait_closed()


ELSEWHERE = [
    {"Host": "evil.example"},
    {"Host": "127.0.0.1.evil.example:80"},
    {"Host": "[::2]:80"},
    {"Host": ""},
    {"X-Forwarded-For": "1.2.3.4"},
    {"X-Forwarded-Host": "a"},
    {"X-Real-IP": "1.2.3.4"},
    {"Forwarded": "for=1.2.3.4"},
    {"Origin": "https://evil.example"},
    {"Origin": "https://good.example.evil.example"},
    {"Origin": "http://good.example"},
    {"Origin": "null"},
    {"Sec-WebSocket-Protocol": "other"},
    {"Sec-WebSocket-Protocol": ""},
]
AT_HOME = [
    {},
    {"Host": "localhost"},
    {"Host": "localhost:1234"},
    {"Host": "[::1]:80"},
    {"Origin": "https://good.example"},
]


def test_an_open_relay_refuses_who_comes_from_elsewhere(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path, origins=("https://good.example",)) as (url, _):
            for headers in ELSEWHERE:
                assert await knock(url, headers) in (400, 403), headers
            for headers in AT_HOME:
                assert await knock(url, headers) == 101, headers

    run(main())


def test_a_page_from_elsewhere_is_not_even_asked_for_a_token(tmp_path: Path) -> None:
    async def nobody(_token: str | None, _request: HTTPConnection) -> User | None:
        raise AssertionError("who may not knock is not asked for a token")

    async def nothing(_user: User, _room: str) -> frames.Access:
        return frames.Access.NONE

    async def main() -> None:
        settings = Settings(data=tmp_path, port=0)
        relay = Relay(settings, authenticate=nobody, authorize=nothing)
        async with served(relay, settings) as url:
            assert await knock(url, {"Origin": "https://evil.example"}) == 403

    run(main())


def test_a_relay_without_rights_or_open_to_the_world_refuses_to_start(tmp_path: Path) -> None:
    async def somebody(_token: str | None, _request: HTTPConnection) -> User | None:
        return None

    async def something(_user: User, _room: str) -> frames.Access:
        return frames.Access.NONE

    with pytest.raises(collab.LocalError, match="denies by default"):
        Relay(Settings(data=tmp_path))
    with pytest.raises(collab.LocalError, match="both"):
        Relay(Settings(data=tmp_path, open=True), authenticate=somebody)
    with pytest.raises(collab.LocalError, match="both"):
        Relay(Settings(data=tmp_path, open=True), authorize=something)
    for host in ("0.0.0.0", "::", "192.168.1.2", "example.org", ""):
        with pytest.raises(collab.LocalError, match="loopback"):
            Settings(data=tmp_path, host=host, open=True)
    assert list(tmp_path.iterdir()) == []
