"""The relay's replicas: order, deaths of the worker, whose fault they are, and memory."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import pytest
from pycrdt import Doc, Text

from collab.errors import Closed
from collab.protocol.update import Coverage
from collab_server import replicas as module
from collab_server.replica_worker import Worker
from collab_server.replicas import Contents, Quarantined, ReplicaFailed, Replicas, WorkerDied
from collab_server.worker_link import WorkerLink
from collab_server.worker_protocol import Message, Tag
from tests.unit.server.hostile_worker import HANG, PRINT

EMPTY: Final = b"\0"
HOSTILE: Final = "tests.unit.server.hostile_worker"
# One item of client 1 in the root type "t", an Any: 40,000 arrays of one element, the last empty.
BOMB: Final = bytes([1, 1, 1, 0, 0x08, 1, 1, 0x74, 1]) + b"\x75\x01" * 40_000 + b"\x75\x00" + b"\0"


class Rooms:
    """The logs of a test's rooms, and a writer for each."""

    def __init__(self) -> None:
        self.logs: dict[int, list[bytes]] = {}
        self.heads: dict[int, int] = {}
        self.reloads: list[int] = []
        self._documents: dict[int, Doc[Any]] = {}

    def write(self, room_id: int, text: str) -> tuple[int, bytes]:
        """Append ``text`` to a room's document; the update in its log, and its offset there."""
        if room_id not in self._documents:
            document = self._documents[room_id] = Doc(client_id=room_id + 100)
            document["t"] = Text()
        document = self._documents[room_id]
        before = document.get_state()
        document["t"] += text
        update = document.get_update(before)
        return self.put(room_id, update), update

    def put(self, room_id: int, update: bytes) -> int:
        """Append any update; its offset."""
        self.logs.setdefault(room_id, []).append(update)
        self.heads[room_id] = 1 + max(self.heads.values(), default=0)
        return self.heads[room_id]

    async def reload(self, room_id: int) -> Contents:
        self.reloads.append(room_id)
        return Contents(None, list(self.logs[room_id]), self.heads[room_id])

    async def load(self, replicas: Replicas, room_id: int) -> None:
        """Have the worker hold a room, and forget that it was read for that."""
        await replicas.difference(room_id, EMPTY, timeout=10)
        self.reloads.remove(room_id)


def text_of(*updates: bytes) -> str:
    document: Doc[Any] = Doc()
    document["t"] = Text()
    for update in updates:
        document.apply_update(update)
    return str(document["t"])


async def text_in(replicas: Replicas, room_id: int) -> str:
    """What the worker has of a room."""
    return text_of((await replicas.difference(room_id, EMPTY, timeout=10))[1])


@asynccontextmanager
async def started(rooms: Rooms, **settings: Any) -> AsyncIterator[Replicas]:
    replicas = Replicas(reload=rooms.reload, restart_pauses_s=(0.0, 0.01), **settings)
    await replicas.start()
    try:
        yield replicas
    finally:
        await replicas.close()


def pid_of(replicas: Replicas) -> int:
    assert replicas.worker_pid is not None
    return replicas.worker_pid


async def next_worker(replicas: Replicas, before: int) -> None:
    async with asyncio.timeout(10):
        while replicas.worker_pid in (None, before):
            await asyncio.sleep(0.005)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


# --- order ---


def test_an_answer_holds_exactly_what_was_fed_before_the_question_and_names_its_offset() -> None:
    async def main() -> None:
        rooms = Rooms()
        rooms.write(1, "start ")
        async with started(rooms) as replicas:
            await rooms.load(replicas, 1)
            asked = []
            for number in range(200):
                replicas.feed(1, *rooms.write(1, f"{number} "))
                if number % 7 == 0:
                    question = asyncio.create_task(replicas.difference(1, EMPTY, timeout=10))
                    asked.append((number, rooms.heads[1], question))
                    await asyncio.sleep(0)
            for number, head, question in asked:
                expected = "start " + "".join(f"{n} " for n in range(number + 1))
                offset, update = await question
                assert (offset, text_of(update)) == (head, expected)
            assert rooms.reloads == []

    asyncio.run(main())


def test_a_difference_holds_what_the_asker_lacks_and_no_more() -> None:
    async def main() -> None:
        rooms = Rooms()
        _, first = rooms.write(1, "first")
        known: Doc[Any] = Doc()
        known.apply_update(first)
        rooms.write(1, "x" * 10_000)
        async with started(rooms) as replicas:
            await rooms.load(replicas, 1)
            _, rest = await replicas.difference(1, known.get_state(), timeout=5)
            assert text_of(first, rest) == "first" + "x" * 10_000
            assert text_of(rest) == ""
            _, nothing = await replicas.difference(1, state_of(rooms.logs[1]), timeout=5)
            assert len(nothing) < 10

    asyncio.run(main())


