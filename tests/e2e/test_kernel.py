"""A kernel in a room: real code in a real kernel, killed at any time, and the notebook goes on."""

from __future__ import annotations

import asyncio
import base64
import os
import random
import signal
from functools import partial
from pathlib import Path

import collab
from collab import limits
from tests.e2e.notebook_support import LONG_S, is_gone, kernel, person
from tests.e2e.support import QUICK, Wire, run, running, until
from tests.unit.notebook.documents import PNG

EVERYTHING = f"""
import base64, sys
from IPython.display import Image, display
print("你好 📊", flush=True)  # ipykernel gathers each stream for itself
print("careful", file=sys.stderr, flush=True)
print("again", flush=True)
display(Image(data=base64.b64decode("{PNG}"), format="png"))
6 * 7
"""


def test_two_people_see_all_that_cells_show_in_its_order(tmp_path: Path) -> None:
    async def main() -> None:
        async with (
            running(tmp_path) as (url, _),
            collab.open(":memory:", relay=url, settings=QUICK) as first,
            collab.open(":memory:", relay=url, settings=QUICK) as second,
            kernel(url) as program,
        ):
            ada, ben = await person(first), await person(second)
            await ada.sees("idle")
            [shown] = ada.kernels()
            assert (shown["name"], shown["role"]) == ("Kernel", "kernel")
            everything, fails = ada.write(EVERYTHING), ada.write("1 / 0")
            words = ada.notebook.add_cell("markdown", "# no code")
            # Asked for at once: presence overtakes the edits, and the digests say what is meant.
            [done, failed, text] = await ada.run(everything, fails, words)
            assert [one["output_type"] for one in done.outputs] == [
                "stream", "stream", "stream", "display_data", "execute_result"
            ]  # fmt: skip
            assert [one["text"] for one in done.outputs[:3]] == [
                "你好 📊\n",
                "careful\n",
                "again\n",
            ]
            assert base64.b64decode(done.outputs[3]["data"]["image/png"]) == base64.b64decode(PNG)
            assert done.outputs[4]["data"]["text/plain"] == "42"
            assert (done.execution_count, failed.execution_count) == (1, 2)
            [error] = failed.outputs
            assert error["ename"] == "ZeroDivisionError"
            assert "\x1b" not in "".join(error["traceback"])
            assert "1 / 0" in "".join(error["traceback"])
            assert not text.outputs
            await until(lambda: ben.notebook.cells == ada.notebook.cells)
            # A second run begins with nothing, and the first's request is not done again.
            [again] = await ben.run(everything)
            assert again.execution_count == 3
            assert len(again.outputs) == 5
            assert await program.stop() == 0
            await ada.sees()
            assert is_gone(program.pids[0])

    run(main())


def test_an_interrupt_ends_the_cell_and_a_restart_the_process(tmp_path: Path) -> None:
    async def main() -> None:
        async with (
            running(tmp_path) as (url, _),
            collab.open(":memory:", relay=url, settings=QUICK) as client,
            kernel(url) as program,
        ):
            ada = await person(client)
            await ada.sees("idle")
            sets = ada.write("x = 1")
            endless = ada.write("import time\nprint('begun')\nwhile True: time.sleep(0.01)")
            waits = ada.write("print('never')")
            requests = ada.ask(sets, endless, waits)
            await ada.shows(endless, "begun")
            await ada.sees("busy")
            assert ada.kernels()[0]["running"] == endless
            assert ada.kernels()[0]["queue"] == [waits]
            ada.tell("interrupt")
            await ada.rests(endless)
            assert ada.cell(endless).outputs[-1]["ename"] == "KeyboardInterrupt"
            await ada.took(*requests)
            await ada.sees("idle")
            assert not ada.cell(waits).outputs  # what waited is not run
            asks = ada.write("x")
            [still] = await ada.run(asks)
            assert still.outputs[0]["data"]["text/plain"] == "1"  # the same process

            # Another cell: this one has its outputs of before until it runs again.
            endless = ada.write("import time\nprint('begun')\nwhile True: time.sleep(0.01)")
            requests = ada.ask(endless)
            await ada.took(*requests)
            await ada.shows(endless, "begun")
            ada.tell("restart")
            await ada.rests(endless)
            assert "the kernel was restarted while this ran" in ada.text(endless)
            await program.ready()
            assert is_gone(program.pids[0])
            await ada.sees("idle")
            [gone] = await ada.run(asks)
            assert gone.outputs[0]["ename"] == "NameError"
            assert gone.execution_count == 1

    run(main())


