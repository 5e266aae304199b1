"""A real relay inside your own tests, with a switch that takes it offline.

async with collab.testing.relay() as relay, collab.open(":memory:", relay=relay.url) as client:
    async with relay.offline():
        ...  # edits go on, saved on the device
    ...      # and come together again

And a network that is as bad as you want it: ``proxy(relay.url)``, see :class:`FaultProxy`.
"""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from collab.fault_proxy import Direction, FaultProxy, Portal

if TYPE_CHECKING:
    from collab_server.app import Relay
    from collab_server.services import Service
    from collab_server.settings import Settings

__all__ = ["Direction", "FaultProxy", "Portal", "TestRelay", "proxy", "relay"]


class TestRelay:
    """A running relay. ``url`` stays the same while it goes offline and comes back."""

    __test__ = False  # not a test case, whatever pytest thinks of its name

    def __init__(self, url: str, settings: Settings, app: Relay) -> None:
        self.url = url
        self._settings = settings
        self._app = app
        self._serving = AsyncExitStack()

    @asynccontextmanager
    async def offline(self) -> AsyncIterator[None]:
        """While the block runs, nothing listens at ``url``, and every connection is cut."""
        await self._serving.aclose()
        try:
            yield
        finally:
            await self._start()

    async def _start(self) -> None:
        from collab_server.serving import listening

        await self._serving.enter_async_context(listening(self._app, self._settings))


@asynccontextmanager
async def relay(
    data: Path | None = None, *, services: Mapping[str, Service] | None = None
) -> AsyncIterator[TestRelay]:
    """A relay for this test, open to this machine, on a port that the system chooses.

    Its log is in ``data``, or in a folder that is gone afterwards. ``services`` are what
    ``room.call`` reaches.
    """
    try:
        from collab_server.app import Relay
        from collab_server.serving import address, listen
        from collab_server.settings import Settings
    except ImportError as error:  # pragma: no cover - the wheel carries both packages
        raise RuntimeError("collab.testing needs the package collab_server") from error

    with contextlib.ExitStack() as folders:
        if data is None:
            data = Path(folders.enter_context(tempfile.TemporaryDirectory(prefix="collab-")))
        probe = listen(Settings(data=data, open=True, port=0))
        url, port = address(probe), probe.getsockname()[1]
        probe.close()
        settings = Settings(data=data, open=True, port=port)
        app = Relay(settings, services=services)
        async with app.lifespan():
            running = TestRelay(url, settings, app)
            await running._start()
            try:
                yield running
            finally:
                await running._serving.aclose()
                await asyncio.sleep(0)


def proxy(target: str, *, seed: int = 0) -> FaultProxy:
    """A TCP proxy in front of ``target``: ``async with`` it, and give its ``url`` to a client.

    ``seed`` is of the bits that ``corrupt`` flips.
    """
    return FaultProxy(target, seed=seed)