def state_of(updates: Sequence[bytes]) -> bytes:
    document: Doc[Any] = Doc()
    for update in updates:
        document.apply_update(update)
    return document.get_state()


def test_a_snapshot_stands_for_all_that_was_fed_and_names_its_coverage() -> None:
    async def main() -> None:
        rooms = Rooms()
        rooms.write(1, "a")
        async with started(rooms) as replicas:
            await rooms.load(replicas, 1)
            for _ in range(50):
                replicas.feed(1, *rooms.write(1, "b"))
            offset, snapshot, coverage = await replicas.snapshot(1)
            assert (offset, text_of(snapshot)) == (rooms.heads[1], "a" + "b" * 50)
            assert Coverage.from_bytes(coverage) == Coverage.from_update(snapshot)

    asyncio.run(main())


def test_a_document_larger_than_a_frame_passes_in_both_directions() -> None:
    async def main() -> None:
        rooms = Rooms()
        rooms.write(1, "0123456789" * 200_000)
        async with started(rooms) as replicas:
            await rooms.load(replicas, 1)
            replicas.feed(1, *rooms.write(1, "ab" * 400_000))
            _, update = await replicas.difference(1, EMPTY, timeout=10)
            assert text_of(update) == "0123456789" * 200_000 + "ab" * 400_000

    asyncio.run(main())


def test_what_is_fed_to_a_room_that_is_not_loaded_comes_with_the_log() -> None:
    async def main() -> None:
        rooms = Rooms()
        async with started(rooms) as replicas:
            replicas.feed(1, *rooms.write(1, "x"))
            assert not replicas.is_loaded(1)
            assert await text_in(replicas, 1) == "x"
            assert rooms.reloads == [1]

    asyncio.run(main())


def test_an_answer_of_a_replica_that_was_loaded_for_it_names_what_it_was_loaded_with() -> None:
    async def main() -> None:
        rooms = Rooms()
        rooms.write(1, "asked ")
        read_late = asyncio.Event()

        async def late(room_id: int) -> Contents:
            await read_late.wait()
            return await rooms.reload(room_id)

        replicas = Replicas(reload=late)
        await replicas.start()
        for word in ("one ", "two "):
            read_late.clear()
            question = asyncio.create_task(replicas.difference(1, EMPTY, timeout=10))
            await until(lambda: replicas.is_loaded(1))
            replicas.feed(1, *rooms.write(1, word))
            read_late.set()
            offset, update = await question
            assert (offset, text_of(update)) == (rooms.heads[1], text_of(*rooms.logs[1]))
            replicas.drop(1)
        await replicas.close()

    asyncio.run(main())


@pytest.mark.parametrize("first_gives_up", [False, True])
def test_what_is_fed_while_the_log_is_read_is_not_lost(first_gives_up: bool) -> None:
    async def main() -> None:
        rooms = Rooms()
        rooms.write(1, "before ")
        may_return = asyncio.Event()

        async def slow(room_id: int) -> Contents:
            stored = await rooms.reload(room_id)
            await may_return.wait()
            return stored

        replicas = Replicas(reload=slow)
        await replicas.start()
        asked = [asyncio.create_task(replicas.snapshot(1)) for _ in range(3)]
        await until(lambda: rooms.reloads == [1])
        replicas.feed(1, *rooms.write(1, "meanwhile"))
        if first_gives_up:  # the one that reads: another must go on
            asked.pop(0).cancel()
        may_return.set()
        for question in asked:
            offset, snapshot, _ = await question
            assert (offset, text_of(snapshot)) == (rooms.heads[1], "before meanwhile")
        assert len(rooms.reloads) == 1 + first_gives_up
        await replicas.close()

    asyncio.run(main())


def test_a_room_is_read_again_if_too_much_was_fed_meanwhile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "MAX_BACKLOG_BYTES", 1000)

    async def main() -> None:
        rooms = Rooms()
        rooms.write(1, "a")

        async def slow(room_id: int) -> Contents:
            stored = await rooms.reload(room_id)
            if len(rooms.reloads) == 1:
                for _ in range(20):
                    replicas.feed(1, *rooms.write(1, "b" * 100))
            return stored

        replicas = Replicas(reload=slow)
        await replicas.start()
        assert await text_in(replicas, 1) == "a" + "b" * 2000
        assert rooms.reloads == [1, 1]
        await replicas.close()

    asyncio.run(main())


