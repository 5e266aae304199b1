"""The engines that the suites run on. Not a test.

To try another engine on the contract, give it a name in ``collab.crdt.engines`` and add it here.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest

from collab.crdt.engines import make_replica
from collab.crdt.replica import Replica
from collab.text import Text, TextChanged

needs_ypy = pytest.mark.skipif(
    sys.version_info >= (3, 13), reason="y-py cannot be installed on Python 3.13 and newer"
)
ENGINES = ["pycrdt", pytest.param("y-py", marks=needs_ypy)]
PAIRS = [
    pytest.param("pycrdt", "y-py", marks=needs_ypy),
    pytest.param("y-py", "pycrdt", marks=needs_ypy),
]


class Device:
    """A replica with its event loop's turn and its outgoing updates in lists."""

    def __init__(self, engine: str, client_id: int = 1, content: str = "") -> None:
        self.turn: list[Callable[[], None]] = []
        self.sent: list[bytes] = []
        self.replica: Replica = make_replica(
            client_id, engine=engine, call_soon=self.turn.append, on_local=self.sent.append
        )
        self.text: Text = self.replica.text("body")
        self.text.insert(0, content)

    def run(self) -> list[Exception]:
        """One turn of the event loop; what callbacks raise is what its handler would get."""
        errors: list[Exception] = []
        while self.turn:
            try:
                self.turn.pop(0)()
            except Exception as error:
                errors.append(error)
        return errors

    def record(self) -> list[TextChanged]:
        """What observers of the text are told from now on, once ``run`` was called."""
        events: list[TextChanged] = []
        self.text.observe(events.append)
        return events
