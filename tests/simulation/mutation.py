"""What a mutant is: one function replaced, and how many histories it takes to notice."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

from tests.simulation.many import collecting_seldom, run_one

WITHIN = 1000

Function = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Mutant:
    """The function ``name`` of ``target`` becomes what ``make`` makes of it."""

    target: object
    name: str
    make: Callable[[Function], Function]
    chats: bool  # whether it is looked for in histories with chats, or in those without


MUTANTS: dict[str, Mutant] = {}


def mutant(
    what: str, target: object, name: str, *, chats: bool = False
) -> Callable[[Callable[[Function], Function]], Callable[[Function], Function]]:
    """Under ``what``: the decorated function makes the broken one out of the original."""

    def register(make: Callable[[Function], Function]) -> Callable[[Function], Function]:
        MUTANTS[what] = Mutant(target, name, make, chats)
        return make

    return register


@contextmanager
def broken(what: str) -> Iterator[None]:
    """While this lasts, the simulation runs with the mutant."""
    one = MUTANTS[what]
    with mock.patch.object(one.target, one.name, one.make(getattr(one.target, one.name))):
        yield


def caught_after(what: str, *, start: int = 0, within: int = WITHIN) -> tuple[int, str] | None:
    """How many seeds it takes, and what was seen then; None if it passes all of them."""
    with broken(what), collecting_seldom() as collect:
        for count in range(1, within + 1):
            collect()
            failure = run_one(start + count - 1, chats=MUTANTS[what].chats)[1]
            if failure is not None:
                # It is the mutant that fails, not the promise: nothing was caught.
                assert not failure.startswith("TypeError"), failure
                return count, failure
    return None
