"""What a kernel does in a room: takes requests, runs cells, and shows how it stands.

1. A request is taken once: that it was taken, and that its cell runs, is one transaction, saved
   (and at the relay, if that answers) before the code runs. Who dies in between does not run it
   later.
2. A cell that this program shows as running and does not run is marked: "the kernel died while
   this ran". So also what an earlier program left.
3. What is shown is in the document and goes its way: without the relay cells run on, and all
   comes together later.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from collab.cancelling import to_the_end
from collab.errors import CollabError, LocalError, OfflineError, Unsupported
from collab.events import DocumentChanged, RoomEvent
from collab.notebook.document import Cell, Notebook
from collab.notebook.ipython import KernelDied, KernelProcess
from collab.notebook.outputs import Clear, RunOutputs
from collab.notebook.requests import ROLE, Request, asked, is_kernel, leads
from collab.room import Room

__all__ = ["KernelServer"]

logger = logging.getLogger(__name__)

_FLUSH_S: Final = 0.1  # outputs go into the document ten times a second at most
_LEVEL_S: Final = 5.0  # how long to wait for what the relay has; then the disk's copy is used
_SWEEP_S: Final = 2.0  # who else is here is told before cells are taken for abandoned
_MEANT_S: Final = 2.0  # for an edit that its writer asked to run; others may have edited since
_ACK_S: Final = 2.0  # for the relay's word; a slow one does not hold up the code
_LOOK_S: Final = 0.5  # how often an idle kernel is looked after
_MAX_STARTS: Final = 3  # in a row that fail

_DIED: Final = "the kernel died while this ran"
_RESTARTED: Final = "the kernel was restarted while this ran"
_STOPPED: Final = "the kernel was stopped while this ran"


class KernelServer:
    """One room's kernel. Presence and the document call; ``serve`` alone runs cells."""

    def __init__(
        self,
        room: Room,
        name: str,
        process: KernelProcess,
        on_ready: Callable[[int], object] | None = None,
    ) -> None:
        self._room = room
        self._notebook = Notebook(room)
        self._name = name
        self._process = process
        self._on_ready = on_ready
        self._since = int(time.time() * 1000)
        self._status = "starting"
        self._queue: deque[Request] = deque()
        self._seen: set[str] = set()
        self._running: Request | None = None
        self._restart = False
        self._wake = asyncio.Event()
        self._edited = asyncio.Event()
        self._changed = True  # the document, since it was last looked through
        self._aside: set[asyncio.Task[None]] = set()

    async def serve(self) -> None:
        """Until cancelled, however often, and then the process is ended; or no kernel starts."""
        self._show()
        with contextlib.suppress(TimeoutError, OfflineError):
            await self._room.wait_synced(_LEVEL_S)
        subscriptions = [
            self._room.presence.observe(lambda _: self._look()),
            self._room.observe(self._happened),
        ]
        sweeping = asyncio.create_task(self._sweep_forever())
        try:
            await self._start()
            while True:
                await self._turn()
        finally:
            for subscription in subscriptions:
                subscription.close()
            sweeping.cancel()
            await to_the_end(self._end(sweeping))

    async def _end(self, sweeping: asyncio.Task[None]) -> None:
        await asyncio.wait([sweeping, *self._aside])
        await self._process.stop()
        self._leave()

    async def _turn(self) -> None:
        self._look()
        if self._queue and self._leads():
            await self._run(self._queue.popleft())
        else:
            self._wake.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_S):  # wait_for of Python 3.11 loses a cancellation
                    await self._wake.wait()
        if self._restart or not await self._process.is_alive():
            if self._aside:
                await asyncio.wait(set(self._aside))
            self._restart = False
            await self._process.stop()
            await self._start()

    # --- running ---------------------------------------------------------------------------------

    async def _start(self) -> None:
        self._status = "starting"
        self._show()
        for attempt in range(1, _MAX_STARTS + 1):
            try:
                await self._process.start()
                break
            except Unsupported:
                raise
            except LocalError as error:
                await self._process.stop()
                if attempt == _MAX_STARTS:
                    raise
                logger.warning("the kernel did not start, it is tried again: %s", error)
        if self._on_ready is not None:
            self._on_ready(self._process.pid)
        self._status = "idle"
        self._show()

    async def _run(self, request: Request) -> None:
        notebook = self._notebook
        if notebook.is_taken(request.id):
            return  # whoever asked was gone for a moment, and asked again
        cell = await self._meant(request)
        if cell is None or cell.cell_type != "code":
            notebook.take(request.id)
            return
        self._running = request
        with self._room.transaction():
            notebook.take(request.id)
            notebook.clear_outputs(cell.id)
            notebook.set_execution(cell.id, "running")
        self._status = "busy"
        self._show()
        outputs, count, ending = RunOutputs(), None, ""
        flushing = asyncio.create_task(self._flush_forever(cell.id, outputs))
        try:
            await self._note()
            if not self._restart:
                count = await self._process.run(cell.source, outputs.take)
            else:
                ending = _RESTARTED
        except KernelDied:
            ending = _RESTARTED if self._restart else _DIED
            if not self._restart:
                self._drop_queue()  # it was meant for what is lost now
        except asyncio.CancelledError:
            ending = _STOPPED
            raise
        finally:
            flushing.cancel()
            with self._room.transaction():
                self._flush(cell.id, outputs)
                self._finish(cell.id, ending, count)
            self._running = None
            self._status = "idle"
            self._show()

    async def _note(self) -> None:
        """Return when it is on the disk that the request was taken, and at the relay if it answers.

        For a store may be of memory alone: then it is the relay that knows after a kill.
        """
        await self._room.wait_saved()
        uplink = self._room._device.uplink
        if uplink is not None and uplink.is_connected:
            with contextlib.suppress(CollabError, TimeoutError):
                await self._room.wait_synced(_ACK_S)

    async def _meant(self, request: Request) -> Cell | None:
        """The cell, once its source is the one that was seen by who asked; or soon as it is."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_MEANT_S):
                while not (
                    (cell := self._notebook.cell(request.cell)) and request.fits(cell.source)
                ):
                    self._edited.clear()
                    await self._edited.wait()
                return cell
        return self._notebook.cell(request.cell)

    async def _flush_forever(self, cell_id: str, outputs: RunOutputs) -> None:
        while True:
            await asyncio.sleep(_FLUSH_S)
            self._flush(cell_id, outputs)

    def _flush(self, cell_id: str, outputs: RunOutputs) -> None:
        due = outputs.flush()
        if not due:
            return
        with self._room.transaction():
            for change in due:
                if isinstance(change, Clear):
                    self._notebook.clear_outputs(cell_id)
                else:
                    self._notebook.append_output(cell_id, change)

    def _finish(self, cell_id: str, ending: str, count: int | None = None) -> None:
        with self._room.transaction():
            if ending:
                self._notebook.append_output(
                    cell_id,
                    {
                        "output_type": "error",
                        "ename": "KernelDied",
                        "evalue": ending,
                        "traceback": [ending],
                    },
                )
            self._notebook.set_execution(cell_id, "idle", count=count)

    # --- what others ask -------------------------------------------------------------------------

    def _look(self) -> None:
        """Take in what is asked for; runs wait in the queue until ``serve`` comes to them."""
        self._show()
        if not self._leads():
            return
        asked_now = list(asked(self._room.presence.others()))
        new = [request for request in asked_now if request.id not in self._seen]
        # What nobody asks for any more is forgotten; what waits is in the queue.
        self._seen = {request.id for request in [*asked_now, *self._queue]}
        for request in new:
            if not self._notebook.is_taken(request.id):
                self._do(request)

    def _do(self, request: Request) -> None:
        if request.act == "run":
            self._queue.append(request)
        else:
            self._notebook.take(request.id)
            self._drop_queue()
            if request.act == "restart":
                self._restart = True
                self._start_aside(self._process.kill())
            elif self._running is not None:
                self._start_aside(self._process.interrupt())
        self._show()
        self._wake.set()

    def _drop_queue(self) -> None:
        """What waited is not run, now or later."""
        with self._room.transaction():
            for request in self._queue:
                self._notebook.take(request.id)
        self._queue.clear()

    def _leads(self) -> bool:
        own = self._room.awareness.client_id
        return leads(own, self._since, self._room.presence.others())

    def _start_aside(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._aside.add(task)
        task.add_done_callback(self._aside.discard)

    # --- what was left behind --------------------------------------------------------------------

    def _happened(self, event: RoomEvent) -> None:
        if isinstance(event, DocumentChanged) and not event.local:
            self._changed = True
            self._edited.set()

    async def _sweep_forever(self) -> None:
        while True:
            await asyncio.sleep(_SWEEP_S)
            if self._changed:
                self._changed = False
                self._sweep()

    def _sweep(self) -> None:
        """Mark the cells that show as running and that nobody runs."""
        if any(is_kernel(state) for state in self._room.presence.others().values()):
            self._changed = True  # to be looked at when it has gone
            return
        mine = None if self._running is None else self._running.cell
        for cell_id in self._notebook.running():
            if cell_id != mine:
                self._finish(cell_id, _DIED)

    # --- how it shows itself ---------------------------------------------------------------------

    def _show(self) -> None:
        status = self._status
        if status == "idle" and not self._leads():
            status = "standby"
        shown = {
            "name": self._name,
            "user": {"name": self._name},
            "role": ROLE,
            "status": status,
            "running": None if self._running is None else self._running.cell,
            "queue": [request.cell for request in self._queue][:100],
            "since": self._since,
        }
        own = self._room.awareness.get_local_state() or {}
        if any(own.get(key) != value for key, value in shown.items()):
            self._room.presence.set(shown)

    def _leave(self) -> None:
        self._room.presence.set(
            dict.fromkeys(("role", "status", "running", "queue", "since"), None)
        )
