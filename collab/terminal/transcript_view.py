"""The part of a transcript that a screen has place for: the newest lines, or some further up."""

from __future__ import annotations

from collab.terminal.folding import Line, fold
from collab.terminal.transcript import Transcript

__all__ = ["TranscriptView"]


class TranscriptView:
    """``scrolled`` lines up from the newest; ``page`` is by how many to go at once. No I/O."""

    def __init__(self) -> None:
        self.scrolled = 0
        self.page = 1

    def up(self) -> None:
        """One page older."""
        self.scrolled += self.page

    def down(self) -> None:
        """One page newer."""
        self.scrolled = max(0, self.scrolled - self.page)

    def lines(self, transcript: Transcript | None, width: int, height: int) -> list[Line]:
        """As many lines as there is place for, blank ones above if there are fewer."""
        self.page = max(1, height - 1)
        lines: list[Line] = []
        if transcript is not None:
            for row in transcript.rows_backwards():
                if len(lines) >= height + self.scrolled:
                    break
                lines.extend(reversed(fold(row, width)))
        lines.reverse()
        self.scrolled = max(0, min(self.scrolled, len(lines) - height))
        end = len(lines) - self.scrolled
        shown = lines[max(0, end - height) : end]
        return [*([] for _ in range(height - len(shown))), *shown]
