"""pycrdt and y-py come to the same content, whatever the history: text, formats, map and array."""

from __future__ import annotations

import asyncio

import pytest

from tests.contract.engines import needs_ypy
from tests.e2e.support import Child

HISTORIES = 1000
PROCESSES = 2
PATIENCE_S = 200.0  # of a machine with a lot else to do; 10 s are usual


async def _play(first: int, count: int) -> list[str]:
    async with Child("tests.property.engine_histories", first, count) as child:
        return await child.rest(within_s=PATIENCE_S)


@needs_ypy
@pytest.mark.timeout(240)
def test_a_thousand_causal_histories_end_in_the_same_content_with_both_engines() -> None:
    async def main() -> None:
        each = HISTORIES // PROCESSES
        said = await asyncio.gather(*(_play(n * each, each) for n in range(PROCESSES)))
        assert said == [["done"]] * PROCESSES

    asyncio.run(main())
