"""The connection's machine: what leads where, and what never happens, whatever comes."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collab import limits
from collab.protocol import frames
from collab.protocol.backoff import HOUR_S, BackoffSettings
from collab.protocol.connection_state import (
    RESET_AFTER_S,
    TRANSITIONS,
    Answer,
    ConnectionMachine,
    Errand,
    Event,
    Meaning,
    State,
    Timers,
    meaning_of,
)

ALMOST_ONE = 1 - 2**-53
TIMERS = Timers()


def machine_in(state: State, now: float = 0.0, *, renewable: bool = False) -> ConnectionMachine:
    """A machine that came to ``state`` at ``now`` in the ordinary way."""
    machine = ConnectionMachine(TIMERS, token_is_renewable=renewable)
    machine.due(now, 0.5)
    assert state_of(machine) is State.CONNECTING
    machine.dialing(machine.turn, now)
    match state:
        case State.CONNECTING:
            pass
        case State.PROBING:
            lose(machine, now)
        case State.OFFLINE:
            lose(machine, now)
            answer(machine, Answer.NOTHING, now, chance=0.5)
        case State.CAPTIVE:
            lose(machine, now)
            answer(machine, Answer.STRANGER, now)
        case State.SYNCING | State.LIVE:
            machine.welcomed(machine.turn, now)
            if state is State.LIVE:
                machine.caught_up(now)
        case State.SUSPENDED:
            machine.suspend(now)
        case State.FAILED:
            lose(machine, now, Meaning.PERMANENT)
    assert state_of(machine) is state
    return machine


def state_of(machine: ConnectionMachine) -> State:
    """Where it is now, whatever a type checker believes that it still is."""
    return machine.state


def lose(
    machine: ConnectionMachine, now: float, meaning: Meaning = Meaning.TRANSIENT, chance: float = 0
) -> None:
    machine.lost(machine.turn, meaning, "the connection was cut", now, chance)


def answer(machine: ConnectionMachine, who: Answer, now: float, *, chance: float = 0) -> None:
    machine.probed(machine.turn, who, "a page", now, chance)


def look_in_vain(machine: ConnectionMachine) -> None:
    """Let the time pass, while a stranger answers whatever is asked."""
    if state_of(machine) is not State.CAPTIVE:
        return
    while state_of(machine) is State.CAPTIVE:
        now = machine.next_deadline()
        assert now is not None
        machine.due(now, 0.0)
        if machine.errand is Errand.PROBE:
            answer(machine, Answer.STRANGER, now)


# The table

ACTS: dict[Event, Callable[[ConnectionMachine, float], object]] = {
    Event.WELCOME: lambda m, now: m.welcomed(m.turn, now),
    Event.CAUGHT_UP: lambda m, now: m.caught_up(now),
    Event.LOST: lambda m, now: lose(m, now),
    Event.UNTRIED: lambda m, now: lose(m, now, Meaning.UNTRIED),
    Event.EXPIRED: lambda m, now: lose(m, now, Meaning.TOKEN),
    Event.COPIED: lambda m, now: lose(m, now, Meaning.ANOTHER),
    Event.REFUSED: lambda m, now: lose(m, now, Meaning.PERMANENT),
    Event.RELAY: lambda m, now: answer(m, Answer.RELAY, now),
    Event.STRANGER: lambda m, now: answer(m, Answer.STRANGER, now),
    Event.NOTHING: lambda m, now: answer(m, Answer.NOTHING, now),
    Event.TRY: lambda m, now: look_in_vain(m),
    Event.TIMER: lambda m, now: m.due(max(now, m.next_deadline() or now), 0.5),
    Event.HINT: lambda m, now: m.hint(now, 0.5, up=True),
    Event.CONNECT: lambda m, now: m.connect(now, 0.5),
    Event.RESUME: lambda m, now: m.resume(now, 0.5),
    Event.SYNC_ONCE: lambda m, now: m.sync_once(now, 0.5),
    Event.SYNCED_ONCE: lambda m, now: m.synced_once(now),
    Event.SUSPEND: lambda m, now: m.suspend(now),
}


def by_other_means(state: State, event: Event) -> State | None:
    """Where an act leads that the table names by another event in this state."""
    match state, event:
        case ((State.SYNCING | State.LIVE), Event.UNTRIED):
            return State.OFFLINE  # lost, like any other
        case State.CONNECTING, Event.TIMER:
            return State.PROBING  # no answer in time
        case State.PROBING, Event.TIMER:
            return State.OFFLINE  # nobody answered
    return None


@pytest.mark.parametrize("event", Event)
@pytest.mark.parametrize("state", State)
def test_every_event_leads_from_every_state_where_the_table_says(
    state: State, event: Event
) -> None:
    machine = machine_in(state, renewable=event is Event.EXPIRED)
    if state is State.CAPTIVE and event in (Event.RELAY, Event.STRANGER, Event.NOTHING):
        machine.connect(1.0, 0.0)  # a look begins
    expected = TRANSITIONS[state].get(event) or by_other_means(state, event) or state
    if event is Event.SYNCED_ONCE:
        expected = state  # it was not woken by sync_once
    ACTS[event](machine, 1.0)
    assert state_of(machine) is expected


def test_the_table_names_every_state_and_every_event() -> None:
    assert set(TRANSITIONS) == set(State)
    assert {event for row in TRANSITIONS.values() for event in row} == set(Event)
    assert {target for row in TRANSITIONS.values() for target in row.values()} == set(State)


def printed_table() -> str:
    """The table as ARCHITECTURE.md prints it."""
    lines = ["| state | event → state |", "| --- | --- |"]
    for state, row in TRANSITIONS.items():
        edges = "; ".join(f"{event.name} → {target}" for event, target in row.items())
        lines.append(f"| **{state}** | {edges} |")
    return "\n".join(lines)


def test_the_table_in_the_architecture_page_is_the_codes() -> None:
    page = (Path(__file__).parents[3] / "ARCHITECTURE.md").read_text()
    assert printed_table() in page
    for event in Event:
        assert f"`{event.name}`" in page or f"{event.name} →" in page


@pytest.mark.parametrize(
    ("code", "meaning"),
    [
        (None, Meaning.TRANSIENT),
        *((code, Meaning.TRANSIENT) for code in (1000, 1001, 1006, 1011, 1012, 1013, 4508, 4509)),
        (frames.Close.UNAUTHENTICATED, Meaning.TOKEN),
        (frames.Close.FENCED, Meaning.ANOTHER),
        *(
            (code, Meaning.PERMANENT)
            for code in frames.Close
            if 4400 <= code < 4500
            and code not in (frames.Close.UNAUTHENTICATED, frames.Close.FENCED)
        ),
        (4499, Meaning.PERMANENT),
        (4500, Meaning.TRANSIENT),
    ],
)
def test_a_close_code_means_what_its_range_says(code: int | None, meaning: Meaning) -> None:
    assert meaning_of(code) is meaning


# Attempts


def test_the_first_attempt_begins_at_once() -> None:
    machine = ConnectionMachine(TIMERS)
    deadline = machine.next_deadline()
    assert deadline is not None
    assert deadline <= 0
    machine.due(0.0, 0.99)
    assert (machine.state, machine.errand) == (State.CONNECTING, Errand.DIAL)


def test_an_attempt_without_welcome_in_time_is_over() -> None:
    machine = machine_in(State.CONNECTING)
    assert machine.next_deadline() == TIMERS.connect_timeout_s
    machine.due(9.999, 0.0)
    assert state_of(machine) is State.CONNECTING
    machine.due(10.0, 0.0)
    assert state_of(machine) is State.PROBING
    assert "No answer within 10 s." in machine.reason


def test_a_token_function_that_never_answers_is_given_up_and_is_not_the_networks_fault() -> None:
    machine = ConnectionMachine(TIMERS)
    machine.due(0.0, 0.0)
    assert machine.next_deadline() == TIMERS.token_timeout_s
    machine.due(60.0, 0.0)
    assert state_of(machine) is State.OFFLINE
    assert "gave no token within 60 s" in machine.reason


def test_after_failures_the_ceiling_doubles_and_thirty_good_seconds_reset_it() -> None:
    machine, now, waits = machine_in(State.CONNECTING), 0.0, []
    for _ in range(4):
        lose(machine, now)
        answer(machine, Answer.NOTHING, now, chance=ALMOST_ONE)
        assert machine.next_attempt is not None
        waits.append(machine.next_attempt - now)
        now = machine.next_attempt
        machine.due(now, 0.0)
    assert waits == pytest.approx([1, 2, 4, 8])
    machine.welcomed(machine.turn, now)
    now += RESET_AFTER_S - 1
    lose(machine, now, chance=ALMOST_ONE)
    assert machine.next_attempt == pytest.approx(now + 16)  # it was not good for long enough
    machine.due(now + 16, 0.0)
    machine.welcomed(machine.turn, now)
    now += RESET_AFTER_S
    lose(machine, now, chance=ALMOST_ONE)
    assert machine.next_attempt == pytest.approx(now + 1)


def test_a_lost_connection_is_not_probed_but_a_failed_attempt_is() -> None:
    live, connecting = machine_in(State.LIVE), machine_in(State.CONNECTING)
    for machine in (live, connecting):
        lose(machine, 1.0)
    assert (live.state, live.errand) == (State.OFFLINE, Errand.REST)
    assert (connecting.state, connecting.errand) == (State.PROBING, Errand.PROBE)


def test_what_never_reached_the_network_is_not_probed() -> None:
    machine = machine_in(State.CONNECTING)
    lose(machine, 1.0, Meaning.UNTRIED)
    assert machine.errand is Errand.REST


def test_a_user_who_says_now_while_an_attempt_fails_gets_the_next_one_at_once() -> None:
    machine = machine_in(State.CONNECTING)
    machine.connect(1.0, 0.0)
    lose(machine, 2.0)
    answer(machine, Answer.NOTHING, 3.0, chance=ALMOST_ONE)
    assert machine.next_attempt == 3.0
    machine.due(3.0, 0.0)
    lose(machine, 4.0)
    answer(machine, Answer.NOTHING, 5.0, chance=ALMOST_ONE)
    assert machine.next_attempt is not None
    assert machine.next_attempt > 5.0  # once


def test_reports_of_an_earlier_errand_change_nothing() -> None:
    machine = machine_in(State.CONNECTING)
    old = machine.turn
    machine.suspend(1.0)
    assert not machine.welcomed(old, 2.0)
    machine.lost(old, Meaning.PERMANENT, "late", 2.0, 0.0)
    machine.probed(old, Answer.STRANGER, "late", 2.0, 0.0)
    machine.dialing(old, 2.0)
    assert (machine.state, machine.next_deadline()) == (State.SUSPENDED, None)


# Tokens


def test_a_refused_token_is_asked_for_once_more_and_then_that_is_it() -> None:
    machine = machine_in(State.CONNECTING, renewable=True)
    first = machine.turn
    lose(machine, 1.0, Meaning.TOKEN)
    assert state_of(machine) is State.CONNECTING
    assert machine.turn != first
    lose(machine, 2.0, Meaning.TOKEN)
    assert state_of(machine) is State.FAILED


def test_a_string_is_not_asked_for_again() -> None:
    machine = machine_in(State.CONNECTING)
    lose(machine, 1.0, Meaning.TOKEN)
    assert state_of(machine) is State.FAILED


def test_a_token_that_expires_after_hours_is_renewed_each_time() -> None:
    machine, now = machine_in(State.LIVE, renewable=True), 0.0
    for _ in range(5):
        now += 3600
        lose(machine, now, Meaning.TOKEN)
        assert state_of(machine) is State.CONNECTING
        machine.welcomed(machine.turn, now)


def test_a_relay_that_takes_a_token_and_ends_it_at_once_is_not_asked_in_a_hot_loop() -> None:
    machine = machine_in(State.LIVE, renewable=True)
    lose(machine, 0.1, Meaning.TOKEN)
    assert state_of(machine) is State.CONNECTING
    machine.welcomed(machine.turn, 0.2)
    lose(machine, 0.3, Meaning.TOKEN, ALMOST_ONE)
    assert state_of(machine) is State.OFFLINE
    assert machine.next_attempt is not None
    assert machine.next_attempt > 1.0


def test_another_token_leaves_failed_and_ends_no_good_connection() -> None:
    machine = machine_in(State.FAILED)
    machine.credentials(1.0, 0.0, renewable=False)
    assert state_of(machine) is State.CONNECTING
    for state in (State.LIVE, State.SUSPENDED, State.CAPTIVE):
        machine = machine_in(state)
        machine.credentials(1.0, 0.0, renewable=False)
        assert state_of(machine) is state


def test_another_token_while_the_old_one_is_being_refused_gets_its_own_attempt() -> None:
    machine = machine_in(State.CONNECTING)
    machine.credentials(1.0, 0.0, renewable=False)
    lose(machine, 2.0, Meaning.TOKEN)
    assert state_of(machine) is State.CONNECTING


# Copies of the device's file


def test_who_is_fenced_comes_back_at_once_as_another_device() -> None:
    for state in (State.CONNECTING, State.SYNCING, State.LIVE):
        machine = machine_in(state)
        turn = machine.turn
        lose(machine, 1.0, Meaning.ANOTHER)
        assert state_of(machine) is State.CONNECTING
        assert (machine.turn != turn, machine.is_copied) == (True, True)


def test_the_other_id_is_owed_until_it_is_on_the_disk() -> None:
    machine = machine_in(State.LIVE)
    lose(machine, 1.0, Meaning.ANOTHER)
    lose(machine, 2.0, Meaning.UNTRIED)  # the disk is full
    machine.connect(3.0, 0.0)
    assert machine.is_copied
    machine.renewed()
    assert not machine.is_copied


def test_who_is_fenced_without_end_is_stopped_and_an_hour_later_may_take_other_ids_again() -> None:
    def fenced(now: float) -> State:
        machine.connect(now, 0.0)
        lose(machine, now, Meaning.ANOTHER)
        return state_of(machine)

    machine, most = machine_in(State.LIVE), limits.MAX_NEW_DEVICE_IDS_AN_HOUR
    assert [fenced(60.0 * turn) for turn in range(most + 2)] == [
        *[State.CONNECTING] * most, State.FAILED, State.FAILED,
    ]  # fmt: skip
    assert fenced(3600.0) is State.CONNECTING
    assert fenced(3601.0) is State.FAILED


# Silence


def test_a_silent_relay_is_noticed_within_ping_and_silence() -> None:
    machine = machine_in(State.LIVE)
    assert machine.next_deadline() == TIMERS.ping_s
    assert machine.due(25.0, 0.0) == 1
    assert machine.next_deadline() == 35.0
    assert machine.due(34.9, 0.0) is None
    assert state_of(machine) is State.LIVE
    machine.due(35.0, 0.0)
    assert state_of(machine) is State.OFFLINE
    assert "The relay stopped answering." in machine.reason


def test_a_pong_in_time_buys_another_period_and_an_old_one_does_not() -> None:
    machine = machine_in(State.LIVE)
    assert machine.due(25.0, 0.0) == 1
    machine.ponged(1, 26.0)
    assert machine.due(51.0, 0.0) == 2
    machine.ponged(1, 52.0)
    machine.due(61.0, 0.0)
    assert state_of(machine) is State.OFFLINE


def test_a_slow_relay_is_not_a_silent_one_but_bytes_alone_are_no_proof_for_ever() -> None:
    machine, now = machine_in(State.LIVE), 25.0
    assert machine.due(now, 0.0) == 1
    while state_of(machine) is State.LIVE:
        now += 5
        machine.heard(now)
        machine.due(now, 0.0)
        assert now < 1000
    assert now == 25 + 120


@pytest.mark.parametrize("up", [True, False])
def test_a_hint_makes_a_live_connection_prove_itself_and_never_ends_it(up: bool) -> None:
    machine = machine_in(State.LIVE)
    machine.hint(3.0, 0.0, up=up)
    assert state_of(machine) is State.LIVE
    assert machine.next_deadline() == 3.0
    assert machine.due(3.0, 0.0) == 1
    machine.ponged(1, 3.1)
    assert state_of(machine) is State.LIVE


# Hints


def test_a_hint_that_a_network_is_there_makes_the_wait_short_and_spreads_it() -> None:
    machine = machine_in(State.OFFLINE)
    for now in (10.0, 100.0):  # let the waits grow
        machine.due(now, 0.0)
        lose(machine, now)
        answer(machine, Answer.NOTHING, now, chance=ALMOST_ONE)
    machine = machine_in(State.OFFLINE)
    machine.hint(0.0, 0.25, up=True)
    assert state_of(machine) is State.OFFLINE
    assert machine.next_attempt == pytest.approx(0.25)  # of the base; not all at one moment


def test_a_hint_that_there_is_none_changes_nothing() -> None:
    machine = machine_in(State.OFFLINE)
    before = machine.next_deadline()
    machine.hint(0.1, 0.0, up=False)
    assert (machine.state, machine.next_deadline()) == (State.OFFLINE, before)


@pytest.mark.parametrize("state", [State.SUSPENDED, State.FAILED])
def test_a_hint_wakes_nobody_who_sleeps_or_failed(state: State) -> None:
    machine = machine_in(state)
    machine.hint(1.0, 0.0, up=True)
    assert (machine.state, machine.next_deadline()) == (state, None)


# Portals


def test_a_portal_is_looked_at_after_fifteen_seconds_and_ever_later_up_to_ten_minutes() -> None:
    machine, now, waits, errands = machine_in(State.PROBING), 0.0, [], []
    for _ in range(9):
        machine.probed(machine.turn, Answer.STRANGER, "HTTP 302", now, ALMOST_ONE)
        assert state_of(machine) is State.CAPTIVE
        assert machine.next_attempt is not None
        waits.append(machine.next_attempt - now)
        now = machine.next_attempt
        machine.due(now, 0.0)
        errands.append(machine.errand)
        if machine.errand is Errand.DIAL:
            lose(machine, now)
    assert waits == pytest.approx([15, 30, 60, 120, 240, 480, 600, 600, 600])
    assert [n for n, errand in enumerate(errands, 1) if errand is Errand.DIAL] == [4, 8]


def test_a_gateway_that_does_not_pass_the_probe_on_keeps_nobody_out_for_ever() -> None:
    machine = machine_in(State.CAPTIVE)
    look_in_vain(machine)
    assert (machine.state, machine.errand) == (State.CONNECTING, Errand.DIAL)
    machine.welcomed(machine.turn, 1000.0)
    assert machine.state is State.SYNCING


def test_the_relays_own_answer_leaves_captivity_at_once() -> None:
    machine = machine_in(State.CAPTIVE)
    machine.connect(1.0, 0.0)
    answer(machine, Answer.RELAY, 2.0)
    assert (machine.state, machine.errand) == (State.CONNECTING, Errand.DIAL)


def test_a_second_portal_is_looked_at_early_again() -> None:
    machine = machine_in(State.CAPTIVE)
    for _ in range(5):
        machine.connect(1.0, 0.0)
        answer(machine, Answer.STRANGER, 1.0)
    machine.connect(1.0, 0.0)
    answer(machine, Answer.RELAY, 2.0)
    lose(machine, 3.0)
    answer(machine, Answer.STRANGER, 4.0, chance=ALMOST_ONE)
    assert machine.next_attempt == pytest.approx(19)


def test_hints_look_at_a_portal_soon_but_not_again_and_again() -> None:
    machine = machine_in(State.CAPTIVE)
    machine.hint(0.1, 0.0, up=True)
    assert machine.next_attempt == pytest.approx(5.0)
    machine.hint(0.2, 0.0, up=True)
    assert machine.next_attempt == pytest.approx(5.0)


def test_a_portal_of_which_nothing_is_heard_any_more_is_no_portal() -> None:
    machine = machine_in(State.CAPTIVE)
    machine.connect(1.0, 0.0)
    machine.due(1.0 + TIMERS.probe_timeout_s, 0.0)
    assert state_of(machine) is State.OFFLINE


# Sleep


def test_a_moment_from_sleep_ends_in_sleep() -> None:
    machine = machine_in(State.SUSPENDED)
    machine.sync_once(1.0, 0.0)
    assert state_of(machine) is State.CONNECTING
    machine.welcomed(machine.turn, 2.0)
    machine.synced_once(3.0)
    assert (machine.state, machine.next_deadline()) == (State.SUSPENDED, None)


def test_a_moment_while_awake_changes_nothing_at_its_end() -> None:
    machine = machine_in(State.LIVE)
    machine.sync_once(1.0, 0.0)
    machine.synced_once(2.0)
    assert state_of(machine) is State.LIVE


def test_who_resumes_during_the_moment_stays_awake() -> None:
    machine = machine_in(State.SUSPENDED)
    machine.sync_once(1.0, 0.0)
    machine.welcomed(machine.turn, 2.0)
    machine.resume(3.0, 0.0)
    machine.synced_once(4.0)
    assert state_of(machine) is State.SYNCING


def test_two_moments_at_once_both_end_in_sleep() -> None:
    machine = machine_in(State.SUSPENDED)
    machine.sync_once(1.0, 0.0)
    machine.sync_once(1.5, 0.0)
    machine.synced_once(2.0)
    assert state_of(machine) is State.SUSPENDED


def test_failed_is_not_forgotten_over_sleep() -> None:
    machine = machine_in(State.FAILED)
    machine.suspend(1.0)
    machine.resume(2.0, 0.0)
    machine.sync_once(3.0, 0.0)
    machine.synced_once(4.0)
    assert state_of(machine) is State.FAILED


# Whatever comes

STEPS = st.lists(
    st.tuples(
        st.sampled_from([*ACTS, "wait", "hint down", "token", "heard", "stale", "permanent token"]),
        st.floats(0, 40, allow_nan=False),
        st.floats(0, 1, exclude_max=True),
    ),
    max_size=60,
)


@settings(max_examples=300, deadline=None)
@given(steps=STEPS, renewable=st.booleans())
def test_whatever_comes_the_invariants_hold(
    steps: list[tuple[Event | str, float, float]], renewable: bool
) -> None:
    machine = ConnectionMachine(TIMERS, token_is_renewable=renewable)
    now = 0.0
    for act, pause, chance in steps:
        now += pause
        before, turn = machine.state, machine.turn
        match act:
            case Event():
                ACTS[act](machine, now)
            case "wait":
                machine.due(now, chance)
            case "hint down":
                machine.hint(now, chance, up=False)
            case "token":
                machine.credentials(now, chance, renewable=renewable)
            case "heard":
                machine.heard(now)
            case "stale":
                machine.lost(machine.turn - 1, Meaning.PERMANENT, "late", now, chance)
                assert (machine.state, machine.turn) == (before, turn)
        after = machine.state
        reachable = {before, *TRANSITIONS[before].values()}
        assert after in reachable
        assert (machine.next_deadline() is None) == (after in (State.SUSPENDED, State.FAILED))
        assert machine.is_linked == (after in (State.SYNCING, State.LIVE))
        if machine.is_linked and before is not after and before is not State.SYNCING:
            assert (before, act) == (State.CONNECTING, Event.WELCOME)
        if before in (State.SUSPENDED, State.FAILED) and after is not before:
            assert act in (Event.CONNECT, Event.RESUME, Event.SYNC_ONCE, "token")
        assert machine.reason.endswith(".")


@pytest.mark.parametrize("budget", [10, 120])
def test_whatever_the_program_and_the_system_say_the_budget_is_kept(budget: int) -> None:
    rng = random.Random(budget)
    timers = Timers(backoff=BackoffSettings(attempts_per_hour=budget))
    machine, now, starts = ConnectionMachine(timers), 0.0, []
    while now < 3 * HOUR_S:
        turn = machine.turn
        if state_of(machine) is State.CONNECTING:
            lose(machine, now)
        elif state_of(machine) is State.PROBING:
            answer(machine, rng.choice([*Answer]), now, chance=rng.random())
        else:
            act = rng.choice(["connect", "hint", "resume", "due", "answer"])
            if act == "hint":
                machine.hint(now, rng.random(), up=True)
            elif act == "answer":
                answer(machine, Answer.RELAY, now)
            else:
                getattr(machine, act)(now, rng.random())
        if state_of(machine) is State.CONNECTING and machine.turn != turn:
            starts.append(now)
        now += rng.random()
    assert len(starts) > 1.5 * budget
    for start in starts:
        assert sum(1 for other in starts if start <= other < start + HOUR_S) <= budget


def test_a_budget_that_is_used_up_says_so() -> None:
    timers = Timers(backoff=BackoffSettings(attempts_per_hour=2))
    machine = ConnectionMachine(timers)
    machine.due(0.0, 0.0)
    lose(machine, 1.0)
    answer(machine, Answer.NOTHING, 1.0)
    assert state_of(machine) is State.OFFLINE
    assert "too many attempts of late" in machine.reason
    machine.connect(2.0, 0.0)
    assert state_of(machine) is State.OFFLINE
    assert machine.next_attempt == pytest.approx(HOUR_S)
