"""Every log that broke an engine, a relay or a device once: it does not any more."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.hostile.fuzz import replay
from tests.hostile.generator import CORPUS


@pytest.mark.parametrize("path", sorted(CORPUS.glob("*.bin")), ids=lambda path: path.stem)
def test_a_log_that_broke_something_breaks_nothing_now(path: Path) -> None:
    status, said = replay(path)
    assert (status, said) == (0, "")


def test_the_corpus_is_small() -> None:
    assert sum(path.stat().st_size for path in CORPUS.glob("*.bin")) < 256 * 1024
