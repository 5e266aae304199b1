"""Relays, wires, scripted peers and child processes for tests over real sockets. Not a test."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import sqlite3
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from pathlib import Path
from typing import Any, NoReturn, Self, TypeVar

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.typing import Origin, Subprotocol

import collab
from collab import limits
from collab.protocol import frames
from collab.protocol.backoff import BackoffSettings
from collab.protocol.codec import Reassembly, decode_from_client, decode_from_relay, encode, parts
from collab.storage.documents import Batch
from collab_server.app import Relay
from collab_server.auth import Authenticate, Authorize, MembersDecide
from collab_server.confirming import OnConfirm
from collab_server.gateway.rooms import ConnectionRooms
from collab_server.gateway.sync import SyncConnection
from collab_server.services import Service
from collab_server.serving import served
from collab_server.settings import Settings

T = TypeVar("T")
F = TypeVar("F", bound=frames.Frame)

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 20.0
SUBPROTOCOL = Subprotocol(frames.SUBPROTOCOL)
QUICK = collab.ClientSettings(
    connection=collab.ConnectionSettings(
        captive_first_s=0.05,
        captive_cap_s=0.1,
        backoff=BackoffSettings(base_s=0.02, cap_s=0.05, attempts_per_hour=1_000_000),
    ),
    retry_pauses_s=(0.01,),
)
"""Settings of a client that comes back within a twentieth of a second."""


def run(main: Coroutine[Any, Any, T]) -> T:
    """``asyncio.run`` that fails when anything in the background failed."""
    failures: list[dict[str, Any]] = []

    async def watched() -> T:
        asyncio.get_running_loop().set_exception_handler(
            lambda _, context: failures.append(context)
        )
        return await main

    result = asyncio.run(watched())
    assert not failures, failures
    return result


async def until(condition: Callable[[], object], *, timeout_s: float = TIMEOUT_S) -> None:
    """Return when ``condition()`` is true."""
    try:
        async with asyncio.timeout(timeout_s):
            while not condition():
                await asyncio.sleep(0.004)
    except TimeoutError:
        raise AssertionError("what was waited for did not happen") from None


async def reads(room: collab.Room, text: str, *, name: str = "body") -> None:
    """Return when the room's text is ``text``."""
    try:
        await until(lambda: str(room.text(name)) == text)
    except AssertionError:
        found = str(room.text(name))
        raise AssertionError(f"{found[:200]!r} instead of {text[:200]!r}; {room.status}") from None


async def soon(work: Awaitable[T], *, within_s: float = TIMEOUT_S) -> T:
    """Await ``work``, but not for ever."""
    async with asyncio.timeout(within_s):
        return await work


def give_up(why: str) -> NoReturn:
    """Skip a test that this machine lacks something for; on CI, which skips nothing, fail it."""
    if os.environ.get("CI") == "true":
        pytest.fail(why)
    pytest.skip(why)


# Disks


class Disk:
    """The commits of a client's documents: refused while ``is_full``."""

    def __init__(self, client: collab.Client) -> None:
        self.is_full = False
        self.refused = 0
        self._append = client._documents.append
        client._documents.append = self._try  # type: ignore[method-assign]

    async def _try(self, batches: Sequence[Batch]) -> list[list[int]]:
        if self.is_full:
            self.refused += 1
            raise collab.DiskFull("full")
        return await self._append(batches)


# Relays


@asynccontextmanager
async def running(
    data: Path,
    *,
    authenticate: Authenticate | None = None,
    authorize: Authorize | MembersDecide | None = None,
    services: Mapping[str, Service] | None = None,
    on_confirm: OnConfirm | None = None,
    **settings: Any,
) -> AsyncIterator[tuple[str, Relay]]:
    """A relay in this event loop, on a port that the system chose: its address, and itself."""
    chosen = Settings(data=data, port=0, open=authenticate is None, **settings)
    relay = Relay(
        chosen,
        authenticate=authenticate,
        authorize=authorize,
        services=services,
        on_confirm=on_confirm,
    )
    async with served(relay, chosen) as url:
        yield url, relay


def rooms_at(relay: Relay) -> list[ConnectionRooms]:
    """What the relay holds of the rooms of each ``/sync`` connection that was welcomed."""
    assert relay._shared is not None
    found = [each._rooms for each in relay._shared.connections if isinstance(each, SyncConnection)]
    return [rooms for rooms in found if rooms is not None]


def rows(data: Path) -> list[tuple[int, bytes]]:
    """(offset, update) of everything in a relay's log, also while the relay runs."""
    path = f"file:{Settings(data=data).log_path}?mode=ro"
    with contextlib.closing(sqlite3.connect(path, uri=True)) as log:
        return log.execute('SELECT "offset", data FROM updates ORDER BY "offset"').fetchall()


# A wire that counts, is cut, and leads elsewhere


