"""What one pycrdt text holds, with the embeds in their places.

pycrdt's ``str()`` leaves embeds out, and its ``diff()`` does not tell an embed that is a string
from text; both together do.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from pycrdt import _pycrdt as engine

from collab.crdt.replica import Insert
from collab.crdt.text_index import EMBED_MARK, utf8_length

__all__ = ["inserts", "read_content"]

_MAX_TRIES: Final = 10_000  # to find string embeds in a foreign document; see _tell_apart


def read_content(shared: engine.Text, txn: engine.Transaction) -> tuple[str, bool]:
    """The text with EMBED_MARK for embeds, and whether it holds content that we cannot place."""
    text = shared.get_string(txn)
    size = shared.len(txn)
    embeds = size - utf8_length(text)
    if not embeds:
        return text, False
    diff = [content for content, _ in shared.diff(txn)]
    strange = embeds - sum(not isinstance(content, str) for content in diff)
    runs = [c if isinstance(c, str) else EMBED_MARK for c in diff]
    if strange:
        found = _tell_apart(runs, text, strange)
        if found is None:
            return "".join(runs), True
        runs = found
    return "".join(runs), False


def _tell_apart(runs: list[str], text: str, strange: int) -> list[str] | None:
    """Mark the ``strange`` runs that are embeds of strings and only look like text.

    Foreign documents may hold them, and the engine does not tell. ``text`` has no embeds: the
    other runs, one after another, are it. None if no choice fits, or none was found in time.
    """
    found: list[str] = []
    choices: list[tuple[int, int, int]] = []  # where an embed can still be tried: run, at, left
    number, at, left = 0, 0, strange
    for _ in range(_MAX_TRIES + len(runs)):
        if number == len(runs):
            if at == len(text) and not left:
                return found
        elif (run := runs[number]) == EMBED_MARK:
            found.append(run)
            number += 1
            continue
        elif run and text.startswith(run, at):
            choices.append((number, at, left))
            found.append(run)
            number, at = number + 1, at + len(run)
            continue
        elif left:
            found.append(EMBED_MARK)
            number, left = number + 1, left - 1
            continue
        while choices and not choices[-1][2]:
            choices.pop()
        if not choices:
            return None
        number, at, left = choices.pop()
        found[number:] = [EMBED_MARK]
        number, left = number + 1, left - 1
    return None


def inserts(content: str) -> Iterator[Insert]:
    """Operations that insert a whole text, whose embeds are not known any closer."""
    for place, run in enumerate(content.split(EMBED_MARK)):
        if place:
            yield Insert(None, embed=True)
        if run:
            yield Insert(run)
