"""A relay and a web page beside it, for a browser. Not a test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from starlette.requests import HTTPConnection
from starlette.responses import HTMLResponse
from starlette.routing import BaseRoute, Route

from collab.fault_proxy import FaultProxy
from collab.testing import TestRelay
from collab_server.app import Relay
from collab_server.auth import Authorize, User
from collab_server.confirming import OnConfirm
from collab_server.hooks import OnMessage
from collab_server.services import Service
from collab_server.serving import listen
from collab_server.settings import Settings
from tests.npm import install, run

PACKAGE = Path(__file__).parent.parent.parent / "browser"

PAGE = """<!doctype html><meta charset="utf-8"><title>collab</title>
<script type="module">{script}</script>"""


def build_harness(into: Path, *, published: bool = False) -> str:
    """The script of the test page: Yjs and the package, from its sources or as it is published."""
    install(PACKAGE)
    entry = ["dist"] if published else []
    if published:
        run(PACKAGE, "node", "build.mjs")
    run(PACKAGE, "node", "harness/build.mjs", str(into / "harness.js"), *entry)
    return (into / "harness.js").read_text()


@asynccontextmanager
async def site(
    data: Path,
    script: str,
    *proxies: FaultProxy,
    on_message: OnMessage | None = None,
    on_confirm: OnConfirm | None = None,
    services: Mapping[str, Service] | None = None,
    authorize: Authorize | None = None,
) -> AsyncIterator[TestRelay]:
    """A relay that also serves the test page at ``/``; its URL without ``ws`` is the origin.

    Pages may also come through these proxies.
    """
    page = HTMLResponse(PAGE.replace("{script}", script))
    routes = [Route("/", lambda _request: page)]
    relaying = relay_with(
        routes,
        data,
        *proxies,
        on_message=on_message,
        on_confirm=on_confirm,
        services=services,
        authorize=authorize,
    )
    async with relaying as relay:
        yield relay


@asynccontextmanager
async def relay_with(
    routes: Sequence[BaseRoute],
    data: Path,
    *proxies: FaultProxy,
    on_message: OnMessage | None = None,
    on_confirm: OnConfirm | None = None,
    services: Mapping[str, Service] | None = None,
    authorize: Authorize | None = None,
) -> AsyncIterator[TestRelay]:
    """A relay that has these pages, too; their users may also come through these proxies.

    Everybody may do everything, unless ``authorize`` says otherwise. Then a token is who has it.
    """
    probe = listen(Settings(data=data, open=True, port=0))
    port = probe.getsockname()[1]
    probe.close()
    allowed = [f"http://127.0.0.1:{port}", *(one.url.replace("ws", "http", 1) for one in proxies)]
    settings = Settings(data=data, open=authorize is None, port=port, origins=allowed)
    app = Relay(
        settings,
        authenticate=_named if authorize is not None else None,
        authorize=authorize,
        on_message=on_message,
        on_confirm=on_confirm,
        services=services,
    )
    app.routes.extend(routes)
    for one in proxies:
        one.target = f"ws://127.0.0.1:{port}"
    async with app.lifespan():
        running = TestRelay(f"ws://127.0.0.1:{port}", settings, app)
        await running._start()
        try:
            yield running
        finally:
            await running._serving.aclose()


async def _named(token: str | None, _request: HTTPConnection) -> User:
    return User(token or "anybody")