def test_a_worker_that_does_not_read_costs_bounded_memory_and_no_update(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "MAX_FED_BYTES", 300_000)

    async def main() -> None:
        rooms = Rooms()
        rooms.write(1, "a")
        async with started(rooms) as replicas:
            await rooms.load(replicas, 1)
            os.kill(pid_of(replicas), signal.SIGSTOP)
            for _ in range(200):
                replicas.feed(1, *rooms.write(1, "b" * 10_000))
                await asyncio.sleep(0)
            assert not replicas.is_loaded(1)
            os.kill(pid_of(replicas), signal.SIGCONT)
            assert len(await text_in(replicas, 1)) == 1 + 200 * 10_000

    asyncio.run(main())


# --- deaths ---


def test_a_question_fails_with_its_worker_and_the_next_one_succeeds() -> None:
    async def main() -> None:
        rooms = Rooms()
        rooms.write(1, "safe")
        async with started(rooms) as replicas:
            await rooms.load(replicas, 1)
            for deaths in range(1, 4):
                os.kill(pid_of(replicas), signal.SIGSTOP)
                question = asyncio.create_task(replicas.difference(1, EMPTY, timeout=10))
                await asyncio.sleep(0.01)
                os.kill(pid_of(replicas), signal.SIGKILL)
                with pytest.raises(WorkerDied):
                    await question
                replicas.feed(1, *rooms.write(1, "!"))
                _, update = await replicas.difference(1, EMPTY, timeout=10)
                assert text_of(update) == "safe" + "!" * deaths
            # It was idle when it died, three times: nobody's fault.
            assert not replicas.is_quarantined(1)
            assert rooms.reloads == [1] * 3

    asyncio.run(main())


def test_a_bomb_quarantines_its_room_after_two_deaths_and_no_other_room() -> None:
    async def main() -> None:
        rooms = Rooms()
        rooms.write(1, "good")
        rooms.put(2, BOMB)
        async with started(rooms, worker_module=HOSTILE) as replicas:
            for _ in range(2):
                await rooms.load(replicas, 1)
                before = pid_of(replicas)
                with pytest.raises(WorkerDied):
                    await replicas.difference(2, EMPTY, timeout=20)
                await next_worker(replicas, before)
            for question in (
                replicas.difference(2, EMPTY, timeout=5),
                replicas.snapshot(2),
            ):
                with pytest.raises(Quarantined):
                    await question
            replicas.feed(2, rooms.put(2, BOMB), BOMB)
            before = pid_of(replicas)
            assert await text_in(replicas, 1) == "good"
            assert pid_of(replicas) == before

    asyncio.run(main())


def test_a_death_is_the_fault_of_the_room_that_was_fed_not_of_the_one_that_asked() -> None:
    async def main() -> None:
        rooms = Rooms()
        rooms.write(1, "asks")
        rooms.write(2, "is fed")
        async with started(rooms, worker_module=HOSTILE) as replicas:
            for _ in range(2):
                await rooms.load(replicas, 1)
                await rooms.load(replicas, 2)
                before = pid_of(replicas)
                replicas.feed(2, 9, BOMB)
                with pytest.raises(WorkerDied):
                    await replicas.difference(1, EMPTY, timeout=20)
                await next_worker(replicas, before)
            assert replicas.is_quarantined(2)
            assert not replicas.is_quarantined(1)
            assert await text_in(replicas, 1) == "asks"

    asyncio.run(main())


def test_a_command_that_does_not_end_costs_the_worker_and_names_its_room() -> None:
    async def main() -> None:
        rooms = Rooms()
        rooms.write(1, "good")
        rooms.put(2, HANG)
        async with started(rooms, worker_module=HOSTILE, stall_timeout_s=0.4) as replicas:
            for _ in range(2):
                with pytest.raises(WorkerDied):
                    await replicas.difference(2, EMPTY, timeout=20)
            assert replicas.is_quarantined(2)
            await until(lambda: replicas.worker_pid is not None)
            before = pid_of(replicas)
            await asyncio.sleep(0.6)  # an idle worker does not stall
            assert await text_in(replicas, 1) == "good"
            assert pid_of(replicas) == before

    asyncio.run(main())


def test_a_worker_that_stands_still_between_commands_is_ended_once_it_is_asked() -> None:
    """Stopped, or waiting for a disk: it would never answer again, and nobody would see why."""

    async def main() -> None:
        rooms = Rooms()
        rooms.write(1, "good")
        async with started(rooms, stall_timeout_s=0.4) as replicas:
            assert await text_in(replicas, 1) == "good"
            os.kill(pid_of(replicas), signal.SIGSTOP)
            with pytest.raises(WorkerDied):
                await replicas.difference(1, EMPTY, timeout=20)
            assert await text_in(replicas, 1) == "good"
            assert replicas._deaths == {}

    asyncio.run(main())


