"""What every program at a terminal does around its screen: signals and warnings."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from collab.terminal.conversation import Conversation

__all__ = ["is_at_a_terminal", "logged_as_notices", "signals"]


def is_at_a_terminal() -> bool:
    """Whether keys come from one, and what is shown goes to one. A closed stream is None."""
    return all(one is not None and one.isatty() for one in (sys.stdin, sys.stdout))


@contextmanager
def signals(leave: Callable[[], object], *names: str) -> Iterator[None]:
    """A signal is a wish to leave, not an end in the middle. (Windows has Ctrl-C alone.)"""
    if sys.platform == "win32":
        yield
        return
    loop = asyncio.get_running_loop()
    numbers = [signal.Signals[name] for name in names]
    for number in numbers:
        loop.add_signal_handler(number, leave)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


class _Notices(logging.Handler):
    def __init__(self, conversation: Conversation) -> None:
        super().__init__(logging.WARNING)
        self._conversation = conversation

    def emit(self, record: logging.LogRecord) -> None:
        self._conversation.warned(f"{record.name}: {record.getMessage()}")


@contextmanager
def logged_as_notices(conversation: Conversation) -> Iterator[None]:
    """What is logged would be written across the screen."""
    handler, root = _Notices(conversation), logging.getLogger()
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)
