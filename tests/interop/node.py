"""Node with Yjs and y-websocket in it, for the tests beside this file. Not a test."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.e2e.support import give_up
from tests.npm import install

HERE = Path(__file__).parent
_LINE_BYTES = 64 * 1024 * 1024


def need_node() -> None:
    """Install what package-lock.json names, once; without Node or npm skip, on CI fail."""
    missing = [name for name in ("node", "npm") if shutil.which(name) is None]
    if missing:
        give_up(f"{' and '.join(missing)} missing: nothing is tried against stock Yjs")
    try:
        install(HERE, "--omit=optional")
    except AssertionError as error:
        give_up(f"nothing is tried against stock Yjs: {error}")


class Node:
    """A script that answers each line of JSON with one, in any order."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._asked: dict[int, asyncio.Future[Any]] = {}
        self._count = 0

    async def ask(self, question: dict[str, Any]) -> Any:
        """The answer to ``question``."""
        writer = self._process.stdin
        assert writer is not None
        self._count += 1
        answer = self._asked[self._count] = asyncio.get_running_loop().create_future()
        writer.write(json.dumps({"number": self._count} | question).encode() + b"\n")
        await writer.drain()
        return await answer

    async def listen(self) -> None:
        """Give answers to who asked, until Node ends."""
        reader = self._process.stdout
        assert reader is not None
        async for line in reader:
            answer = json.loads(line)
            self._asked.pop(answer["number"]).set_result(answer["found"])
        for asked in self._asked.values():
            asked.set_exception(RuntimeError("Node ended; its own error is above"))

    async def do(self, command: str, peer: str, **details: Any) -> Any:
        """Have a provider of providers.mjs do something."""
        return await self.ask({"command": command, "id": peer, **details})


@asynccontextmanager
async def running_node(script: str) -> AsyncIterator[Node]:
    """A Node process that runs a script of this folder."""
    process = await asyncio.create_subprocess_exec(
        "node", script, cwd=HERE, limit=_LINE_BYTES,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    node = Node(process)
    listening = asyncio.create_task(node.listen())
    try:
        yield node
    finally:
        assert process.stdin is not None
        process.stdin.close()
        try:
            async with asyncio.timeout(5):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
        await listening
