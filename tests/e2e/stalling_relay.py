"""A relay whose commits of updates do not end while a file exists: ``stalling_relay DATA FILE``.

What it shows meanwhile is certainly not durable. Everything else is the relay that operators run.
"""

from __future__ import annotations

import sqlite3
import sys
import time
from pathlib import Path
from typing import Any

from collab_server.app import Relay
from collab_server.log.sqlite import SqliteLog
from collab_server.serving import run
from collab_server.settings import Settings

STALL = Path(sys.argv[2])


class Stalling(sqlite3.Connection):
    """Stops before COMMIT, for as long as the file is there and updates are at stake."""

    def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
        while sql == "COMMIT" and STALL.exists() and self.in_transaction:
            time.sleep(0.005)
        return super().execute(sql, *parameters)


def connect(path: str) -> sqlite3.Connection:
    return sqlite3.connect(path, factory=Stalling)


class StallingLog(SqliteLog):
    """The relay's log, on such connections."""

    @classmethod
    async def open(cls, path: str | Path, **arguments: Any) -> SqliteLog:
        return await SqliteLog.open(path, **arguments, factory=connect)


def main() -> None:
    import collab_server.app

    vars(collab_server.app)["SqliteLog"] = StallingLog
    settings = Settings(data=Path(sys.argv[1]), port=0, open=True)
    run(Relay(settings), settings, on_ready=lambda url: print(f"relay: {url}", flush=True))


if __name__ == "__main__":
    main()
