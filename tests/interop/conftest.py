"""All tests here need Node; one of them needs 40 seconds, and has them beside the others."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from inspect import signature
from pathlib import Path
from typing import Any

import pytest

from tests.interop.lone_clients import stay
from tests.interop.node import need_node

Report = dict[str, Any]
LONE_S = 40.0


@pytest.fixture(scope="session", autouse=True)
def node_is_there() -> None:
    """Skip, or on CI fail, where stock Yjs cannot be had."""
    need_node()


@pytest.fixture(scope="session", autouse=True)
def lone_clients(
    node_is_there: None, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Future[dict[str, Report]] | None]:
    """Clients that are alone in their rooms, from the first test here until they are asked for."""
    tests = (item.function for item in request.session.items if isinstance(item, pytest.Function))
    if not any("lone_clients" in signature(test).parameters for test in tests):
        yield None
        return
    data: Path = tmp_path_factory.mktemp("lone")
    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(lambda: asyncio.run(stay(data, LONE_S)))
