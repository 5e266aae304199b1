"""The command ``collab edit``: opens the room, shows it, and says at the end what waits."""

from __future__ import annotations

import asyncio
import os
import random
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from collab.client import open as open_client
from collab.connection import Token
from collab.errors import LocalError, Unsupported
from collab.terminal.badge import leaving
from collab.terminal.conversation import Conversation
from collab.terminal.places import default_store, make_folder, token_source
from collab.terminal.session import is_at_a_terminal, logged_as_notices, signals

__all__ = ["Edit", "run_edit"]


@dataclass(frozen=True, slots=True)
class Edit:
    """What was asked for. ``store`` None: this user's own."""

    room: str
    text: str
    store: Path | None
    relay: str | None
    name: str | None
    token_file: Path | None
    last: int


def run_edit(edit: Edit) -> int:
    """Until somebody leaves; returns the exit status. Raises CollabError."""
    try:
        import textual  # noqa: F401
    except ModuleNotFoundError as error:
        raise Unsupported(
            "The editor is drawn with Textual, which is not installed. Nothing was opened. Install "
            "it with: pip install 'collab-sync[edit]'"
        ) from error
    if not is_at_a_terminal():
        raise LocalError(
            "The editor needs a terminal, and stdin or stdout is none. Nothing was opened. "
            "collab chat works in a pipe."
        )
    store = edit.store
    if store is None:
        store = default_store(os.environ, Path.home())
        make_folder(store)
    status, said = asyncio.run(_run(edit, store, token_source(os.environ, edit.token_file)))
    with suppress(OSError):  # the terminal is gone
        print(said, flush=True)
    return status


async def _run(edit: Edit, store: Path, token: Token) -> tuple[int, str]:
    from collab.editor import people
    from collab.editor.app import EditorApp

    user = people.user(edit.name or f"Guest {random.randrange(100, 1000)}")
    async with open_client(store, relay=edit.relay, token=token, user=user) as client:
        room = await client.room(edit.room)
        is_colourless = bool(os.environ.get("NO_COLOR"))
        app = EditorApp(client, room, edit.text, is_colourless=is_colourless)
        conversation = Conversation(client, room, name=edit.name, watcher=app)
        app.attend(conversation)
        with logged_as_notices(conversation), signals(app.leave, "SIGTERM", "SIGHUP", "SIGINT"):
            await conversation.open(edit.last)
            async with app.working():
                await app.run_async()
        said = [leaving(room.status.pending_updates), conversation.leave()]
    return app.return_code or 0, "; ".join(part for part in said if part)
