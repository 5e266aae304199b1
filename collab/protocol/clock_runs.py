"""Clocks of one client as sorted, disjoint, half-open runs: a set, and a map to places."""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator

from collab.errors import BadUpdate
from collab.protocol.ysync import read_var_uint, write_var_uint

__all__ = ["ClockRuns", "PlaceRuns", "read_runs", "write_runs"]


class ClockRuns:
    """A set of clocks that is mostly long runs: what was deleted, what is gone.

    Invariants: ``_starts[i] < _ends[i] < _starts[i + 1]``: runs that touch are one run.

    Lookups take O(log n). Adding next to a run, as a held backspace does, moves that run's edge,
    also in O(log n); a run of its own shifts those above it, eight bytes each.
    """

    __slots__ = ("_ends", "_starts")

    def __init__(self) -> None:
        self._starts = array("I")
        self._ends = array("I")

    def __len__(self) -> int:
        """How many runs there are."""
        return len(self._starts)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return zip(self._starts, self._ends, strict=True)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ClockRuns):
            return NotImplemented
        return self._starts == other._starts and self._ends == other._ends

    __hash__ = None  # type: ignore[assignment]  # it changes

    def __contains__(self, clock: int) -> bool:
        at = bisect_right(self._starts, clock) - 1
        return at >= 0 and clock < self._ends[at]

    def covers(self, start: int, end: int) -> bool:
        """Tell whether all of ``start`` to ``end`` is in the set."""
        at = bisect_right(self._starts, start) - 1
        return at >= 0 and end <= self._ends[at]

    def touches(self, start: int, end: int) -> bool:
        """Tell whether any of ``start`` to ``end`` is in the set."""
        at = bisect_left(self._starts, end) - 1
        return at >= 0 and start < self._ends[at]

    def missing(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """What of ``start`` to ``end`` is not in the set, as runs."""
        at = bisect_right(self._ends, start)
        while start < end:
            if at == len(self._starts) or end <= self._starts[at]:
                yield start, end
                return
            if start < self._starts[at]:
                yield start, self._starts[at]
            start = self._ends[at]
            at += 1

    def add(self, start: int, end: int) -> None:
        """Add the clocks ``start`` to ``end``, which are not empty."""
        starts, ends = self._starts, self._ends
        first = bisect_left(ends, start)  # the first run that touches or follows
        last = bisect_right(starts, end)  # the first run that is beyond
        if first == last:
            starts.insert(first, start)
            ends.insert(first, end)
            return
        starts[first] = min(start, starts[first])
        top = max(end, ends[last - 1])
        ends[first] = top
        if last - first > 1:
            del starts[first + 1 : last]
            del ends[first + 1 : last]

    def copy(self) -> ClockRuns:
        """A set of its own with the same clocks."""
        twin = ClockRuns()
        twin._starts = self._starts[:]
        twin._ends = self._ends[:]
        return twin


class PlaceRuns:
    """The places (``placement``) of one client's items, where not 0. It only grows at its end."""

    __slots__ = ("_ends", "_places", "_starts")

    def __init__(self) -> None:
        self._starts = array("I")
        self._ends = array("I")
        self._places = array("H")

    def __len__(self) -> int:
        """How many runs there are."""
        return len(self._starts)

    def __iter__(self) -> Iterator[tuple[int, int, int]]:
        return zip(self._starts, self._ends, self._places, strict=True)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, PlaceRuns):
            return NotImplemented
        return list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]  # it changes

    def at(self, clock: int) -> int:
        """The place of the item at ``clock``, in O(log n)."""
        at = bisect_right(self._starts, clock) - 1
        return self._places[at] if at >= 0 and clock < self._ends[at] else 0

    def append(self, start: int, end: int, place: int) -> None:
        """Add a run at or after the end of the last one."""
        if self._ends and self._ends[-1] == start and self._places[-1] == place:
            self._ends[-1] = end
        else:
            self._starts.append(start)
            self._ends.append(end)
            self._places.append(place)

    def copy(self) -> PlaceRuns:
        """Runs of their own with the same content."""
        twin = PlaceRuns()
        twin._starts = self._starts[:]
        twin._ends = self._ends[:]
        twin._places = self._places[:]
        return twin


def write_runs(out: bytearray, runs: list[tuple[int, int]]) -> None:
    """Append sorted runs, each as the gap since the last one and its length."""
    write_var_uint(out, len(runs))
    last = 0
    for start, end in runs:
        write_var_uint(out, start - last)
        write_var_uint(out, end - start)
        last = end


def read_runs(data: bytes, pos: int, limit: int) -> tuple[list[tuple[int, int]], int]:
    """Read runs that end at ``limit`` at most; return them and the position after.

    Raises ``BadUpdate`` if they are malformed or go further.
    """
    count, pos = read_var_uint(data, pos)
    if count > (len(data) - pos) // 2:
        raise BadUpdate(f"{count} runs are announced before offset {pos}")
    runs: list[tuple[int, int]] = []
    end = 0
    for _ in range(count):
        gap, pos = read_var_uint(data, pos)
        length, pos = read_var_uint(data, pos)
        start = end + gap
        end = start + length
        if not length or end > limit:
            raise BadUpdate(f"a run before offset {pos} is empty or ends above {limit}")
        runs.append((start, end))
    return runs, pos
