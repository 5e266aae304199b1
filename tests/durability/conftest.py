"""What SIGKILL leaves of a file does not depend on the disk, so these files need none."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

_MEMORY = "/dev/shm"  # on Linux, where an fsync of what is in there costs nothing


@pytest.fixture
def quick_path(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory where there is one, otherwise on the disk."""
    if not os.access(_MEMORY, os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(prefix="collab-", dir=_MEMORY) as folder:
        yield Path(folder)
