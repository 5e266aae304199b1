"""Where a kernel may be used at all, and what is on the disk before code runs."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from pathlib import Path
from queue import Empty
from typing import Any

import pytest

import collab
import collab.testing
from collab import cli
from collab.notebook.document import Notebook, open_notebook
from collab.notebook.ipython import KernelProcess, Take
from collab.notebook.kernel import KernelProgram, run_kernel
from collab.notebook.outputs import note
from collab.notebook.server import KernelServer
from tests.e2e.support import QUICK, run, soon, until


class Scripted(KernelProcess):
    """A kernel without a process: ``run`` notes how its room stands, and shows one line."""

    def __init__(self, room: collab.Room, *, fails: int = 0) -> None:
        super().__init__()
        self._room = room
        self._fails = fails
        self.starts = 0
        self.stood: list[tuple[bool, bool, bool]] = []  # saved, synced, taken

    async def start(self) -> None:
        self.starts += 1
        if self.starts <= self._fails:
            raise collab.LocalError("it did not come")

    async def is_alive(self) -> bool:
        return True

    async def run(self, source: str, take: Take) -> int | None:
        status = self._room.status
        taken = Notebook(self._room).is_taken("r")
        self.stood.append((status.saved, status.synced, taken))
        take("stream", {"name": "stdout", "text": source})
        return len(self.stood)

    async def stop(self) -> None:
        pass


def asks(room: collab.Room, wish: Mapping[str, Any]) -> None:
    room.presence.set({"run": dict(wish)})


def test_that_a_request_was_taken_is_saved_and_synced_before_its_code_runs() -> None:
    async def main() -> None:
        async with (
            collab.testing.relay() as relay,
            collab.open(":memory:", relay=relay.url, settings=QUICK) as hers,
            collab.open(":memory:", relay=relay.url, settings=QUICK) as kernels,
        ):
            notebook = await open_notebook(hers, "nb")
            notebook.source("first").insert(0, "x")
            room = (await open_notebook(kernels, "nb")).room
            process = Scripted(room)
            serving = asyncio.create_task(KernelServer(room, "Kernel", process).serve())
            asks(notebook.room, {"cell": "first", "request": "r"})
            await until(lambda: process.stood)
            assert process.stood == [(True, True, True)]
            await until(lambda: not notebook.running() and notebook.is_taken("r"))
            serving.cancel()
            with pytest.raises(asyncio.CancelledError):
                await soon(serving)

    run(main())


def test_without_a_relay_it_is_saved_and_the_code_is_not_held_up(tmp_path: Path) -> None:
    async def main() -> None:
        async with collab.open(tmp_path / "kernel.db") as client:
            notebook = await open_notebook(client, "nb")
            process = Scripted(notebook.room)
            server = KernelServer(notebook.room, "Kernel", process)
            serving = asyncio.create_task(server.serve())
            await until(lambda: process.starts)
            # Nobody else can be here without a relay, so the wish is put where presence has it.
            notebook.room.awareness.states[7] = {"run": {"cell": "first", "request": "r"}}
            await until(lambda: process.stood)
            assert process.stood == [(True, False, True)]
            serving.cancel()
            with pytest.raises(asyncio.CancelledError):
                await soon(serving)

    run(main())


@pytest.mark.parametrize(("fails", "starts"), [(2, 3), (9, 3)])
def test_a_kernel_that_does_not_come_is_tried_three_times(fails: int, starts: int) -> None:
    async def main() -> None:
        async with collab.open(":memory:") as client:
            notebook = await open_notebook(client, "nb")
            process = Scripted(notebook.room, fails=fails)
            ready: list[int] = []
            server = KernelServer(notebook.room, "Kernel", process, ready.append)
            serving = asyncio.create_task(server.serve())
            await until(lambda: ready or serving.done())
            assert process.starts == starts
            if fails > starts:
                with pytest.raises(collab.LocalError, match="did not come"):
                    await serving
                return
            serving.cancel()
            with pytest.raises(asyncio.CancelledError):
                await soon(serving)

    run(main())


class Slow:
    """Speaks to a kernel whose code is quiet for long, and whose outputs come after the reply."""

    def __init__(self) -> None:
        self.waits = 0

    def execute(self, source: str, **_: Any) -> str:
        return source

    async def get_shell_msg(self, **_: Any) -> dict[str, Any]:
        if self.waits < 20:
            raise Empty
        return {"parent_header": {"msg_id": "code"}, "content": {"execution_count": 7}}

    async def get_iopub_msg(self, **_: Any) -> dict[str, Any]:
        self.waits += 1
        if self.waits < 25:
            raise Empty
        kind, content = ("stream", {"text": "late"})
        if self.waits > 25:
            kind, content = "status", {"execution_state": "idle"}
        return {
            "parent_header": {"msg_id": "code"}, "header": {"msg_type": kind}, "content": content
        }  # fmt: skip


class Spoken(KernelProcess):
    """A kernel that is alive and spoken to by ``Slow``."""

    async def is_alive(self) -> bool:
        return True


def test_outputs_that_come_after_the_reply_are_waited_for_after_quiet_code_too() -> None:
    process, taken = Spoken(), list[Any]()
    process._client = Slow()
    assert run(process.run("code", lambda kind, content: taken.append((kind, content)))) == 7
    assert taken == [("stream", {"text": "late"})]


def test_a_second_cancellation_does_not_leave_the_process_behind() -> None:
    async def main() -> None:
        async with collab.open(":memory:") as client:
            room = (await open_notebook(client, "nb")).room
            stopping, may_stop, stopped = asyncio.Event(), asyncio.Event(), asyncio.Event()

            class Stubborn(Scripted):
                async def stop(self) -> None:
                    stopping.set()
                    await may_stop.wait()
                    stopped.set()

            process = Stubborn(room)
            serving = asyncio.create_task(KernelServer(room, "Kernel", process).serve())
            await until(lambda: process.starts)
            serving.cancel()
            await soon(stopping.wait())
            serving.cancel()
            await asyncio.sleep(0)
            may_stop.set()
            with pytest.raises(asyncio.CancelledError):
                await soon(serving)
            assert stopped.is_set()

    run(main())


@pytest.mark.parametrize("turns", range(4))
def test_it_ends_also_if_somebody_asks_for_something_in_that_moment(turns: int) -> None:
    async def main() -> None:
        async with collab.open(":memory:") as client:
            room = (await open_notebook(client, "nb")).room
            process, ready = Scripted(room), list[int]()
            server = KernelServer(room, "Kernel", process, ready.append)
            serving = asyncio.create_task(server.serve())
            await until(lambda: ready and server._wake._waiters)
            server._wake.set()
            for _ in range(turns):
                await asyncio.sleep(0)
            serving.cancel()
            with pytest.raises(asyncio.CancelledError):
                await soon(serving)

    run(main())


@pytest.mark.parametrize(
    ("writes", "store", "said"),
    [(0, None, ""), (1, None, "that is lost"), (1, "a.db", "That is saved in ")],
)
def test_what_did_not_reach_the_relay_is_said_at_the_end(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    writes: int,
    store: str | None,
    said: str,
) -> None:
    async def serve(room: collab.Room, **_: object) -> None:
        for _number in range(writes):
            Notebook(room).append_output("first", note("what the code wrote"))
        await room.wait_saved()

    monkeypatch.setattr("collab.notebook.kernel.serve_kernel", serve)
    monkeypatch.setattr("collab.notebook.kernel._LEAVE_S", 0.1)
    arguments = ["collab", "kernel", "nb", "--relay", "ws://127.0.0.1:9"]
    if store:
        arguments += ["--store", str(tmp_path / store)]
    monkeypatch.setattr(sys, "argv", arguments)
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code == (1 if said else 0)
    errors = capsys.readouterr().err
    assert said in errors
    assert bool(errors) == bool(said)


@pytest.mark.parametrize(
    "relay",
    ["ws://192.0.2.1:8765", "wss://relay.example", "ws://0.0.0.0:1", "ws://127.0.0.1.example:1",
     "ws://localhost.example", "ws://", "ws://[2001:db8::1]:1", "ws://[::1"],
)  # fmt: skip
def test_a_relay_that_is_not_on_this_machine_is_refused(tmp_path: Path, relay: str) -> None:
    store = tmp_path / "kernel.db"
    with pytest.raises(collab.LocalError, match="this machine alone"):
        run(run_kernel(KernelProgram("nb", relay, store)))
    assert not store.exists()


def test_without_the_extra_the_error_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jupyter_client.kernelspec", None)
    with pytest.raises(collab.Unsupported, match=r"collab-sync\[notebook\]"):
        run(KernelProcess().start())
