"""A device's running time: no wall clock expires a message, and none keeps it for ever."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collab import limits
from collab.protocol.device_clock import BORN, Anchor, Reading, advance

SECOND, HOUR, DAY = 1_000, 3_600_000, 86_400_000
WALL = 1_790_000_000_000
ONE, OTHER = b"1" * 16, b"2" * 16
JUMPS = [0, DAY, -DAY, HOUR, -HOUR, 365 * DAY, -365 * DAY]


def run(*readings: Reading) -> int:
    """The running time after all of these."""
    anchor = BORN
    for reading in readings:
        anchor = advance(anchor, reading)
    return anchor.running_ms


def test_a_new_file_begins_at_nought() -> None:
    assert run(Reading(ONE, 5 * HOUR, WALL)) == 0


@pytest.mark.parametrize("jump", JUMPS)
def test_a_jump_of_the_wall_clock_within_a_boot_changes_nothing(jump: int) -> None:
    """While the program runs, and across its restarts: the uptime goes on."""
    assert run(Reading(ONE, HOUR, WALL), Reading(ONE, 3 * HOUR, WALL + 2 * HOUR + jump)) == 2 * HOUR


@pytest.mark.parametrize("wrong_by", [-30 * DAY * 365, -DAY, DAY, 30 * DAY])
def test_a_wall_clock_that_is_always_wrong_changes_nothing(wrong_by: int) -> None:
    right = run(Reading(ONE, 0, WALL), Reading(OTHER, 0, WALL + 9 * DAY))
    wrong = run(Reading(ONE, 0, WALL + wrong_by), Reading(OTHER, 0, WALL + 9 * DAY + wrong_by))
    assert right == wrong


@pytest.mark.parametrize("jump", [0, DAY, -DAY, HOUR, -HOUR])
def test_a_jump_of_a_day_while_the_device_was_off_expires_nothing(jump: int) -> None:
    """Off for a minute: whatever the wall clock says then, not more than that is counted."""
    minute = 60 * SECOND
    assert run(Reading(ONE, HOUR, WALL), Reading(OTHER, SECOND, WALL + minute + jump)) <= minute


@pytest.mark.parametrize("jump", [0, DAY, -DAY])
def test_a_device_that_was_off_for_long_does_not_keep_a_message_for_ever(jump: int) -> None:
    counted = run(Reading(ONE, HOUR, WALL), Reading(OTHER, SECOND, WALL + 30 * DAY + jump))
    assert 28 * DAY <= counted <= 30 * DAY


@pytest.mark.parametrize("jump", [-DAY, -365 * DAY])
def test_after_a_wall_clock_that_went_back_time_still_goes_on(jump: int) -> None:
    before = Reading(ONE, HOUR, WALL)
    booted = Reading(OTHER, SECOND, WALL + jump)
    later = Reading(OTHER, SECOND + 7 * DAY, WALL + jump + 7 * DAY)
    assert run(before, booted) == 0
    assert run(before, booted, later) == 7 * DAY


def test_a_file_on_another_device_counts_by_the_wall_clock_not_by_the_other_uptime() -> None:
    assert run(Reading(ONE, HOUR, WALL), Reading(OTHER, 100 * DAY, WALL + HOUR)) == 0


def test_an_uptime_that_went_back_is_another_boot() -> None:
    """A virtual machine that was put back keeps its boot id."""
    assert run(Reading(ONE, 9 * HOUR, WALL), Reading(ONE, HOUR, WALL + HOUR)) == 0


class TestWhereNothingNamesTheBoot:
    """There a process names itself; another one of the same boot shows by clocks that agree."""

    def reading(self, process: bytes, up_ms: int, wall_ms: int) -> Reading:
        return Reading(process, up_ms, wall_ms, by_process=True)

    @pytest.mark.parametrize("jump", JUMPS)
    def test_within_a_process_jumps_change_nothing(self, jump: int) -> None:
        start = self.reading(ONE, HOUR, WALL)
        assert run(start, self.reading(ONE, 2 * HOUR, WALL + HOUR + jump)) == HOUR

    def test_two_clocks_that_moved_alike_are_believed_across_processes(self) -> None:
        start = self.reading(ONE, HOUR, WALL)
        assert run(start, self.reading(OTHER, 9 * HOUR, WALL + 8 * HOUR + SECOND)) == 8 * HOUR

    @pytest.mark.parametrize("jump", [DAY, -DAY])
    def test_across_processes_a_jump_of_a_day_expires_nothing(self, jump: int) -> None:
        start = self.reading(ONE, HOUR, WALL)
        assert run(start, self.reading(OTHER, HOUR + SECOND, WALL + SECOND + jump)) <= SECOND


READINGS = st.builds(
    Reading,
    boot=st.sampled_from([ONE, OTHER]),
    up_ms=st.integers(0, 10 * DAY),
    wall_ms=st.integers(WALL - 400 * DAY, WALL + 400 * DAY),
    by_process=st.booleans(),
)


@given(st.lists(READINGS, max_size=20))
def test_running_time_never_goes_back(readings: list[Reading]) -> None:
    anchor = BORN
    for reading in readings:
        after = advance(anchor, reading)
        assert after.running_ms >= anchor.running_ms
        assert after.reading == reading
        anchor = after


@given(st.lists(st.integers(0, DAY), min_size=1, max_size=20), st.data())
def test_in_one_boot_it_is_the_uptime_whatever_else_is_read(
    steps: list[int], data: st.DataObject
) -> None:
    up, anchor = 5, advance(BORN, Reading(ONE, 5, WALL))
    for step in steps:
        up += step
        wall = data.draw(st.integers(0, 2 * WALL))
        stored = Anchor(anchor.running_ms, anchor.reading)  # a restart of the program
        anchor = advance(stored, Reading(ONE, up, wall))
    assert anchor.running_ms == sum(steps)


def test_the_slack_is_a_day() -> None:
    assert limits.CLOCK_SLACK_MS == DAY
