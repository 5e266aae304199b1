"""The command ``collab chat``: which of the two ways to show it, and how it ends for the shell."""

from __future__ import annotations

import asyncio
import io
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from collab.client import open as open_client
from collab.connection import Token
from collab.terminal import safe
from collab.terminal.conversation import Conversation
from collab.terminal.places import default_store, make_folder, token_source
from collab.terminal.plain import ACCEPTED, FAILED, Plain, put_line
from collab.terminal.session import is_at_a_terminal, logged_as_notices, signals

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
    work = _on_screen if is_at_a_terminal() else _in_lines
    return asyncio.run(work(chat, store, token))


async def _on_screen(chat: Chat, store: Path, token: Token) -> int:
    from collab.terminal.screen import Screen

    screen = Screen()
    said = ""
    async with open_client(store, relay=chat.relay, token=token, user=_user(chat)) as client:
        room = await client.room(chat.room)
        conversation = Conversation(client, room, name=chat.name, watcher=screen)
        with logged_as_notices(conversation), signals(screen.leave, "SIGTERM", "SIGHUP"):
            await conversation.open(chat.last)
            await screen.run(conversation)
        said = conversation.leave(len(screen.not_taken))
    for line in (said, *map(safe.text, screen.not_taken)):
        put_line(line, sys.stdout)
    return FAILED if screen.not_taken else ACCEPTED


async def _in_lines(chat: Chat, store: Path, token: Token) -> int:
    # Of a stream that was closed before the start there is nothing; its number may be a file's.
    source = io.BytesIO() if sys.stdin is None else sys.stdin.buffer
    out, errors = (io.StringIO() if one is None else one for one in (sys.stdout, sys.stderr))
    plain = Plain(source, out, errors, wait_s=chat.wait_s)
    async with open_client(store, relay=chat.relay, token=token, user=_user(chat)) as client:
        room = await client.room(chat.room)
        conversation = Conversation(client, room, name=chat.name, watcher=plain)
        with signals(plain.leave, *_SIGNALS):
            await conversation.open(chat.last)
            status = await plain.run(conversation)
        said = conversation.leave()
    put_line(f"-- {said}", out)
    return status


def _user(chat: Chat) -> dict[str, str] | None:
    return {"name": chat.name} if chat.name else None
