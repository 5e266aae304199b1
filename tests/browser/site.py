"""A relay and a web page beside it, for a browser. Not a test."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from starlette.responses import HTMLResponse
from starlette.routing import Route

from collab.testing import TestRelay
from collab_server.app import Relay
from collab_server.hooks import OnMessage
from collab_server.serving import listen
from collab_server.settings import Settings

PACKAGE = Path(__file__).parent.parent.parent / "browser"
_STAMP = PACKAGE / "node_modules" / ".package-lock.json"  # npm writes it last

PAGE = """<!doctype html><meta charset="utf-8"><title>collab</title>
<script type="module">{script}</script>"""


def need_package() -> None:
    """Install what the package's lock file names, once."""
    with (PACKAGE / "package.json").open() as alone:  # tests run in several processes
        fcntl.flock(alone, fcntl.LOCK_EX)
        _install()


def _install() -> None:
    if (
        _STAMP.exists()
        and _STAMP.stat().st_mtime >= (PACKAGE / "package-lock.json").stat().st_mtime
    ):
        return
    run("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund")
    os.utime(_STAMP)


def build_harness(into: Path, *, published: bool = False) -> str:
    """The script of the test page: Yjs and the package, from its sources or as it is published."""
    need_package()
    entry = ["dist"] if published else []
    if published:
        run("node", "build.mjs")
    run("node", "harness/build.mjs", str(into / "harness.js"), *entry)
    return (into / "harness.js").read_text()


def run(*command: str) -> None:
    """Run a command in the package's folder; it must succeed."""
    program = shutil.which(command[0])
    assert program is not None, f"{command[0]} is missing"
    done = subprocess.run(
        [program, *command[1:]], cwd=PACKAGE, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{' '.join(command)} failed\n{done.stdout}\n{done.stderr}"


@asynccontextmanager
async def site(
    data: Path, script: str, *, on_message: OnMessage | None = None
) -> AsyncIterator[TestRelay]:
    """A relay that also serves the test page at ``/``; its URL without ``ws`` is the origin."""
    probe = listen(Settings(data=data, open=True, port=0))
    port = probe.getsockname()[1]
    probe.close()
    settings = Settings(data=data, open=True, port=port, origins=(f"http://127.0.0.1:{port}",))
    app = Relay(settings, on_message=on_message)
    page = HTMLResponse(PAGE.replace("{script}", script))
    app.routes.append(Route("/", lambda _request: page))
    async with app.lifespan():
        running = TestRelay(f"ws://127.0.0.1:{port}", settings, app)
        await running._start()
        try:
            yield running
        finally:
            await running._serving.aclose()
