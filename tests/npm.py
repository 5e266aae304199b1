"""npm packages for tests, installed by their lock file. Not a test."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from pathlib import Path

__all__ = ["install", "run"]


def install(folder: Path, *options: str) -> None:
    """Install what the lock file of ``folder`` names, unless it is. Raises AssertionError."""
    with (folder / "package.json").open() as alone:  # tests run in several processes
        fcntl.flock(alone, fcntl.LOCK_EX)
        stamp = folder / "node_modules" / ".package-lock.json"  # npm writes it last
        lock = folder / "package-lock.json"
        if not stamp.exists() or stamp.stat().st_mtime < lock.stat().st_mtime:
            run(folder, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", *options)
            os.utime(stamp)


def run(folder: Path, *command: str) -> None:
    """Run a command there. Raises AssertionError, with what it said, unless it succeeds."""
    program = shutil.which(command[0])
    assert program is not None, f"{command[0]} is missing"
    done = subprocess.run(
        [program, *command[1:]], cwd=folder, capture_output=True, text=True, check=False
    )
    said = f"{done.stdout}\n{done.stderr}"[-4000:]
    assert done.returncode == 0, f"{' '.join(command)} failed\n{said}"
