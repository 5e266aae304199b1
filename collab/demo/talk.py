"""What players say to each other beside their typing, and whether all of it came, once, in order.

A message's id follows from its writer and its number. So a player that was killed need not know
what it said in an earlier life: it says everything again from the first on, under the same ids,
and what was said before must not come out twice.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Final

import collab

__all__ = [
    "ALL",
    "Said",
    "body",
    "due",
    "dump",
    "is_in_order",
    "load",
    "message_id",
    "said",
    "wrongs",
]

ALL: Final = 10_000  # more than are ever said
_PLAYERS: Final = uuid.UUID("9d1c5a3e-6f0b-4b57-8d0e-2f6f3d3f8a11")


@dataclass(frozen=True, slots=True)
class Said:
    """A message as a player found it in the log. ``id`` is in hexadecimal digits."""

    seq: int
    id: str
    body: str


def message_id(name: str, number: int) -> uuid.UUID:
    """The id of a player's ``number``-th message, counted from 1."""
    return uuid.uuid5(_PLAYERS, f"{name}/{number}")


def body(name: str, number: int) -> str:
    """What it says."""
    return f"{name}'s message {number}"


def due(number: int, messages: int, edits: int) -> int:
    """After how many of its ``edits`` a player says a message: they are spread over all of them."""
    return number * edits // (messages + 1)


def said(messages: Iterable[collab.Message]) -> list[Said]:
    """What of a history is in the log."""
    return [
        Said(message.seq, message.id.hex, message.body)
        for message in messages
        if message.seq is not None
    ]


def dump(messages: Sequence[Said]) -> str:
    """For a file; ``load`` reads it."""
    return json.dumps([asdict(message) for message in messages])


def load(text: str) -> list[Said]:
    """What ``dump`` wrote."""
    return [Said(**message) for message in json.loads(text)]


def is_in_order(name: str, count: int, heard: Iterable[Said]) -> bool:
    """Whether all ``count`` messages of a player came in the order in which it sent them."""
    return _numbers(name, count, heard) == list(range(1, count + 1))


def wrongs(sent: Mapping[str, int], heard: Mapping[str, Sequence[Said]]) -> list[str]:
    """What is lost, doubled, out of order or nobody's, in what each player has; empty if nothing.

    ``sent`` is how many messages each player has sent.
    """
    found = []
    for replica, messages in heard.items():
        seqs = [message.seq for message in messages]
        if seqs != list(range(1, len(seqs) + 1)):
            found.append(f"{replica}'s messages are not numbered from 1 without holes: {seqs}")
        known = set()
        for name, count in sent.items():
            found += _wrongs_of(replica, name, count, messages)
            known |= {message_id(name, number).hex for number in range(1, count + 1)}
        found += [
            f"{replica} has a message that nobody sent: {message.body!r}"
            for message in messages
            if message.id not in known
        ]
    if len({tuple(messages) for messages in heard.values()}) > 1:
        found.append("the replicas have not the same messages under the same numbers")
    return found


def _numbers(name: str, count: int, heard: Iterable[Said]) -> list[int]:
    """The numbers of a player's messages, in the order of the log."""
    return [number for number, _ in _of(name, count, heard)]


def _of(name: str, count: int, heard: Iterable[Said]) -> list[tuple[int, Said]]:
    numbers = {message_id(name, number).hex: number for number in range(1, count + 1)}
    return [(numbers[message.id], message) for message in heard if message.id in numbers]


def _wrongs_of(replica: str, name: str, count: int, messages: Sequence[Said]) -> list[str]:
    numbers = _numbers(name, count, messages)
    lost = sorted(set(range(1, count + 1)) - set(numbers))
    doubled = sorted(number for number in set(numbers) if numbers.count(number) > 1)
    changed = [
        number
        for number, message in _of(name, count, messages)
        if message.body != body(name, number)
    ]
    found = []
    if lost:
        found.append(f"{replica} never got {name}'s messages {lost}")
    if doubled:
        found.append(f"{replica} has {name}'s messages {doubled} more than once")
    if changed:
        found.append(f"{replica} has {name}'s messages {changed} with another body")
    if not lost and not doubled and numbers != sorted(numbers):
        found.append(f"{replica} has {name}'s messages in another order: {numbers}")
    return found
