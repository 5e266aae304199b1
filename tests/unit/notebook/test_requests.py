"""What people ask a kernel for, and which of two kernels answers."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from collab import limits
from collab.notebook.requests import Request, asked, digest, is_kernel, leads
from tests.unit.notebook.documents import values


def wishes(*states: dict[str, Any]) -> list[Request]:
    return list(asked(dict(enumerate(states))))


def test_runs_come_in_the_order_that_each_person_gave() -> None:
    ada = {"run": [{"cell": "b", "request": "2"}, {"cell": "a", "request": "1"}]}
    ben = {"run": {"cell": "c", "request": "3"}}
    assert wishes(ada, ben) == [
        Request("2", "run", "b"),
        Request("1", "run", "a"),
        Request("3", "run", "c"),
    ]


def test_a_request_may_say_which_source_it_means() -> None:
    [request] = wishes({"run": {"cell": "a", "request": "1", "sha256": digest("é = 1")}})
    assert request.fits("é = 1")
    assert not request.fits("é = 2")
    assert Request("1", "run", "a").fits("anything")


def test_interrupt_and_restart_are_asked_for_beside_runs() -> None:
    state = {
        "run": {"cell": "a", "request": "1"},
        "control": [{"act": "interrupt", "request": "2"}, {"act": "restart", "request": "3"}],
    }
    assert [request.act for request in wishes(state)] == ["run", "interrupt", "restart"]


def test_what_is_malformed_is_passed_over() -> None:
    long = "x" * (limits.MAX_TAKEN_ID_CHARACTERS + 1)
    assert not wishes(
        {"run": {"cell": "a"}},
        {"run": {"request": "1"}},
        {"run": {"cell": 7, "request": "1"}},
        {"run": {"cell": "a", "request": long}},
        {"run": "a"},
        {"control": {"act": "explode", "request": "1"}},
        {"control": {"act": [], "request": "1"}},
    )
    many = [{"cell": "a", "request": str(n)} for n in range(limits.MAX_WISHES + 5)]
    assert len(wishes({"run": many})) == limits.MAX_WISHES


@given(
    states=st.dictionaries(
        st.integers(0, 5),
        st.dictionaries(st.sampled_from(["run", "control", "role", "since"]), values),
    )
)
def test_no_state_that_anybody_sets_raises(states: dict[int, dict[str, Any]]) -> None:
    list(asked(states))
    leads(1, 2, states)


def test_of_two_kernels_the_one_that_came_first_runs_cells() -> None:
    first, second = {"role": "kernel", "since": 10}, {"role": "kernel", "since": 20}
    assert is_kernel(first)
    assert leads(1, 10, {2: second, 3: {"name": "Ada", "since": 1}})
    assert not leads(2, 20, {1: first})
    assert leads(2, 20, {})
    same = {"role": "kernel", "since": 10}
    assert leads(1, 10, {2: same}) != leads(2, 10, {1: same})
