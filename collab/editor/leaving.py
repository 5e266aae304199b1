"""What is asked when somebody wants to leave and the disk does not take what they wrote."""

from __future__ import annotations

import asyncio
from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding as Key
from textual.binding import BindingType
from textual.screen import ModalScreen
from textual.widgets import Static

from collab.room import Room
from collab.terminal import safe

__all__ = ["LeaveScreen", "is_saved"]


def is_saved(saved: asyncio.Task[None]) -> bool:
    """Whether the wait for the disk came out well. A fault of the room ends it too."""
    return saved.done() and saved.exception() is None


class LeaveScreen(ModalScreen[bool]):
    """Its result is whether to leave: by itself once all is saved, or because somebody said so."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Key("escape", "stay", "Back to the text"),
        Key("ctrl+x", "give_up", "Leave, and lose what is not saved"),
    ]
    CSS = """
    LeaveScreen { align: center middle; }
    #question { width: 80%; max-width: 72; height: auto; border: heavy $error; padding: 1 2; }
    """

    def __init__(self, room: Room, saved: asyncio.Task[None]) -> None:
        super().__init__()
        self._room = room
        self._saved = saved
        self._question = Static(id="question")

    def compose(self) -> ComposeResult:
        """What is on it."""
        yield self._question

    def on_mount(self) -> None:
        """Look again and again whether the disk takes it."""
        self.set_interval(0.2, self._look)
        self._look()

    def _look(self) -> None:
        if is_saved(self._saved):
            self.dismiss(result=True)
            return
        error = self._saved.exception() if self._saved.done() else self._room.status.error
        why = safe.one_line(str(error)) if error is not None else "The disk is slow."
        hope = "This goes away by itself once it is."
        if self._saved.done():
            hope = "It is not tried again: copy what must not be lost."
        self._question.update(
            Text(
                f"Not everything is saved. {why}\n\n{hope}\n\n"
                f"Escape: back to the text\nCtrl+X: leave, and lose what is not saved"
            )
        )

    def action_stay(self) -> None:
        """Do not leave."""
        self.dismiss(result=False)

    def action_give_up(self) -> None:
        """Leave, and lose what is not saved."""
        self.dismiss(result=True)
