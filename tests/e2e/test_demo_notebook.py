"""``collab demo`` as its users run it: a notebook, somebody there, and a clean end."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

import collab
from collab.notebook.document import FRESH, Notebook
from collab.notebook.participant import NAME

DEMO = [sys.executable, "-c", "from collab.cli import main; main()", "demo"]


@contextmanager
def demo(data: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The running demo and its address."""
    with subprocess.Popen(
        [*DEMO, "--port", "0", "--data", str(data)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    ) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            found = re.fullmatch(r"notebook: (http://127\.0\.0\.1:\d+)/\n", line)
            assert found, line + process.stdout.read()
            yield process, found[1]
        finally:
            process.kill()


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_it_serves_a_page_and_a_participant_and_ends_on_a_signal(tmp_path: Path) -> None:
    async def visit(address: str) -> None:
        async with httpx.AsyncClient(base_url=address) as site:
            page = await site.get("/")
            assert page.status_code == 200
            assert "<title>Notebook</title>" in page.text
            assert (await site.get("/probe?nonce=" + "0" * 32)).json()["nonce"] == "0" * 32
        relay = address.replace("http", "ws")
        async with collab.open(":memory:", relay=relay, user={"name": "Ada"}) as client:
            room = await client.room("notebook", template=FRESH)
            await room.wait_synced(30)
            async with asyncio.timeout(30):
                while len(Notebook(room).cells) < 3:
                    await asyncio.sleep(0.05)
                names = []
                while NAME not in names:
                    await asyncio.sleep(0.05)
                    names = [state["user"]["name"] for state in room.presence.others().values()]
                greeting: list[str] = []
                while not greeting:
                    await asyncio.sleep(0.05)
                    greeting = [message.body for message in await room.chat.history()]
                assert greeting[0].startswith("Hello! I am a sample participant")
                sent = await room.chat.send("what about offline?")
                await sent.wait("read")
                answers: list[str] = []
                while len(answers) < 3:
                    await asyncio.sleep(0.05)
                    answers = [message.body for message in await room.chat.history()]
                assert "come back" in answers[-1]
            cells = Notebook(room).cells
            assert [cell.cell_type for cell in cells] == ["markdown", "code", "markdown"]

    for signalled in (signal.SIGINT, signal.SIGTERM):
        with demo(tmp_path) as (process, address):
            if signalled == signal.SIGINT:
                asyncio.run(visit(address))
            process.send_signal(signalled)
            assert process.stdout is not None
            said = process.stdout.read()
            assert process.wait(30) == 0, said
            assert "Ctrl-C ends it." in said
            assert "Traceback" not in said
            assert "kernel" not in said


def test_a_kernel_that_does_not_start_ends_it_with_one_readable_line(tmp_path: Path) -> None:
    hidden = tmp_path / "hidden"  # where jupyter_client is, and cannot be imported
    hidden.mkdir()
    (hidden / "jupyter_client.py").write_text("raise ImportError('not installed')")
    done = subprocess.run(
        [*DEMO, "--kernel", "--port", "0", "--data", str(tmp_path)],
        check=False,
        capture_output=True,
        text=True,
        timeout=100,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(hidden), *sys.path[1:]])},
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert done.stderr.startswith("collab: ")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["--quick"], "add --headless"),
        (["--headless", "--kernel"], "not of --headless"),
        (["--headless", "--port", "1"], "not of --headless"),
    ],
)
def test_options_of_the_other_demo_are_refused(options: list[str], why: str) -> None:
    done = subprocess.run(
        [*DEMO, *options], check=False, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2
    assert why in " ".join(done.stderr.replace("│", " ").split())
