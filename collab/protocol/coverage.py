"""What does a log or a replica contain, and does an update fit it?

A coverage knows, per client, how far the clocks go, which of them are deleted, which are *gone*
(came as GC or Deleted structs, so that nobody knows what they were), which are shared types, and
where items sit: how deep in shared types, in an array, under a key. It is fed with walks alone; no
engine is asked.

Depth: an item in a root type sits at depth 0; one in a shared type sits one deeper than the item
that is the type. Engines delete types by recursion, so a type that would make more than
``MAX_TYPE_DEPTH`` levels is refused, however small the updates that build it. An item that names
neighbours sits where they sit (yrs ``Store::repair``: the parent of the left one if that is not GC,
else of the right one), so neighbours that sit at different depths are refused. A parent must be a
shared type or gone: yrs fails on any other, for ever. Below a parent that is gone engines make GC,
which has no depth. ``placement`` refuses more: text in an array, say. It knows the kind of types
inside types, whose items tell it. What kind a *root* type is, nobody can tell from updates.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from enum import Enum, auto
from typing import Final

from collab.errors import BadUpdate
from collab.limits import MAX_CLIENT_ID, MAX_CLOCK, MAX_TYPE_DEPTH
from collab.protocol.clock_runs import ClockRuns, PlaceRuns, read_runs, write_runs
from collab.protocol.contents import NO_CLIENT, Walk
from collab.protocol.placement import (
    DEPTH,
    UNKNOWN,
    Placement,
    check_neighbour,
    check_text,
    place_between,
)
from collab.protocol.surrogate_pairs import check_characters_stay_whole
from collab.protocol.walk import structs_of, walk
from collab.protocol.ysync import encode_state_vector, read_var_uint, write_var_uint

__all__ = ["Coverage", "Fit"]

_VERSION: Final = 2

_Deep = list[tuple[int, int, int, int]]  # client, start, end, place


class Fit(Enum):
    """How an update stands to a coverage."""

    NEW = auto()
    """All of it is new, and everything it needs is there: append it as it is."""
    OVERLAPS = auto()
    """Everything it needs is there, and part of it is known (or it has Skips): cut it first."""
    NOTHING = auto()
    """It adds no struct and no delete."""
    EARLY = auto()
    """Something that it needs, continues or deletes is missing."""


_Judgement = tuple[Fit, _Deep]


class Coverage:
    """What a log or a replica contains. Not thread-safe; ``copy()`` for a second opinion.

    Invariants: 1. clocks of a client are known from 0 up to ``clocks[client]`` without a gap.
    2. Nothing is deleted, gone, a type or deep above that. 3. Only ``add`` changes it, all or
    nothing.
    """

    __slots__ = (
        "_arrays", "_deletes", "_gone", "_judged", "_places", "_second_halves", "_types", "clocks",
    )  # fmt: skip

    def __init__(self) -> None:
        self.clocks: dict[int, int] = {}  # the state vector; read it, do not change it
        self._deletes: dict[int, ClockRuns] = {}
        self._gone: dict[int, ClockRuns] = {}
        self._types: dict[int, array[int]] = {}  # ascending clocks
        self._second_halves: dict[int, array[int]] = {}  # ascending clocks
        self._arrays: dict[int, array[int]] = {}  # of the types; ascending clocks
        self._places: dict[int, PlaceRuns] = {}  # where they are not 0
        self._judged: tuple[Walk, _Judgement] | None = None  # the last NEW one, until ``add``

    @classmethod
    def from_update(cls, update: bytes) -> Coverage:
        """The coverage of a log that has this update alone, say a snapshot.

        Raises ``BadUpdate`` if it must not reach an engine, or is not complete.
        """
        coverage = cls()
        coverage.add(walk(update))
        return coverage

    def state_vector(self) -> bytes:
        """Encode how far the clocks go, as y-protocols does."""
        return encode_state_vector(self.clocks)

    def is_deleted(self, client: int, clock: int) -> bool:
        """Tell whether an item is known to be deleted."""
        runs = self._deletes.get(client)
        return runs is not None and clock in runs

    def missing_deletes(self, walk: Walk) -> list[tuple[int, int, int]]:
        """The (client, clock, length) that the update deletes and nothing here does."""
        missing: list[tuple[int, int, int]] = []
        for client, clock, length in walk.deletes:
            runs = self._deletes.get(client)
            if runs is None:
                missing.append((client, clock, length))
            else:
                missing += [(client, a, b - a) for a, b in runs.missing(clock, clock + length)]
        return missing

    def fit(self, walk: Walk) -> Fit:
        """Tell how an update stands to this.

        Raises ``BadUpdate`` if it fits, but would nest shared types deeper than
        ``MAX_TYPE_DEPTH``, puts an item into what is no shared type, or between neighbours that
        sit in different types, cuts a character in two, or is refused by ``placement``.
        """
        return self._judge(walk)[0]

    def _judge(self, walk: Walk) -> _Judgement:
        """How it fits, and what of its new structs is deep. Who adds has often asked before."""
        judged = self._judged
        if judged is not None and judged[0] is walk:
            return judged[1]
        judgement = self._judge_anew(walk)
        if judgement[0] is Fit.NEW:  # nothing else is kept in memory for it
            self._judged = walk, judgement
        return judgement

    def _judge_anew(self, walk: Walk) -> _Judgement:
        clocks = self.clocks
        adds = known = False
        after: dict[int, int] = {}
        gap = False
        for client, start, end in walk.ranges:
            clock = after.get(client)
            if clock is None:
                clock = clocks.get(client, 0)
            if start > clock:
                gap = adds = True
                break
            if start < clock:
                known = True
            if end > clock:
                adds = True
                after[client] = end
        if not gap:
            for client, clock, length in walk.deletes:
                runs = self._deletes.get(client)
                end = clock + length
                if runs is None or not runs.touches(clock, end):
                    adds = True
                elif runs.covers(clock, end):
                    known = True
                else:
                    adds = known = True
                if end > clocks.get(client, 0) and end > after.get(client, 0):
                    gap = True
        if not adds:
            return Fit.NOTHING, []
        if gap:
            return Fit.EARLY, []
        for client, clock in walk.needs.items():
            if clock > clocks.get(client, 0):
                return Fit.EARLY, []
        check_characters_stay_whole(walk, clocks, self._second_halves)
        deep = self._place(walk) if after else []
        return Fit.OVERLAPS if known or walk.has_skips else Fit.NEW, deep

    def add(self, walk: Walk) -> None:
        """Take in an update that is ``NEW``, ``OVERLAPS`` or ``NOTHING``.

        Raises ``BadUpdate``, and changes nothing, if it is ``EARLY`` or ``fit`` would raise.
        """
        fit, deep = self._judge(walk)
        if fit is Fit.EARLY:
            raise BadUpdate("the update needs, continues or deletes something that is not there")
        if fit is Fit.NOTHING:
            return
        self._judged = None
        clocks = self.clocks
        for client, start, end, place in deep:
            runs = self._places.get(client)
            if runs is None:
                runs = self._places[client] = PlaceRuns()
            runs.append(start, end, place)
        for client, clock in walk.types:
            if clock >= clocks.get(client, 0):
                _clocks_of(self._types, client).append(clock)
        for client, clock in walk.arrays:
            if clock >= clocks.get(client, 0):
                _clocks_of(self._arrays, client).append(clock)
        for client, clock in walk.second_halves:
            if clock > clocks.get(client, 0):
                _clocks_of(self._second_halves, client).append(clock)
        for client, start, end in walk.gone:
            known = clocks.get(client, 0)
            if end > known:
                _runs_of(self._gone, client).add(max(start, known), end)
        for client, _, end in walk.ranges:
            if end > clocks.get(client, 0):
                clocks[client] = end
        for client, clock, length in walk.deletes:
            _runs_of(self._deletes, client).add(clock, clock + length)

    def copy(self) -> Coverage:
        """A coverage of its own with the same content."""
        twin = Coverage()
        twin.clocks = dict(self.clocks)
        twin._deletes = {client: runs.copy() for client, runs in self._deletes.items()}
        twin._gone = {client: runs.copy() for client, runs in self._gone.items()}
        twin._types = {client: types[:] for client, types in self._types.items()}
        twin._arrays = {client: arrays[:] for client, arrays in self._arrays.items()}
        twin._second_halves = {client: at[:] for client, at in self._second_halves.items()}
        twin._places = {client: runs.copy() for client, runs in self._places.items()}
        return twin

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Coverage):
            return NotImplemented
        return (
            self.clocks == other.clocks
            and self._deletes == other._deletes
            and self._gone == other._gone
            and self._types == other._types
            and self._arrays == other._arrays
            and self._second_halves == other._second_halves
            and self._places == other._places
        )

    __hash__ = None  # type: ignore[assignment]  # it changes

    # --- between processes ------------------------------------------------------------------------

    def to_bytes(self) -> bytes:
        """Encode all of it compactly, for a process of the same version."""
        out = bytearray((_VERSION,))
        write_var_uint(out, len(self.clocks))
        for client, clock in self.clocks.items():
            write_var_uint(out, client)
            write_var_uint(out, clock)
            for runs in (self._deletes.get(client), self._gone.get(client)):
                write_runs(out, [] if runs is None else list(runs))
            for by_client in (self._types, self._arrays, self._second_halves):
                ids = by_client.get(client, ())
                write_runs(out, [(clock, clock + 1) for clock in ids])
            deep = self._places.get(client, ())
            write_runs(out, [(start, end) for start, end, _ in deep])
            for _, _, place in deep:
                write_var_uint(out, place)
        return bytes(out)

    @classmethod
    def from_bytes(cls, data: bytes) -> Coverage:
        """Decode what ``to_bytes`` made; ``BadUpdate`` if it is anything else."""
        if data[:1] != bytes((_VERSION,)):
            raise BadUpdate("the coverage is of another version")
        coverage = cls()
        count, pos = read_var_uint(data, 1)
        for _ in range(count):  # bounded: a client that is not there raises
            client, pos = read_var_uint(data, pos)
            clock, pos = read_var_uint(data, pos)
            if client > MAX_CLIENT_ID or not 0 < clock <= MAX_CLOCK or client in coverage.clocks:
                raise BadUpdate(f"the coverage has a client out of bounds before offset {pos}")
            coverage.clocks[client] = clock
            for kind in (coverage._deletes, coverage._gone):
                runs, pos = read_runs(data, pos, clock)
                for start, end in runs:
                    _runs_of(kind, client).add(start, end)
            for ids in (coverage._types, coverage._arrays, coverage._second_halves):
                runs, pos = read_runs(data, pos, clock)
                if runs:
                    ids[client] = array("I", (start for start, _ in runs))
            runs, pos = read_runs(data, pos, clock)
            for start, end in runs:
                place, pos = read_var_uint(data, pos)
                if place & DEPTH > MAX_TYPE_DEPTH or place > UNKNOWN or not place:
                    raise BadUpdate(f"the coverage has a bad place before offset {pos}")
                coverage._places.setdefault(client, PlaceRuns()).append(start, end, place)
        if pos != len(data):
            raise BadUpdate(f"{len(data) - pos} bytes follow the coverage")
        return coverage

    # --- places -----------------------------------------------------------------------------------

    def depth(self, client: int, clock: int) -> int:
        """How many shared types enclose a known item below its root type."""
        return self.place(client, clock) & DEPTH

    def place(self, client: int, clock: int) -> int:
        """Where a known item sits: see ``placement``."""
        runs = self._places.get(client)
        return 0 if runs is None else runs.at(clock)

    def is_array(self, client: int, clock: int) -> bool:
        """Tell whether a known item is a shared type that is an array."""
        return _holds(self._arrays.get(client), clock)

    def is_type(self, client: int, clock: int) -> bool:
        """Tell whether a known item is a shared type."""
        return _holds(self._types.get(client), clock)

    def is_gone(self, client: int, clock: int) -> bool:
        """Tell whether a known clock came as a GC or Deleted struct."""
        runs = self._gone.get(client)
        return runs is not None and clock in runs

    def _place(self, walk: Walk) -> _Deep:
        """Find what of a fitting update's new structs is deep: (client, start, end, place)."""
        if not walk.leaves_roots:
            if not self._places:
                return []  # all in root types
            neighbours = walk.neighbours
            if neighbours is not None:
                left, left_clock, right, right_clock = neighbours
                places = self._places
                if left not in places and right not in places and walk.ranges[0][0] not in places:
                    return []
                client, start, end = walk.ranges[0]
                known = self.clocks.get(client, 0)
                if start < known:  # its head is known, and its tail stands after its head
                    left, left_clock = client, known - 1
                place = self._between(left, left_clock, right, right_clock)
                if place:
                    check_text(place, end - max(start, known))
                return [(client, max(start, known), end, place)] if place and end > known else []
        return Placement(self, walk, structs_of(walk.update)).place()

    def _between(self, left: int, left_clock: int, right: int, right_clock: int) -> int:
        """The place of an item between known neighbours, either of which may be absent."""
        if left == NO_CLIENT:
            place = self.place(right, right_clock)
            check_neighbour(place)
            return place
        place = self.place(left, left_clock)
        if right == NO_CLIENT:
            return place
        other = self.place(right, right_clock)
        check_neighbour(other)
        return place_between(place, other)


def _holds(clocks: array[int] | None, clock: int) -> bool:
    if clocks is None:
        return False
    at = bisect_left(clocks, clock)
    return at < len(clocks) and clocks[at] == clock


def _runs_of(by_client: dict[int, ClockRuns], client: int) -> ClockRuns:
    runs = by_client.get(client)
    if runs is None:
        runs = by_client[client] = ClockRuns()
    return runs


def _clocks_of(by_client: dict[int, array[int]], client: int) -> array[int]:
    clocks = by_client.get(client)
    if clocks is None:
        clocks = by_client[client] = array("I")
    return clocks
