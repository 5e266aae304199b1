"""What ``collab status`` prints says what waits, claims nothing it cannot know, and is harmless."""

from __future__ import annotations

import json
from dataclasses import replace

from collab.protocol.gaps import Gap
from collab.storage.survey import ChatSurvey, RoomSurvey, Survey
from collab.terminal.standing import as_json, as_text

CHAT = ChatSurvey(
    here=1200, queued=2, sending=1, stalled=1, unread=7, seq=1500, read_upto=1400, user="ada",
    gaps=(Gap(1, 240), Gap(300, 301, lost=True)),
)  # fmt: skip
ROOM = RoomSurvey("design", 12_345, 3, True, bytes(range(16)), 77, CHAT)
FOUND = Survey("/a/store.db", 2, 2, "process 7 has it open", b"\xab" * 16, 5, (ROOM,))


def test_it_says_what_there_is_and_what_waits() -> None:
    said = as_text(FOUND)
    for part in (
        "/a/store.db",
        "process 7 has it open",
        "abababab",
        "room design",
        "12,345 bytes, 3 updates to send; has been joined at a relay, at offset 77 of generation",
        "1,200 here, 7 unread, up to 1,500; here as ada",
        "2 queued, 1 sent and not decided",
        "given up:  1;",
        "1 to 240, to be fetched on demand",
        "300 to 301, and kept by the relay no more",
        "1 room: 3 updates and 3 messages to send.",
    ):
        assert part in said, said


def test_it_does_not_pretend_to_know_the_connection_of_another_process() -> None:
    for found in (FOUND, replace(FOUND, owner=None)):
        said = as_text(found)
        assert "connected now" in said.splitlines()[-1]
        assert "the file does not say" in said.splitlines()[-1]
        assert not {"connection", "state"} & json.loads(as_json(found)).keys()


def test_a_room_that_never_met_a_relay_is_said_to_be_so() -> None:
    chat = replace(CHAT, user="", queued=0, sending=0, stalled=0, gaps=())
    said = as_text(
        replace(FOUND, rooms=(RoomSurvey("new", 0, 0, False, None, None, chat),), owner=None)
    )
    assert "in use:  by nobody" in said
    assert "0 bytes, nothing to send; was never at a relay" in said
    assert "was never entered at a relay" in said
    assert "to send:" not in said


def test_an_older_format_says_what_is_missing_and_what_will_become_of_it() -> None:
    old = replace(FOUND, version=1, rooms=(replace(ROOM, chat=None),))
    assert "1, and 2 is the newest: it holds no messages; the next program" in as_text(old)
    assert "messages:" not in as_text(old)
    empty = replace(FOUND, version=0, device_id=None, rooms=None)
    assert "it holds nothing yet" in as_text(empty)


def test_names_in_a_file_are_harmless_on_a_terminal() -> None:
    evil = "x\x1b[2J\x07"
    said = as_text(
        replace(FOUND, path=evil, rooms=(replace(ROOM, name=evil, chat=replace(CHAT, user=evil)),))
    )
    assert not {"\x1b", "\x07"} & set(said)


def test_json_has_everything_with_ids_in_hexadecimal_digits() -> None:
    found = json.loads(as_json(FOUND))
    assert found["device_id"] == "ab" * 16
    assert found["owner"] == "process 7 has it open"
    (room,) = found["rooms"]
    assert room["generation"] == bytes(range(16)).hex()
    assert room["chat"]["gaps"][0] == {"low": 1, "high": 240, "lost": False}