def test_a_slow_answer_is_a_timeout_and_the_next_question_gets_its_own_answer() -> None:
    async def main() -> None:
        rooms = Rooms()
        rooms.write(1, "one")
        rooms.write(2, "two")
        async with started(rooms) as replicas:
            await rooms.load(replicas, 1)
            os.kill(pid_of(replicas), signal.SIGSTOP)
            with pytest.raises(TimeoutError):
                await replicas.difference(1, EMPTY, timeout=0.05)
            os.kill(pid_of(replicas), signal.SIGCONT)
            assert await text_in(replicas, 2) == "two"
            assert await text_in(replicas, 1) == "one"

    asyncio.run(main())


def test_the_worker_ends_when_its_relay_is_killed() -> None:
    relay = """
import asyncio
from collab_server.replicas import Replicas
async def reload(room_id):
    raise AssertionError
async def main():
    replicas = Replicas(reload=reload)
    await replicas.start()
    print(replicas.worker_pid, flush=True)
    await asyncio.sleep(60)
asyncio.run(main())
"""
    process = subprocess.Popen([sys.executable, "-c", relay], stdout=subprocess.PIPE)
    assert process.stdout is not None
    with process.stdout:
        pid = int(process.stdout.readline())
        os.kill(pid, 0)
        process.kill()
        process.wait()
        deadline = time.monotonic() + 10
        with contextlib.suppress(ProcessLookupError):
            while time.monotonic() < deadline and not _is_zombie(pid):
                os.kill(pid, 0)
                time.sleep(0.01)
        assert time.monotonic() < deadline


def _is_zombie(pid: int) -> bool:
    """Ended, and nobody has asked: some containers have no init that would."""
    with contextlib.suppress(OSError), open(f"/proc/{pid}/stat") as stat:
        return stat.read().rpartition(")")[2].split()[0] == "Z"
    return False


def test_what_an_engine_prints_does_not_reach_the_pipe(
    capfd: pytest.CaptureFixture[str],
) -> None:
    async def main() -> None:
        rooms = Rooms()
        rooms.write(1, "quiet")
        async with started(rooms, worker_module=HOSTILE) as replicas:
            await rooms.load(replicas, 1)
            replicas.feed(1, 9, PRINT)
            assert await text_in(replicas, 1) == "quiet"

    asyncio.run(main())
    printed = capfd.readouterr()
    assert "xxx" in printed.err
    assert "xxx" not in printed.out


def test_a_worker_that_cannot_start_says_so_at_once() -> None:
    async def main() -> None:
        replicas = Replicas(reload=Rooms().reload, worker_module="tests.no_such_module")
        with pytest.raises(WorkerDied):
            await replicas.start()
        await replicas.close()

    asyncio.run(main())


def test_closing_ends_open_questions_and_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STOP_TIMEOUT_S", 0.1)

    async def main() -> None:
        rooms = Rooms()
        rooms.write(1, "x")
        async with started(rooms) as replicas:
            await rooms.load(replicas, 1)
            pid = pid_of(replicas)
            os.kill(pid, signal.SIGSTOP)
            question = asyncio.create_task(replicas.snapshot(1))
            await asyncio.sleep(0.01)
        with pytest.raises(WorkerDied):
            await question
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
        with pytest.raises(Closed):
            await replicas.snapshot(1)

    asyncio.run(main())


# --- what a replica refuses ---


def test_a_log_that_the_guard_refuses_costs_its_room_only() -> None:
    async def main() -> None:
        rooms = Rooms()
        rooms.write(1, "good")
        rooms.write(2, "sound")
        async with started(rooms) as replicas:
            await rooms.load(replicas, 1)
            before = pid_of(replicas)
            sound = rooms.logs[2]
            for broken in ([BOMB], [b"\xff\xff"], [b""], [b"\1" * 50]):
                rooms.logs[2] = broken
                with pytest.raises(ReplicaFailed):
                    await replicas.difference(2, EMPTY, timeout=10)
                assert not replicas.is_loaded(2)
            rooms.logs[2] = sound
            assert await text_in(replicas, 2) == "sound"
            replicas.feed(2, 9, b"\xff\xff")
            with pytest.raises(ReplicaFailed, match="BadUpdate"):
                await replicas.snapshot(2)
            assert await text_in(replicas, 2) == "sound"
            assert await text_in(replicas, 1) == "good"
            assert pid_of(replicas) == before

    asyncio.run(main())