class Wire:
    """A TCP forwarder in front of a relay: ``url`` stays, whatever happens behind it."""

    def __init__(self, target: str) -> None:
        self.target = target  # a relay's address, or "": then whoever connects is cut off
        self.up = 0  # bytes from clients
        self.down = 0  # bytes to clients
        self.accepted = 0
        self.url = ""
        self.up_limit = self.down_limit = 1 << 62  # nothing is read beyond it, until it is raised
        self._dials: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._pumps: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        # Small buffers: what is held back here is held back at the sender.
        listener = socket.create_server(("127.0.0.1", 0))
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32 * 1024)
        self._server = await asyncio.start_server(self._serve, sock=listener)
        self.url = f"ws://127.0.0.1:{listener.getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await self.cut()

    async def cut(self) -> None:
        """Cut every connection, without a goodbye."""
        dials = list(self._dials)
        if dials:
            await asyncio.wait(dials)
        for writer in list(self._writers):
            writer.transport.abort()
        pumps = list(self._pumps)
        if pumps:
            await asyncio.wait(pumps)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        dial = asyncio.create_task(self._dial(reader, writer))
        self._dials.add(dial)
        dial.add_done_callback(self._dials.discard)

    async def _dial(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host, _, port = self.target.removeprefix("ws://").partition(":")
        try:
            far_reader, far_writer = await asyncio.open_connection(host, int(port))
        except (OSError, ValueError):
            writer.transport.abort()
            return
        self._writers |= {writer, far_writer}
        up = asyncio.create_task(self._pump(reader, far_writer, "up"))
        down = asyncio.create_task(self._pump(far_reader, writer, "down"))
        for task in (up, down):
            self._pumps.add(task)
            task.add_done_callback(self._pumps.discard)

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, way: str
    ) -> None:
        try:
            while True:
                while getattr(self, way) >= getattr(self, way + "_limit"):
                    if writer.transport.is_closing():
                        return
                    await asyncio.sleep(0.002)
                data = await reader.read(65536)
                if not data:
                    break
                setattr(self, way, getattr(self, way) + len(data))
                writer.write(data)
                await writer.drain()
            writer.close()
            await writer.wait_closed()
        except OSError:
            writer.transport.abort()
        finally:
            self._writers.discard(writer)


# Scripted peers


@dataclass(eq=False)
class Speaker:
    """One end of a socket that speaks frames, told what to say by the test.

    A relay's end answers ENTER by itself, as one whose rooms have no messages, unless ``chats``.
    """

    socket: ClientConnection | ServerConnection
    decode: Callable[[bytes, int], frames.Frame]
    passed: list[frames.Frame] = field(default_factory=list)  # received, not waited for
    streams: int = 0
    chats: bool = False

    def __post_init__(self) -> None:
        self._reassembly = Reassembly(self.decode)

    async def send(self, *sent: frames.Frame) -> None:
        """Send frames, in parts where they are long."""
        for frame in sent:
            encoded = encode(frame)
            if len(encoded) <= limits.MAX_FRAME_BYTES:
                await self.socket.send(encoded)
                continue
            self.streams += 1
            for part in parts(encoded, self.streams):
                await self.socket.send(part)

    async def receive(self) -> frames.Frame:
        """The next whole frame."""
        while True:
            data = await soon(self.socket.recv())
            assert isinstance(data, bytes)
            frame = self.decode(data, limits.MAX_FRAME_BYTES)
            if isinstance(frame, frames.Enter) and not self.chats:
                await self.send(entered(frame))
                continue
            if not isinstance(frame, frames.Part):
                return frame
            whole = self._reassembly.add(frame)
            if whole is not None:
                return whole

    async def expect(self, kind: type[F]) -> F:
        """The next frame of this kind; what came before it is in ``passed``."""
        while True:
            frame = await self.receive()
            if isinstance(frame, kind):
                return frame
            self.passed.append(frame)

    async def closed(self) -> tuple[int, str]:
        """The code and reason with which the other end closes."""
        with contextlib.suppress(ConnectionClosed):
            while True:
                self.passed.append(await self.receive())
        assert self.socket.close_code is not None
        return self.socket.close_code, self.socket.close_reason or ""


@asynccontextmanager
async def socket_to(
    url: str, *, origin: str | None = None, headers: dict[str, str] | None = None
) -> AsyncIterator[Speaker]:
    """A bare socket to a relay, as a client has it before HELLO."""
    async with connect(
        url + "/sync",
        subprotocols=[SUBPROTOCOL],
        compression=None,
        max_size=limits.MAX_FRAME_BYTES,
        ping_interval=None,
        close_timeout=2,
        origin=None if origin is None else Origin(origin),
        additional_headers=headers,
    ) as socket:
        yield Speaker(socket, decode_from_relay)


@asynccontextmanager
async def scripted_client(
    url: str, *, device: bytes = b"d" * 16, number: int = 1, token: str | None = None
) -> AsyncIterator[Speaker]:
    """A welcomed connection to a relay."""
    async with socket_to(url) as speaker:
        await speaker.send(frames.Hello(frames.VERSION, b"n" * 16, device, number, token))
        welcome = await speaker.expect(frames.Welcome)
        assert welcome.nonce == b"n" * 16
        yield speaker