def test_a_kernel_that_is_killed_while_it_runs_a_cell_is_replaced(tmp_path: Path) -> None:
    async def main() -> None:
        async with (
            running(tmp_path) as (url, _),
            collab.open(":memory:", relay=url, settings=QUICK) as client,
            kernel(url) as program,
        ):
            ada = await person(client)
            await ada.sees("idle")
            cell = ada.write("import time\nprint('begun')\ntime.sleep(600)")
            requests = ada.ask(cell)
            await ada.took(*requests)
            await ada.shows(cell, "begun")
            os.kill(program.pids[0], signal.SIGKILL)
            await ada.rests(cell)
            assert "begun" in ada.text(cell)
            assert ada.cell(cell).outputs[-1]["evalue"] == "the kernel died while this ran"
            await program.ready()
            [done] = await ada.run(ada.write("'usable'"))
            assert done.outputs[0]["data"]["text/plain"] == "'usable'"

            os.kill(program.pids[1], signal.SIGKILL)  # and while nothing runs
            await program.ready()
            [done] = await ada.run(ada.write("'again'"))
            assert done.outputs[0]["data"]["text/plain"] == "'again'"

    run(main())


def test_the_program_killed_while_a_cell_runs_leaves_a_notebook_that_says_so(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        ran = tmp_path / "ran"
        store = tmp_path / "kernel.db"
        async with (
            running(tmp_path / "relay") as (url, _),
            collab.open(":memory:", relay=url, settings=QUICK) as client,
        ):
            ada = await person(client)
            cell = ada.write(
                f"import time\nprint('begun')\nopen({str(ran)!r}, 'a').write('once')\n"
                f"time.sleep(600)"
            )
            async with kernel(url, store) as program:
                await ada.sees("idle")
                requests = ada.ask(cell)
                await ada.took(*requests)
                await ada.shows(cell, "begun")
                await program.kill()
                await ada.sees()
                assert ada.cell(cell).execution_state == "running"  # nobody is there to say
                await until(lambda: is_gone(program.pids[0]), timeout_s=LONG_S)
            async with kernel(url, store) as program:
                await ada.sees("idle")
                await ada.rests(cell)
                assert "begun" in ada.text(cell)
                assert ada.cell(cell).outputs[-1]["evalue"] == "the kernel died while this ran"
                # The request still stands in Ada's presence, and is not done again.
                assert requests[0] in str(client._rooms.all()[0].awareness.get_local_state())
                [done] = await ada.run(ada.write("'usable'"))
                assert done.outputs[0]["data"]["text/plain"] == "'usable'"
                assert ran.read_text() == "once"
                assert await program.stop() == 0

    run(main())


def test_however_often_the_program_is_killed_no_cell_runs_twice(tmp_path: Path) -> None:
    seed = 20261127
    print("seed", seed)
    dice = random.Random(seed)
    ran = tmp_path / "ran"
    ran.touch()

    def numbers() -> list[int]:
        return [int(word) for word in ran.read_text().split()]

    def has_run(goal: int) -> bool:
        return len(numbers()) >= goal

    async def main() -> None:
        async with (
            running(tmp_path / "relay") as (url, _),
            collab.open(":memory:", relay=url, settings=QUICK) as client,
        ):
            ada = await person(client)
            cells = [
                ada.write(
                    f"import time\nwith open({str(ran)!r}, 'a') as f: print({n}, file=f)\n"
                    f"time.sleep(0.05)"
                )
                for n in range(16)
            ]
            requests = ada.ask(*cells)
            kills = 2
            for _ in range(kills):
                goal = len(numbers()) + dice.randrange(2, 5)
                async with kernel(url, tmp_path / "kernel.db") as program:
                    await until(partial(has_run, goal), timeout_s=LONG_S)
                    await asyncio.sleep(dice.random() * 0.1)
                    await program.kill()
            async with kernel(url, tmp_path / "kernel.db"):
                await ada.took(*requests)
                await ada.rests(*cells)
            done = numbers()
            assert done == sorted(set(done))
            for n, cell in enumerate(cells):
                assert n in done or "the kernel died" in ada.text(cell)
            died = [cell for cell in cells if "the kernel died" in ada.text(cell)]
            assert len(died) <= kills

    run(main())


def test_a_program_that_is_told_to_stop_says_so_in_the_cell_that_runs(tmp_path: Path) -> None:
    async def main() -> None:
        async with (
            running(tmp_path) as (url, _),
            collab.open(":memory:", relay=url, settings=QUICK) as client,
            kernel(url) as program,
        ):
            ada = await person(client)
            await ada.sees("idle")
            cell = ada.write("import time\nprint('begun')\ntime.sleep(600)")
            requests = ada.ask(cell)
            await ada.took(*requests)
            await ada.shows(cell, "begun")
            assert await program.stop() == 0
            await ada.rests(cell)
            assert ada.cell(cell).outputs[-1]["evalue"] == "the kernel was stopped while this ran"
            assert is_gone(program.pids[0])

    run(main())


def test_an_endless_print_is_cut_and_can_be_interrupted(tmp_path: Path) -> None:
    async def main() -> None:
        async with (
            running(tmp_path) as (url, _),
            collab.open(":memory:", relay=url, settings=QUICK) as client,
            kernel(url),
        ):
            ada = await person(client)
            await ada.sees("idle")
            cell = ada.write("while True: print('x' * 99)")
            requests = ada.ask(cell)
            await ada.took(*requests)
            await ada.shows(cell, "cut here")
            size = len(ada.notebook.room.document.get_update())
            ada.tell("interrupt")
            await ada.rests(cell)
            assert ada.cell(cell).outputs[-1]["ename"] == "KeyboardInterrupt"
            text = ada.text(cell)
            assert text.count("cut here") == 1
            assert len(text) < limits.MAX_RUN_TEXT_BYTES + 1000
            grown = len(ada.notebook.room.document.get_update()) - size
            assert grown < 10_000  # by the error, and by no more x
            [done] = await ada.run(ada.write("'usable'"))
            assert done.outputs[0]["data"]["text/plain"] == "'usable'"

    run(main())


def test_without_the_relay_cells_run_on_and_all_comes_together_later(tmp_path: Path) -> None:
    async def main() -> None:
        async with (
            running(tmp_path / "relay") as (url, _),
            Wire(url) as wire,
            collab.open(":memory:", relay=url, settings=QUICK) as client,
            kernel(wire.url),
        ):
            ada = await person(client)
            await ada.sees("idle")
            go, done = tmp_path / "go", tmp_path / "done"
            cell = ada.write(
                "import pathlib, time\nprint('begun')\n"
                f"while not pathlib.Path({str(go)!r}).exists(): time.sleep(0.01)\n"
                "print('went on')"
            )
            after = ada.write(f"pathlib.Path({str(done)!r}).touch()\nprint('and the next')")
            requests = ada.ask(cell, after)
            await ada.shows(cell, "begun")
            wire.target = ""
            await wire.cut()
            await ada.sees()
            go.touch()
            await until(done.exists, timeout_s=LONG_S)  # what was queued runs, too
            ada.notebook.source(after).insert(0, "# edited meanwhile\n")
            assert "went on" not in ada.text(cell)
            wire.target = url
            await ada.took(*requests)
            await ada.shows(cell, "went on")
            await ada.shows(after, "and the next")
            await ada.rests(cell, after)
            assert ada.cell(after).source.startswith("# edited meanwhile\n")

    run(main())


def test_of_two_kernels_one_runs_a_cell_and_the_other_takes_over(tmp_path: Path) -> None:
    async def main() -> None:
        async with (
            running(tmp_path) as (url, _),
            collab.open(":memory:", relay=url, settings=QUICK) as client,
            kernel(url) as first,
        ):
            ada = await person(client)
            await ada.sees("idle")
            async with kernel(url) as second:
                await ada.sees("idle", "standby")
                who = ada.write("import os\nos.getpid()")
                [done] = await ada.run(who)
                assert done.outputs[0]["data"]["text/plain"] == str(first.pids[0])
                await first.kill()
                await ada.sees("idle")
                [done] = await ada.run(who)
                assert done.outputs[0]["data"]["text/plain"] == str(second.pids[0])

    run(main())


def test_a_cell_that_is_deleted_while_it_runs_is_gone_and_nothing_else(tmp_path: Path) -> None:
    async def main() -> None:
        async with (
            running(tmp_path) as (url, _),
            collab.open(":memory:", relay=url, settings=QUICK) as client,
            kernel(url),
        ):
            ada = await person(client)
            await ada.sees("idle")
            cell = ada.write("import time\nfor n in range(20): print(n); time.sleep(0.05)")
            requests = ada.ask(cell)
            await ada.took(*requests)
            await ada.shows(cell, "1")
            ada.notebook.delete_cell(cell)
            [done] = await ada.run(ada.write("n"))
            assert done.outputs[0]["data"]["text/plain"] == "19"
            assert ada.notebook.cell(cell) is None
            assert not ada.notebook.running()

    run(main())


def test_a_kernel_that_is_not_installed_ends_the_program_with_its_name(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path) as (url, _):
            import sys

            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "collab.notebook.kernel", "nb", "--relay", url,
                "--kernel", "nosuchkernel",
                stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
            )  # fmt: skip
            _, errors = await asyncio.wait_for(process.communicate(), LONG_S)
            assert process.returncode == 1
            assert b"nosuchkernel" in errors
            assert b"Traceback" not in errors

    run(main())
