"""What a run leaves: in order, once, bounded, and no terminal's business."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collab import limits
from collab.notebook.outputs import Change, Clear, RunOutputs, without_ansi
from tests.unit.notebook.documents import PNG, values


def stream(text: str, name: str = "stdout") -> tuple[str, dict[str, Any]]:
    return "stream", {"name": name, "text": text}


def display(**data: Any) -> tuple[str, dict[str, Any]]:
    return "display_data", {"data": {k.replace("_", "/"): v for k, v in data.items()}}


def left_by(*messages: tuple[str, dict[str, Any]], flush_each: bool = False) -> list[Change]:
    outputs, found = RunOutputs(), []
    for kind, content in messages:
        outputs.take(kind, content)
        if flush_each:
            found += outputs.flush()
    return found + outputs.flush()


def text_of(changes: list[Change]) -> str:
    return "".join(change.get("text", "") for change in changes if isinstance(change, dict))


def test_streams_keep_their_order_and_runs_of_one_are_one_output() -> None:
    found = left_by(stream("a"), stream("b"), stream("e", "stderr"), stream("c"))
    assert found == [
        {"output_type": "stream", "name": "stdout", "text": "ab"},
        {"output_type": "stream", "name": "stderr", "text": "e"},
        {"output_type": "stream", "name": "stdout", "text": "c"},
    ]


def test_colours_are_left_out_also_where_a_sequence_comes_in_two_pieces() -> None:
    assert text_of(left_by(stream("\x1b[1;31mred\x1b[0m!\x1b]0;title\x07"))) == "red!"
    for cut in range(1, 6):
        whole = "\x1b[31mred"
        pieces = (stream(whole[:cut]), stream("e", "stderr"), stream(whole[cut:]))
        assert text_of(left_by(*pieces, flush_each=True)) == "ered"


@given(text=st.text(alphabet=st.sampled_from("\x1b[]m0;1\x07é(\\"), max_size=30))
def test_no_escape_sequence_survives(text: str) -> None:
    assert "\x1b" not in without_ansi(text)
    assert without_ansi("\x1b\x1b[0m[0mx") == "[0mx"


def test_halves_of_a_pair_become_marks() -> None:
    assert text_of(left_by(stream("a\ud83db"))) == "a?b"


def test_an_endless_print_is_cut_with_one_line_that_says_so() -> None:
    found = left_by(*[stream("x" * 1000 + "\n")] * 2000, flush_each=True)
    size = sum(len(json.dumps(change)) for change in found if isinstance(change, dict))
    assert size < limits.MAX_RUN_TEXT_BYTES * 1.2
    said = [one for one in found if isinstance(one, dict) and one["name"] == "stderr"]
    assert len(said) == 1
    assert "more than 256 KiB: cut here" in said[0]["text"]
    assert text_of(found).count("x") >= limits.MAX_RUN_TEXT_BYTES - 2000


def test_two_streams_in_turn_do_not_make_outputs_without_end() -> None:
    messages = [stream("o"), stream("e", "stderr")] * limits.MAX_RUN_OUTPUTS
    found = left_by(*messages, flush_each=True)
    assert len(found) <= limits.MAX_RUN_OUTPUTS + 1
    assert "made more than 500 outputs" in text_of(found)


def test_displays_without_end_are_cut_too() -> None:
    found = left_by(*[display(text_plain="x")] * (limits.MAX_RUN_OUTPUTS + 5))
    assert len(found) == limits.MAX_RUN_OUTPUTS + 1
    assert "made more than 500 outputs" in text_of(found)


def test_clearing_with_the_next_output_does_not_get_round_their_number() -> None:
    most, wait = limits.MAX_RUN_OUTPUTS, ("clear_output", {"wait": True})
    messages = [message for _ in range(most + 5) for message in (wait, stream("o"))]
    messages += [display(text_plain="")] * most
    found = left_by(*messages, flush_each=True)
    assert sum(isinstance(one, dict) for one in found) == most + 1
    assert text_of(found).count("made more than 500 outputs") == 1


def test_a_picture_is_kept_and_too_many_are_left_out() -> None:
    picture = display(image_png=PNG, text_plain="<\x1b[31mFigure\x1b[0m>")
    assert left_by(picture) == [
        {
            "output_type": "display_data",
            "data": {"image/png": PNG, "text/plain": "<Figure>"},
            "metadata": {},
        }
    ]
    huge = display(image_png="A" * (limits.MAX_RUN_IMAGE_BYTES // 3), text_plain="<Figure>")
    found = left_by(*[huge] * 10)
    pictures = [
        one for one in found if isinstance(one, dict) and "image/png" in one.get("data", {})
    ]
    assert len(pictures) == 3
    assert text_of(found).count("images of this run beyond 4 MiB") == 1


def test_clearing_all_the_time_does_not_get_round_the_bound() -> None:
    messages = [stream("x" * 50_000), ("clear_output", {"wait": False})] * 50
    found = left_by(*messages, flush_each=True)
    assert len(text_of(found)) < limits.MAX_RUN_TEXT_BYTES * 1.2


def test_what_is_cleared_before_it_was_seen_is_never_written() -> None:
    clear, wait = ("clear_output", {"wait": False}), ("clear_output", {"wait": True})
    assert left_by(stream("old"), clear) == [Clear()]
    assert left_by(stream("old"), wait) == left_by(stream("old"))
    new = {"output_type": "stream", "name": "stdout", "text": "new"}
    assert left_by(stream("old"), wait, stream("new")) == [Clear(), new]


def test_an_error_is_shown_after_the_cut_and_without_colours() -> None:
    error = {"ename": "E", "evalue": "\x1b[1mé", "traceback": ["\x1b[31m1\x1b[0m", "E: é"]}
    assert left_by(("error", error)) == [
        {"output_type": "error", "ename": "E", "evalue": "é", "traceback": ["1", "E: é"]}
    ]
    found = left_by(stream("x" * 10**6), ("error", error), ("error", error))
    assert [one for one in found if isinstance(one, dict) and one["output_type"] == "error"]
    assert len(found) == 3
    deep = {"ename": "E", "evalue": "", "traceback": ["frame\n" * 100_000, "last"]}
    [cut] = left_by(("error", deep))
    assert isinstance(cut, dict)
    assert cut["traceback"][0] == "(the beginning was cut)"
    assert cut["traceback"][-1] == "last"
    assert len(json.dumps(cut)) < 100_000


def test_a_value_that_no_document_could_hold_is_left_out() -> None:
    deep: list[Any] = []
    for _ in range(100):
        deep = [deep]
    bundle = {"text/plain": "x", "application/x+json": deep, "application/y+json": 2**70}
    [found] = left_by(("display_data", {"data": bundle, "metadata": {"n": 2**70}}))
    assert isinstance(found, dict)
    assert found["data"] == {"text/plain": "x"}
    assert found["metadata"] == {}


@given(
    messages=st.lists(
        st.tuples(
            st.sampled_from(["stream", "display_data", "execute_result", "error", "clear_output"]),
            st.dictionaries(
                st.sampled_from(
                    ["name", "text", "data", "metadata", "ename", "evalue", "traceback", "wait"]
                ),
                values,
            ),
        ),
        max_size=6,
    )
)
def test_whatever_a_kernel_sends_is_something_a_document_takes(
    messages: list[tuple[str, dict[str, Any]]],
) -> None:
    from collab.notebook.document import check

    for change in left_by(*messages):
        if isinstance(change, dict):
            check(change)


@pytest.mark.parametrize("kind", ["status", "comm_open", "update_display_data", "execute_input"])
def test_what_is_no_output_leaves_nothing(kind: str) -> None:
    assert left_by((kind, {"data": {"text/plain": "x"}, "text": "x"})) == []