def join(
    room: str, *, request: int = 1, state_vector: bytes = b"\0", epoch: bytes | None = None
) -> frames.Join:
    """A JOIN without a place in the log."""
    return frames.Join(request, room, epoch, bytes(16), 0, state_vector)


class ScriptedRelay:
    """A WebSocket server that says what the test tells it to."""

    def __init__(self) -> None:
        self.url = ""
        self.probes = 0
        self.answers_probes = True
        self.visits: asyncio.Queue[Speaker] = asyncio.Queue()
        self.attempts = 0
        self._server: Server

    async def __aenter__(self) -> Self:
        self._server = await serve(
            self._visit,
            "127.0.0.1",
            0,
            subprotocols=[SUBPROTOCOL],
            compression=None,
            max_size=limits.MAX_FRAME_BYTES,
            ping_interval=None,
            close_timeout=2,
            process_request=self._probed,
        )
        port = next(iter(self._server.sockets)).getsockname()[1]
        self.url = f"ws://127.0.0.1:{port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await self._server.wait_closed()

    def _probed(self, connection: ServerConnection, request: Request) -> Response | None:
        path, _, nonce = request.path.partition("?nonce=")
        if path != "/probe":
            return None
        self.probes += 1
        if not self.answers_probes:
            return connection.respond(HTTPStatus.NOT_FOUND, "nothing here")
        answer = {"nonce": nonce, "relay": "72" * 16, "protocol": frames.VERSION}
        return connection.respond(HTTPStatus.OK, json.dumps(answer))

    async def _visit(self, socket: ServerConnection) -> None:
        self.attempts += 1
        self.visits.put_nowait(Speaker(socket, decode_from_client))
        await socket.wait_closed()

    async def visit(self) -> Speaker:
        """The next client that connects, before its HELLO was read."""
        return await soon(self.visits.get())

    async def welcomed(self, *, generation: bytes = b"g" * 16) -> Speaker:
        """The next client that connects, welcomed."""
        visit = await self.visit()
        hello = await visit.expect(frames.Hello)
        await visit.send(frames.Welcome(frames.VERSION, hello.nonce, b"r" * 16, generation))
        return visit


def joined(
    request: frames.Join,
    *,
    channel: int = 7,
    good: bool = False,
    head: int = 0,
    state_vector: bytes = b"\0",
    access: frames.Access = frames.Access.WRITE,
) -> frames.Joined:
    """A relay's answer to ``request``."""
    epoch = request.epoch or b"e" * 16
    return frames.Joined(
        request.request, channel, epoch, good, head, state_vector, int(access)
    )  # fmt: skip


def entered(request: frames.Enter, **fields: Any) -> frames.Entered:
    """A relay's answer to ``request``: the lane and the mark are good, and nothing is new."""
    answer = frames.Entered(
        channel=request.channel, lane_seq=request.lane_seq, outcomes=b"\x90", good=True,
        after=request.seq, head=request.seq, oldest=1, read_upto=0, unread=0, user="me",
    )  # fmt: skip
    return replace(answer, **fields)


# Child processes


class Child:
    """A Python program of the tests' own; it is killed by its id at the latest with the block."""

    def __init__(self, *arguments: object) -> None:
        self._arguments = [str(argument) for argument in arguments]

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", *self._arguments,
            cwd=ROOT, stdout=asyncio.subprocess.PIPE, limit=1 << 20,
        )  # fmt: skip
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.kill()

    async def line(self) -> str:
        """The next line that it prints."""
        assert self._process.stdout is not None
        line = (await soon(self._process.stdout.readline())).decode()
        assert line.endswith("\n"), f"{self._arguments} ended after {line!r}"
        return line.rstrip("\n")

    async def rest(self, *, within_s: float = TIMEOUT_S) -> list[str]:
        """The whole lines that it printed until its end."""
        assert self._process.stdout is not None
        data = await soon(self._process.stdout.read(), within_s=within_s)
        return data.decode().rpartition("\n")[0].splitlines()

    async def kill(self) -> None:
        """SIGKILL; returns when the process is gone."""
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()

    def terminate(self) -> None:
        """SIGTERM."""
        self._process.terminate()

    async def ended(self) -> int:
        """Its exit status, once it ends by itself."""
        return await soon(self._process.wait())


@asynccontextmanager
async def relay_process(
    data: Path, *, stall: Path | None = None
) -> AsyncIterator[tuple[Child, str]]:
    """A relay in a process of its own, as operators run it; and its address.

    With ``stall`` no commit of updates ends as long as that file exists.
    """
    if stall is None:
        child = Child("collab_server", "--open", "--port", 0, "--data", data)
    else:
        child = Child("tests.e2e.stalling_relay", data, stall)
    async with child:
        word, url = (await child.line()).split()
        assert word == "relay:"
        yield child, url
