"""The replica worker without its guard, and with a few updates that mean trouble.

What ends an engine never passes the guard as far as anybody knows; the relay must survive the day
when somebody finds out more.
"""

from __future__ import annotations

import time
from typing import Any

from collab.crdt.server_replica import ServerReplica
from collab.protocol.coverage import Coverage
from collab_server import replica_worker

HANG = b"hang"
PRINT = b"print"


def _no_guard(update: bytes) -> Any:
    if update == HANG:
        time.sleep(3600)
    if update == PRINT:
        print("x" * 100_000, flush=True)
    return None


class _NoCoverage(Coverage):
    def add(self, walk: Any) -> None:
        pass


class _Replica(ServerReplica):
    def apply(self, updates: Any) -> None:
        super().apply(update for update in updates if update not in (HANG, PRINT))


if __name__ == "__main__":
    vars(replica_worker).update(walk=_no_guard, Coverage=_NoCoverage, ServerReplica=_Replica)
    replica_worker.main()
