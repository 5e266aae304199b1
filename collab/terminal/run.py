"""The command ``collab chat``: which of the two ways to show it, and how it ends for the shell."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from collab.client import open as open_client
from collab.connection import Token
from collab.terminal.conversation import Conversation
from collab.terminal.places import default_store, make_folder, token_source
from collab.terminal.plain import ACCEPTED, Plain

__all__ = ["Chat", "run_chat"]

_SIGNALS: Final = ("SIGTERM", "SIGHUP", "SIGINT")


@dataclass(frozen=True, slots=True)
class Chat:
    """What was asked for. ``store`` None: this user's own."""

    room: str
    store: Path | None
    relay: str | None
    name: str | None
    token_file: Path | None
    last: int
    wait_s: float


def run_chat(chat: Chat) -> int:
    """Until somebody leaves or the input ends; returns the exit status. Raises CollabError."""
    store = chat.store
    if store is None:
        store = default_store(os.environ, Path.home())
        make_folder(store)
    token = token_source(os.environ, chat.token_file)
    work = _on_screen if sys.stdin.isatty() and sys.stdout.isatty() else _in_lines
    return asyncio.run(work(chat, store, token))


async def _on_screen(chat: Chat, store: Path, token: Token) -> int:
    from collab.terminal.screen import Screen

    screen = Screen()
    said = ""
    async with open_client(store, relay=chat.relay, token=token, user=_user(chat)) as client:
        room = await client.room(chat.room)
        conversation = Conversation(client, room, name=chat.name, watcher=screen)
        with _logged_as_notices(conversation), _signals(screen.leave, "SIGTERM", "SIGHUP"):
            await conversation.open(chat.last)
            await screen.run(conversation)
        said = conversation.leave()
    print(said)
    return ACCEPTED


async def _in_lines(chat: Chat, store: Path, token: Token) -> int:
    plain = Plain(sys.stdin.buffer, sys.stdout, sys.stderr, wait_s=chat.wait_s)
    async with open_client(store, relay=chat.relay, token=token, user=_user(chat)) as client:
        room = await client.room(chat.room)
        conversation = Conversation(client, room, name=chat.name, watcher=plain)
        with _signals(plain.leave, *_SIGNALS):
            await conversation.open(chat.last)
            status = await plain.run(conversation)
        said = conversation.leave()
    print(f"-- {said}", flush=True)
    return status


def _user(chat: Chat) -> dict[str, str] | None:
    return {"name": chat.name} if chat.name else None


@contextmanager
def _signals(leave: Callable[[], None], *names: str) -> Iterator[None]:
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
def _logged_as_notices(conversation: Conversation) -> Iterator[None]:
    """What is logged would be written across the screen."""
    handler, root = _Notices(conversation), logging.getLogger()
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)