def test_a_bad_state_vector_is_refused_and_the_replica_stays() -> None:
    async def main() -> None:
        rooms = Rooms()
        rooms.write(1, "good")
        async with started(rooms) as replicas:
            await rooms.load(replicas, 1)
            with pytest.raises(ReplicaFailed):
                await replicas.difference(1, b"\xff", timeout=5)
            assert await text_in(replicas, 1) == "good"
            assert rooms.reloads == []

    asyncio.run(main())


def test_a_snapshot_that_lacks_what_was_fed_is_not_given_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rooms = Rooms()
    updates = [rooms.write(1, word)[1] for word in ("a", "b", "c")]
    worker = Worker()
    worker.carry_out(Message(Tag.OPEN, 1))
    worker.carry_out(Message(Tag.FEED, 1, blobs=updates[:2]))
    document = worker._replicas[1].document
    monkeypatch.setattr(type(document), "apply", lambda _self, _updates: None)  # its mistake
    worker.carry_out(Message(Tag.FEED, 1, blobs=updates[2:]))
    answer = worker.carry_out(Message(Tag.SNAPSHOT, 1, number=5))
    assert answer is not None
    assert answer.tag is Tag.FAILED
    assert b"does not hold all" in answer.blobs[0]


# --- memory ---


def test_the_room_that_was_not_asked_for_longest_is_dropped_and_comes_back() -> None:
    async def main() -> None:
        rooms = Rooms()
        for room_id in (1, 2, 3):
            rooms.write(room_id, "x" * 10_000)
        async with started(rooms, memory_bytes=12 * 25_000) as replicas:
            await rooms.load(replicas, 1)
            await rooms.load(replicas, 2)
            await replicas.difference(1, EMPTY, timeout=5)
            await rooms.load(replicas, 3)
            assert [replicas.is_loaded(room_id) for room_id in (1, 2, 3)] == [True, False, True]
            assert len(await text_in(replicas, 2)) == 10_000
            assert rooms.reloads == [2]
            assert [replicas.is_loaded(room_id) for room_id in (1, 2, 3)] == [False, True, True]

    asyncio.run(main())


def test_what_is_fed_counts_and_a_lone_room_may_pass_the_budget() -> None:
    async def main() -> None:
        rooms = Rooms()
        for room_id in (1, 2):
            rooms.write(room_id, "x" * 1000)
        async with started(rooms, memory_bytes=12 * 5_000) as replicas:
            await rooms.load(replicas, 1)
            await rooms.load(replicas, 2)
            assert replicas.is_loaded(1)
            replicas.feed(2, *rooms.write(2, "y" * 10_000))
            assert not replicas.is_loaded(1)
            assert replicas.is_loaded(2)
            assert len(await text_in(replicas, 2)) == 11_000

    asyncio.run(main())


def test_a_room_with_an_open_question_is_not_dropped() -> None:
    async def main() -> None:
        rooms = Rooms()
        for room_id in (1, 2, 3):
            rooms.write(room_id, "x" * 10_000)
        async with started(rooms, memory_bytes=12 * 15_000) as replicas:
            await rooms.load(replicas, 1)
            os.kill(pid_of(replicas), signal.SIGSTOP)
            asked = [
                asyncio.create_task(replicas.difference(room_id, EMPTY, timeout=10))
                for room_id in (1, 2, 3)
            ]
            await until(lambda: rooms.reloads == [2, 3])
            assert all(replicas.is_loaded(room_id) for room_id in (1, 2, 3))
            os.kill(pid_of(replicas), signal.SIGCONT)
            for question in asked:
                assert len(text_of((await question)[1])) == 10_000
            assert [replicas.is_loaded(room_id) for room_id in (1, 2, 3)] == [False, False, True]

    asyncio.run(main())


def test_a_dropped_room_is_dropped_in_the_worker_and_read_again_when_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sent: list[Message] = []
    send = WorkerLink.send

    def recording(link: WorkerLink, message: Message) -> None:
        sent.append(message)
        send(link, message)

    monkeypatch.setattr(WorkerLink, "send", recording)

    async def main() -> None:
        rooms = Rooms()
        rooms.write(1, "x")
        async with started(rooms) as replicas:
            await rooms.load(replicas, 1)
            replicas.drop(1)
            replicas.drop(1)
            assert [message.tag for message in sent[-2:]] == [Tag.DIFFERENCE, Tag.DROP]
            assert not replicas.is_loaded(1)
            replicas.feed(1, *rooms.write(1, "y"))
            assert await text_in(replicas, 1) == "xy"
            assert rooms.reloads == [1]

    asyncio.run(main())
