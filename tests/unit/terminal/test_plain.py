"""The chat in lines: no line that was read is passed over without a word."""

from __future__ import annotations

import asyncio
import io
from typing import Any

from collab.terminal.plain import FAILED, Plain
from collab.terminal.transcript import Transcript
from tests.e2e.support import run, soon, until


class Held:
    """A conversation whose first line takes until ``goes_on``."""

    def __init__(self) -> None:
        self.transcript = Transcript()
        self.sent: list[Any] = []
        self.failures = 0
        self.done: list[str] = []
        self.connection = None
        self.goes_on = asyncio.Event()

    async def do(self, line: str) -> bool:
        self.done.append(line)
        await self.goes_on.wait()
        return False


class Torn(io.BytesIO):
    """An input that cannot be read behind its first line: a terminal that is gone, a bad disk."""

    def readline(self, size: int | None = -1, /) -> bytes:
        if self.tell():
            raise OSError(5, "Input/output error")
        return super().readline(size)


def test_a_signal_between_the_lines_says_how_many_were_not_done() -> None:
    async def main() -> None:
        held, out, errors = Held(), io.StringIO(), io.StringIO()
        plain = Plain(io.BytesIO(b"one\ntwo\nthree\n"), out, errors, wait_s=0)
        held_any: Any = held
        running = asyncio.create_task(plain.run(held_any))
        await until(lambda: held.done and plain._lines.qsize() == 3)  # two lines, and the end
        plain.leave()
        held.goes_on.set()
        assert await soon(running) == FAILED
        assert held.done == ["one"]
        assert "2 or more of its lines were read, and neither sent nor saved" in errors.getvalue()

    run(main())


def test_an_input_that_cannot_be_read_ends_it_and_is_said() -> None:
    async def main() -> None:
        held, errors = Held(), io.StringIO()
        held.goes_on.set()
        held_any: Any = held
        plain = Plain(Torn(b"one\ntwo\n"), io.StringIO(), errors, wait_s=0)
        assert await soon(plain.run(held_any)) == FAILED
        assert held.done == ["one"]
        assert "cannot be read any further: Input/output error" in errors.getvalue()

    run(main())
