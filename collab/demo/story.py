"""The demo from its start to its verdict: who types, what happens to them, and what comes out."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from collab.demo import talk, traces
from collab.demo.board import TEXTS, Board, Replica
from collab.demo.display import Display
from collab.demo.plan import Act, Moment, make_plan
from collab.demo.player import Part, Report
from collab.demo.stage import DemoFailed, Stage
from collab.demo.verdict import differences

_STALL_S: Final = 60.0  # without a single edit of anybody
_CONVERGE_S: Final = 120.0
_DEAD_S: Final = 1.0  # between a SIGKILL and the new start, at full size
_TYPISTS: Final = {"A": "paper", "B": "post"}
_NEWCOMER: Final = "C"
_TRACES: Final = {"paper": traces.PAPER, "post": traces.POST}


@dataclass(frozen=True, slots=True)
class Cast:
    """How much is typed and said, and how fast. ``seconds`` is how long the typing takes if nothing
    is in its way; ``limits`` are the edits of each trace, None for all; ``messages`` each client's.
    """

    seconds: float
    limits: Mapping[str, int | None]
    messages: int = 40  # of two clients: a newcomer gets all of them without asking


FULL: Final = Cast(30.0, {"paper": None, "post": None})
QUICK: Final = Cast(2.5, {"paper": 6000, "post": 3000})


@dataclass(frozen=True, slots=True)
class Outcome:
    """``differences`` is empty when everybody is identical with what was typed."""

    board: Board
    expected: dict[str, str]
    differences: list[str]


class Story:
    """One run of the demo in ``folder``, which is empty before. Call ``run`` once."""

    def __init__(self, cast: Cast, *, seed: int, folder: Path, display: Display) -> None:
        self._cast = cast
        self._folder = folder
        self._display = display
        self._board = Board(seed)
        self._plan: dict[str, list[Moment]] = {}
        self._dead_s = min(_DEAD_S, cast.seconds / 5)
        self._finished_at: dict[str, float] = {}
        self._content_since: dict[str, float] = {}
        self._cut_at: dict[str, int] = {}  # edits made when the network went away
        self._complaints: list[str] = []
        self._acting: set[asyncio.Task[None]] = set()
        self._news = asyncio.Event()
        self._tasks: asyncio.TaskGroup
        self._stage: Stage

    async def run(self) -> Outcome:
        """Tell it all. Raises :class:`DemoFailed`; no process of ours is left in any case."""
        try:
            async with asyncio.TaskGroup() as self._tasks:
                self._stage = Stage(
                    self._folder,
                    self._board,
                    tasks=self._tasks,
                    tell=self._display.tell,
                    hear=self._heard,
                )
                outcome = await self._tell()
        except* DemoFailed as group:
            raise _first(group) from None
        except* OSError as group:
            raise DemoFailed(f"the system refused something: {_first(group)}") from None
        finally:
            await self._stage.clear()
        return outcome

    async def _tell(self) -> Outcome:
        loading = asyncio.to_thread(
            lambda: {text: traces.load(_TRACES[text], self._cast.limits[text]) for text in TEXTS}
        )
        loaded, _ = await asyncio.gather(loading, self._stage.start_relay())
        totals = {name: len(loaded[text].edits) for name, text in _TYPISTS.items()}
        self._plan = make_plan(self._board.seed, totals)
        for name, text in _TYPISTS.items():
            self._display.tell(f"{name} types {text!r}: {totals[name]:,} edits")
            await self._enter(Replica(name, text, total=totals[name], messages=self._cast.messages))
        await self._typed()
        if await self._converged(since=max(self._finished_at.values())):
            took = max(replica.converged_s or 0 for replica in self._board.replicas.values())
            self._display.tell(f"A and B have the same content, {took:.2f} s after the last edit")
        self._display.tell(f"{_NEWCOMER} joins with an empty store")
        started = time.monotonic()
        await self._enter(Replica(_NEWCOMER, None))
        if await self._converged(since=started):
            took = self._board.replicas[_NEWCOMER].converged_s or 0
            self._display.tell(f"{_NEWCOMER} has the same content, {took:.2f} s after its start")
        await self._stage.end()
        expected = {text: trace.end for text, trace in loaded.items()}
        copies = {name: self._stage.copies(name, TEXTS) for name in self._board.replicas}
        clocks = {name: replica.clocks for name, replica in self._board.replicas.items()}
        heard = {name: self._stage.messages(name) for name in self._board.replicas}
        sent = dict.fromkeys(_TYPISTS, self._cast.messages)
        for name, replica in self._board.replicas.items():
            replica.in_order = all(talk.is_in_order(by, sent[by], heard[name]) for by in sent)
        found = self._complaints + differences(expected, copies, clocks) + talk.wrongs(sent, heard)
        return Outcome(self._board, expected, found)

    async def _enter(self, replica: Replica) -> None:
        part = Part()
        if replica.text is not None:
            part = Part(
                text=replica.text,
                trace=_TRACES[replica.text],
                limit=self._cast.limits[replica.text],
                saved=replica.saved,
                messages=replica.messages,
                said=replica.said,
                rate=replica.total / self._cast.seconds,
            )
        await self._stage.start_client(replica, part)

    async def _typed(self) -> None:
        """Wait until all is typed and nobody is cut off or dead."""
        made, since = -1, time.monotonic()
        while True:
            replicas = self._board.replicas.values()
            if all(r.finished and r.alive for r in replicas) and not self._acting:
                return
            now_made = sum(replica.edits for replica in replicas)
            if now_made != made:
                made, since = now_made, time.monotonic()
            elif time.monotonic() - since > _STALL_S:
                raise DemoFailed(f"nobody typed anything for {_STALL_S:.0f} s")
            await self._next_news()

    async def _converged(self, *, since: float) -> bool:
        """Wait until all are synced and say the same, and note how long each took.

        If they never do, that is noted as a difference: the story goes on to show which.
        """
        replicas = list(self._board.replicas.values())
        deadline = time.monotonic() + _CONVERGE_S
        while (content := replicas[0].content) is None or any(
            replica.content != content for replica in replicas
        ):
            if time.monotonic() > deadline:
                self._complaints.append(
                    f"not everybody came to the same content within {_CONVERGE_S:.0f} s: "
                    + "; ".join(_standing(replica) for replica in replicas)
                )
                return False
            await self._next_news()
        for replica in replicas:
            if replica.converged_s is None:
                replica.converged_s = max(0.0, self._content_since[replica.name] - since)
        return True

    async def _next_news(self) -> None:
        """Return at the next report, or after a second without."""
        self._news.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(1.0):
                await self._news.wait()

    # What clients report

    def _heard(self, replica: Replica, report: Report) -> None:
        name, now = replica.name, time.monotonic()
        if report.lost:
            raise DemoFailed(f"{name} lost what it had saved: {report.lost}")
        if report.resumed and replica.kills:
            self._display.tell(
                f"{name} runs again: its disk gave back {report.edits:,} edits; nothing that was "
                f"saved is missing. It sends its messages again from the first on"
            )
        before = replica.content
        link = self._stage.link(name)
        replica.bytes_up, replica.bytes_down = link.bytes_up, link.bytes_down
        replica.edits, replica.saved = report.edits, report.saved
        replica.unsent, replica.state = report.unsent, report.state
        replica.synced, replica.alive = report.synced, True
        replica.digests, replica.clocks = report.digests, report.clocks
        replica.said, replica.accepted = report.said, report.accepted
        replica.repeated, replica.chat = report.repeated, report.chat
        if replica.content != before:
            self._content_since[name] = now
        if replica.text is not None and replica.finished and name not in self._finished_at:
            self._finished_at[name] = now
            self._display.tell(f"{name} has typed and said everything")
        self._follow_plan(replica)
        self._display.show(self._board)
        self._news.set()

    def _follow_plan(self, replica: Replica) -> None:
        moments = self._plan.get(replica.name, [])
        while moments and moments[0].edits <= replica.edits:
            self._act(moments.pop(0).act, replica)

    # What happens to them

    def _act(self, act: Act, replica: Replica) -> None:
        name = replica.name
        match act:
            case Act.CUT:
                self._stage.link(name).cut()
                replica.linked, replica.windows = False, replica.windows + 1
                self._cut_at[name] = replica.edits
                self._display.tell(f"{name} loses its network after {replica.edits:,} edits")
            case Act.HEAL:
                self._stage.link(name).heal()
                replica.linked = True
                made = replica.edits - self._cut_at.pop(name)
                self._display.tell(f"{name} has its network back; it made {made:,} edits without")
            case Act.KILL:
                self._begin(self._kill_client(replica))
            case Act.KILL_RELAY:
                self._begin(self._kill_relay())

    async def _kill_client(self, replica: Replica) -> None:
        where = "online" if replica.linked else "offline"
        await self._stage.kill_client(replica)
        self._finished_at.pop(replica.name, None)
        self._display.tell(
            f"{replica.name} is killed (SIGKILL) while {where}, after {replica.edits:,} edits, "
            f"{replica.saved:,} of them saved"
        )
        await asyncio.sleep(self._dead_s)
        await self._enter(replica)

    async def _kill_relay(self) -> None:
        await self._stage.kill_relay()
        self._display.tell(
            "the relay is killed (SIGKILL); what is typed is saved where it is typed"
        )
        await asyncio.sleep(self._dead_s)
        await self._stage.start_relay()

    def _begin(self, act: Coroutine[None, None, None]) -> None:
        task = self._tasks.create_task(act)
        self._acting.add(task)
        task.add_done_callback(self._acting.discard)


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _standing(replica: Replica) -> str:
    synced = "synced" if replica.synced else f"not synced, {replica.unsent} updates unsent"
    digests = ", ".join(f"{name} {value[:8]}" for name, value in replica.digests.items())
    return (
        f"{replica.name} is {replica.state or 'not running'}, {synced}, {digests or 'no content'}"
    )
