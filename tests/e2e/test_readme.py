"""README's code runs as it is printed; only the relay's address is the test's own."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from pathlib import Path

import pytest

import collab
from collab import testing

README = Path(__file__).parent.parent.parent / "README.md"
BLOCK = re.compile(r"<!-- test: ([a-z-]+) -->\n```python\n(.*?)```", re.DOTALL)
PRINTED_ADDRESS = "ws://127.0.0.1:8765"


def blocks() -> dict[str, str]:
    return dict(BLOCK.findall(README.read_text()))


async def run(code: str, folder: Path) -> str:
    async with testing.relay() as relay:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-W", "error", "-c", code.replace(PRINTED_ADDRESS, relay.url),
            cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        out, err = await asyncio.wait_for(process.communicate(), 60)
        assert process.returncode == 0, err.decode()
        assert not err, err.decode()
        return out.decode()


def test_every_python_block_of_the_readme_is_tested() -> None:
    assert README.read_text().count("```python") == len(blocks()) == 5


@pytest.mark.parametrize("name", list(blocks()))
def test_the_readmes_code_runs_as_printed(name: str, tmp_path: Path) -> None:
    output = asyncio.run(run(blocks()[name], tmp_path))
    if name == "make-template":
        update, sha256 = output.split()
        made = collab.Template(bytes.fromhex(update), sha256=sha256)
        assert len(made.clients) == 1
        assert max(made.clients) < 2**32
    if name == "chat":
        assert "queued" in output
        assert output.splitlines()[-1] == "1 read 1"
    if name == "two-clients":
        assert "Ada was here." in output
        assert "Ben was here." in output
