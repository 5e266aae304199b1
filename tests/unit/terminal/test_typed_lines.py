"""Lines that somebody typed: each is done once, in order, whatever becomes of the others."""

from __future__ import annotations

import pytest

from collab.terminal.typed_lines import TypedLines
from tests.e2e.support import run


def test_a_fault_in_one_line_names_it_and_holds_up_neither_the_others_nor_leaving(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> list[str]:
        done = []

        async def do(line: str) -> None:
            if line == "bad":
                raise RuntimeError("a fault")
            done.append(line)

        lines = TypedLines(do)
        async with lines.being_done():
            assert all(map(lines.put, ("one", "bad", "two")))
        return done

    assert run(main()) == ["one", "two"]
    assert "what was typed is not done: bad" in caplog.text
