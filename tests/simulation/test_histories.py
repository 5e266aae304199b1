"""Whatever goes wrong in whatever order, no promise is broken, and what was mended agrees."""

from __future__ import annotations

import pytest

from tests.simulation.history import History
from tests.simulation.many import run_many
from tests.simulation.mutants import MUTANTS, caught_after
from tests.simulation.plan import FAULTS

HISTORIES = 2000
START = 1
ONCE_BROKEN = (
    # Faults of the simulation itself, mended
    299, 6_938, 20_020, 20_003_180, 760_000_103, 770_002_978,
    770_001_929, 770_002_973, 770_003_804,  # a message is edited whose ``send`` never returned
    20_014_661, 20_059_034, 20_059_094,  # what a user had read was lost, and not by who was told
    20_079_322,  # a lane is forgotten, and what it brought deleted by age: it comes again
    770_000_883,  # a file is cloned before a program hears what it has sent
    # Faults of the product
    20_013_210,  # what a user read elsewhere between the state of a log and the entering
    20_063_543, 20_017_309,  # a message that is accepted under a number which another has here
    20_020_541,  # a lane that a copy used beyond what was stored of its bindings
    20_076_926,  # a message of a user before, cancelled while the relay took it
    730_001_793,  # a mark that came before its head was told to the relay's memory
    730_001_244,  # ENTERED of a room that was being deleted
    760_000_171,  # the id of a message that was found to be another, given to the next
    770_000_930,  # a copied file that took another device id, and was another user's since
)  # fmt: skip


@pytest.mark.timeout(600)
def test_after_any_history_of_faults_everybody_agrees_and_nothing_acked_is_lost() -> None:
    total, happened, failures = run_many(START, HISTORIES, minutes=None, jobs=1)
    assert not failures, "\n".join(
        f"{what}\nreplay with: python -m tests.simulation {seed} --trace" for seed, what in failures
    )
    assert total == HISTORIES
    for what in (
        "relay compacted", "device compacted", "fenced", "full disk", "log put back", "rejoined",
        "device file cloned", "device file put back", "room replaced", "reader behind the tail",
        "writer waited at the bound", "room evicted", "room refused for now", "room deleted",
        "joining of a deleted room", "update that the relay has",
        "update before one that it builds on", "device id renewed",
        "probe: stranger", "probe: relay", "probe: nothing", "probe: no answer",
        *(f"fault: {fault}" for fault in FAULTS),
        # Of chats
        "gap", "gap lost", "history fetched", "history replaced", "store rolled back", "NewLane",
        "message expired", "messages deleted by retention", "chat reader behind the tail",
        "application: reject", "application: rewrite", "application: later", "application: busy",
        "outbox full", "id conflict", "GiveUp", "NewUser",
    ):  # fmt: skip
        assert happened[what] >= 10, f"hardly any history exercised: {what}"


@pytest.mark.parametrize("seed", ONCE_BROKEN)
def test_a_history_that_once_broke_a_promise_keeps_it(seed: int) -> None:
    History(seed).run()


def test_a_seed_is_the_whole_history() -> None:
    def trace(seed: int) -> list[str]:
        lines: list[str] = []
        History(seed, show=lines.append).run()
        return lines

    for seed in range(5):
        assert trace(seed) == trace(seed)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("what", MUTANTS)
def test_the_simulation_notices_when(what: str) -> None:
    assert caught_after(what) is not None
