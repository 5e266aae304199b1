"""Where the files of these tests are: SIGKILL needs no disk, and a full disk needs a small one."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.support import give_up

_MEMORY = "/dev/shm"  # on Linux, where an fsync of what is in there costs nothing


@pytest.fixture
def quick_path(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory where there is one, otherwise on the disk."""
    if not os.access(_MEMORY, os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(prefix="collab-", dir=_MEMORY) as folder:
        yield Path(folder)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A tmpfs of 768 KiB; where mounting is not allowed, skip, or on CI fail."""
    place = tmp_path / "small"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=768k", "tmpfs", str(place)]
    try:
        mounted = subprocess.run(mount, check=False, capture_output=True).returncode == 0
    except FileNotFoundError:
        mounted = False
    if not mounted:
        give_up("mounting a tmpfs is not allowed here: of a full disk only RLIMIT_FSIZE is tried")
    yield place
    subprocess.run(["umount", str(place)], check=True)
