"""The processes of the demo and the links between them: started, listened to, killed, ended."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Final

from collab.demo import talk
from collab.demo.board import Board, Replica
from collab.demo.link import Link
from collab.demo.player import MESSAGES, Part, Report
from collab.demo.processes import Child

_START_S: Final = 30.0  # for a process to say its first word
_RELAY: Final = "the relay"


class DemoFailed(Exception):
    """The demo did not reach its end; the message says why."""


class Stage:
    """A relay and clients in ``folder``, a process and a folder each; links go to the relay.

    ``tell`` is given a line for people, ``hear`` each client's reports. What goes wrong in the
    background fails ``tasks`` with :class:`DemoFailed`.
    """

    def __init__(
        self,
        folder: Path,
        board: Board,
        *,
        tasks: asyncio.TaskGroup,
        tell: Callable[[str], None],
        hear: Callable[[Replica, Report], None],
    ) -> None:
        self._folder = folder
        self._board = board
        self._tasks = tasks
        self._tell = tell
        self._hear = hear
        self._relay: Child | None = None
        self._target: tuple[str, int] | None = None
        self._links: dict[str, Link] = {}
        self._clients: dict[str, Child] = {}
        self._listeners: dict[str, asyncio.Task[None]] = {}
        self._doomed: set[str] = set()  # whose end is our own doing

    # The relay

    async def start_relay(self) -> None:
        """Start it, again perhaps, and point all links to it."""
        folder = self._folder / "relay"
        folder.mkdir(exist_ok=True)
        self._relay = child = await Child.start(
            "collab_server",
            ["--open", "--port", "0", "--data", str(folder)],
            log=folder / "log.txt",
            terminates=True,
        )
        self._doomed.discard(_RELAY)
        with suppress(TimeoutError):
            async with asyncio.timeout(_START_S):
                async for line in child.lines():
                    if line.startswith("relay: ws://"):
                        self._tell(line)
                        host, _, port = line.removeprefix("relay: ws://").rpartition(":")
                        self._point((host, int(port)))
                        self._tasks.create_task(self._watch_relay(child))
                        return
        await child.kill()
        raise DemoFailed(f"the relay did not start:\n{child.last_words()}")

    async def kill_relay(self) -> None:
        """SIGKILL."""
        assert self._relay is not None
        self._doomed.add(_RELAY)
        self._point(None)
        self._board.relay_kills += 1
        await self._relay.kill()

    async def _watch_relay(self, child: Child) -> None:
        status = await child.wait()
        if _RELAY not in self._doomed:
            raise DemoFailed(f"the relay ended by itself, status {status}:\n{child.last_words()}")

    def _point(self, target: tuple[str, int] | None) -> None:
        self._target = target
        self._board.relay_alive = target is not None
        for link in self._links.values():
            link.target = target

    # Clients

    async def start_client(self, replica: Replica, part: Part) -> None:
        """Start one, again perhaps; ``part`` needs to say only what it is to type."""
        name = replica.name
        self._board.replicas[name] = replica
        if name not in self._links:
            self._links[name] = Link()
            self._links[name].target = self._target
            await self._links[name].start()
        folder = self._folder / name
        folder.mkdir(exist_ok=True)
        whole = {
            **asdict(part),
            "name": name,
            "store": str(folder / "store.db"),
            "relay": self._links[name].url,
            "copies": str(folder),
        }
        child = self._clients[name] = await Child.start(
            "collab.demo.player", [json.dumps(whole)], log=folder / "log.txt"
        )
        self._doomed.discard(name)
        self._listeners[name] = self._tasks.create_task(self._listen(replica, child))

    async def kill_client(self, replica: Replica) -> None:
        """SIGKILL; then all that it had said has been heard."""
        self._doomed.add(replica.name)
        await self._clients[replica.name].kill()
        await self._listeners[replica.name]
        replica.alive = False
        replica.kills += 1

    def link(self, name: str) -> Link:
        """A client's network."""
        return self._links[name]

    def copies(self, name: str, texts: tuple[str, ...]) -> dict[str, str]:
        """What a client, ended by now, left as its texts."""
        folder = self._folder / name
        return {text: (folder / f"{text}.txt").read_bytes().decode() for text in texts}

    def messages(self, name: str) -> list[talk.Said]:
        """The messages that a client, ended by now, has."""
        return talk.load((self._folder / name / MESSAGES).read_text("utf-8"))

    async def _listen(self, replica: Replica, child: Child) -> None:
        """Until this life of the client ends."""
        try:
            async with asyncio.timeout(_START_S) as patience:
                async for line in child.lines():
                    patience.reschedule(None)
                    self._hear(replica, Report(**json.loads(line)))
        except TimeoutError:
            raise DemoFailed(f"{replica.name} said nothing for {_START_S:.0f} s") from None
        if replica.name not in self._doomed:
            raise DemoFailed(f"{replica.name} ended by itself:\n{child.last_words()}")

    # The end

    async def end(self) -> None:
        """Everybody ends by themselves, and properly; clients first."""
        self._doomed.update(self._clients, [_RELAY])
        everybody = list(self._clients.items())
        if self._relay is not None:
            everybody.append((_RELAY, self._relay))
        for name, child in everybody:
            try:
                status = await child.end()
            except TimeoutError:
                raise DemoFailed(f"{name} did not end when it was asked to") from None
            if status:
                raise DemoFailed(f"{name} ended with status {status}:\n{child.last_words()}")

    async def clear(self) -> None:
        """Whatever happened: no process and no socket is left."""
        children = [*self._clients.values(), *([self._relay] if self._relay else [])]
        for child in children:
            child.kill_now()
        for child in children:
            await child.kill()
        for link in self._links.values():
            await link.close()
