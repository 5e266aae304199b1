"""The badge says no more than is so: saved when saved, synced when synced, and what is wrong."""

from __future__ import annotations

from dataclasses import replace

import pytest

from collab.connection import ConnectionStatus, State
from collab.errors import DiskFull, RoomReplaced
from collab.progress import RoomState
from collab.room import Status
from collab.terminal.badge import Badge, badge, leaving, waiting

NOW = 1000.0
EVIL = "\x1b[2J"
LEVEL = Status(
    state=RoomState.LIVE,
    progress=None,
    saved=True,
    synced=True,
    pending_updates=0,
    pending_messages=0,
    gaps=(),
    last_saved=None,
    last_synced=None,
    refused=None,
    may_write=True,
    error=None,
)
WAITS = replace(LEVEL, synced=False, pending_updates=2, pending_messages=1)


def connection(state: State, reason: str = "", attempt: float | None = None) -> ConnectionStatus:
    return ConnectionStatus(state, reason, NOW, attempt)


def said(
    status: Status, state: State | None, reason: str = "", wait_s: float | None = None
) -> Badge:
    attempt = None if wait_s is None else NOW + wait_s
    return badge(status, None if state is None else connection(state, reason, attempt), NOW)


@pytest.mark.parametrize("state", [*State, None])
def test_saved_is_never_said_of_what_is_not_saved_nor_synced_of_what_is_not_synced(
    state: State | None,
) -> None:
    for status in (
        LEVEL,
        WAITS,
        replace(WAITS, error=RoomReplaced("gone")),
        replace(WAITS, refused="no"),
    ):
        unsaved = said(replace(status, saved=False, synced=False), state)
        assert "saving" in unsaved.text or unsaved.label == "NOT SAVED"
        assert "saved" not in unsaved.text
        assert "saved on this device" in said(replace(status, synced=False), state).text
        assert "synced" not in said(replace(status, synced=False), state).text


@pytest.mark.parametrize("state", State)
def test_online_is_said_when_there_is_a_connection_and_only_then(state: State) -> None:
    connected = state in (State.LIVE, State.SYNCING)
    assert (said(LEVEL, state).label == "ONLINE") == connected


def test_what_waits_is_counted_with_and_without_a_network() -> None:
    waits = "2 changes and 1 message wait"
    assert said(WAITS, State.LIVE) == Badge("good", "ONLINE", f"saved on this device · {waits}")
    offline = said(WAITS, State.OFFLINE, "Nobody listens.", 3)
    assert (offline.mood, offline.label) == ("away", "OFFLINE")
    assert offline.text == f"saved on this device · {waits} · next attempt in 3 s"
    assert said(WAITS, State.SUSPENDED).text.endswith(f"{waits} · working offline")
    assert said(WAITS, None).text.startswith("saved on this device · no relay given")
    assert said(replace(LEVEL, synced=False), State.SYNCING).text.endswith("catching up")
    assert said(LEVEL, State.LIVE).text == "saved and synced"


def test_trouble_goes_before_everything_and_is_harmless() -> None:
    full = said(replace(WAITS, saved=False, error=DiskFull(f"full{EVIL}")), State.LIVE)
    assert full == Badge("bad", "NOT SAVED", "kept in memory, tried again", "full\\x1b[2J")
    refused = said(replace(WAITS, refused=f"forbidden: no{EVIL}"), State.LIVE)
    assert (refused.mood, refused.label) == ("bad", "NOT SYNCED")
    assert "(forbidden: no\\x1b[2J). They are kept here." in refused.detail
    replaced = said(replace(WAITS, error=RoomReplaced("Another room.")), State.OFFLINE)
    said_of_it = "Another room. (Typed here, that is /fork NAME.)"
    assert (replaced.label, replaced.detail) == ("NOT SYNCED", said_of_it)
    captive = said(WAITS, State.CAPTIVE, f"Log in{EVIL}.", 5)
    assert (captive.mood, captive.label, captive.detail) == (
        "captive",
        "SIGN-IN PAGE",
        "Log in\\x1b[2J.",
    )
    failed = said(WAITS, State.FAILED, "The token was refused.")
    assert (failed.mood, failed.label, failed.detail) == (
        "bad",
        "DISCONNECTED",
        "The token was refused.",
    )


def test_counts_are_words() -> None:
    assert waiting(0, 0) == ""
    assert waiting(1, 0) == "1 change waits"
    assert waiting(0, 2) == "2 messages wait"
    assert waiting(1, 1) == "1 change and 1 message wait"
    assert leaving(0) == ""
    assert leaving(1_000) == "1,000 changes wait to be sent, saved here"
