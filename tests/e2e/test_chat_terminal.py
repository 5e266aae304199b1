"""``collab chat`` as people use it: under a terminal, and in pipes, with a real relay."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import collab
from tests.e2e.support import QUICK

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals")
if sys.platform != "win32":
    from tests.e2e.terminal import COMMAND, terminal

PROMPT = r"(?m)^>$"
PAGE_UP = "\x1b[5~"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
        return port


@contextmanager
def relay(data: Path, port: int = 0) -> Iterator[str]:
    """A relay as a process, and its address."""
    command = [*COMMAND, "serve", "--open", "--port", str(port), "--data", str(data)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line.startswith("relay: ws://")
            yield line.removeprefix("relay: ").strip()
        finally:
            process.kill()


def piped(said: str | bytes, *arguments: str) -> tuple[int, str, str]:
    """``collab chat`` with this on its stdin: exit status, stdout, stderr."""
    data = said.encode() if isinstance(said, str) else said
    done = subprocess.run(
        [*COMMAND, "chat", *arguments], check=False, input=data, capture_output=True, timeout=100
    )
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def history(store: Path, room: str = "room") -> list[tuple[str, str]]:
    """What a store has: each message and its state."""

    async def main() -> list[tuple[str, str]]:
        async with collab.open(store) as client:
            found = await (await client.room(room)).chat.history()
            return [(message.body, str(message.state)) for message in found]

    return asyncio.run(main())


# Under a terminal


def test_what_is_typed_offline_goes_from_queued_to_accepted_in_its_place(tmp_path: Path) -> None:
    port = free_port()
    arguments = ["chat", "room", "--relay", f"ws://127.0.0.1:{port}"]
    with terminal(arguments, {"XDG_DATA_HOME": str(tmp_path / "share")}) as screen:
        screen.shows(PROMPT, r"room · offline, next attempt in \d+ s · Nobody listens")
        screen.type("written without a network\r")
        screen.shows(r"you  written without a network  \[#1 queued\]", "1 to send")
        with relay(tmp_path / "relay", port):
            screen.type("/connect\r")
            shown = screen.shows(r"you  written without a network  \[accepted\]", "room · online")
            assert "queued" not in shown
            assert "to send" not in shown
            screen.type("\x04")  # the end of the input
            status, left = screen.ends()
    assert status == 0
    assert "everything was sent" in left
    assert history(tmp_path / "share" / "collab" / "collab.db") == [
        ("written without a network", "accepted")
    ]


@pytest.mark.parametrize("leaving", ["\x03", signal.SIGTERM])
def test_leaving_offline_says_how_much_waits_and_keeps_it(
    tmp_path: Path, leaving: str | signal.Signals
) -> None:
    store = tmp_path / "store.db"
    with terminal(["chat", "room", "--store", str(store)], {}) as screen:
        screen.shows(PROMPT, "no relay given")
        screen.type("one\rtwo\r")
        screen.shows("one  .#1 queued", "two  .#2 queued")
        if isinstance(leaving, str):
            screen.type(leaving)
        else:
            screen.process.send_signal(leaving)
        status, left = screen.ends()
    assert status == 0
    assert "2 messages wait to be sent, saved here" in left
    assert history(store) == [("one", "queued"), ("two", "queued")]


def test_edit_cancel_and_what_was_said_before(tmp_path: Path) -> None:
    store = tmp_path / "store.db"
    with terminal(["chat", "room", "--store", str(store)], {}) as screen:
        screen.shows(PROMPT)
        screen.type("first\rsecond\r/edit #1 the first\r/cancel\r/nonsense secret\r")
        screen.shows(
            r"the first  \[#1 queued\]", r"second  \[#2 cancelled\]", "no command /nonsense"
        )
        screen.shows("> /nonsense secret")  # given back, not lost
        screen.type("\x03")
        screen.ends()
    with terminal(["chat", "room", "--store", str(store)], {}) as screen:
        screen.shows("the first", "second", "cancelled")
        screen.type("/help\r")
        screen.shows("/more", "/retry", "/quit")
        screen.type("\x03")
        screen.ends()


def test_gaps_are_shown_and_filled_on_demand_and_the_unread_begin_at_a_mark(
    tmp_path: Path,
) -> None:
    async def talk(url: str) -> None:
        async with collab.open(tmp_path / "talker.db", relay=url, settings=QUICK) as talker:
            chat = (await talker.room("room")).chat
            for number in range(1, 401):
                message = await chat.send(f"number {number}")
            await message.wait(timeout=60)

    with relay(tmp_path / "relay") as url:
        asyncio.run(talk(url))
        arguments = ["chat", "room", "--store", str(tmp_path / "store.db"), "--relay", url]
        with terminal(arguments, {}) as screen:
            screen.shows(r"number 400\b", "400 unread")
            gap = "… 350 messages not here; /more to fetch"
            screen.shows_after(PAGE_UP, gap, "── new ─", r"number 351\b", "PageDown: newer")
            screen.type("/more\r")
            screen.hides("400 unread")
            screen.shows_after(PAGE_UP, "… 250 messages not here; /more to fetch", r"number 251\b")
            screen.type("\x03")
            screen.ends()


def test_nothing_that_others_wrote_reaches_the_terminal_raw(tmp_path: Path) -> None:
    evil = "\x1b]0;owned\x07\x1b[2J\x9b31m\rspoof\u202etxt"

    async def talk(url: str) -> None:
        async with collab.open(tmp_path / "talker.db", relay=url, settings=QUICK) as talker:
            chat = (await talker.room("room")).chat
            await (await chat.send(evil, meta={"name": f"Eve{evil}"})).wait(timeout=60)

    with relay(tmp_path / "relay") as url:
        asyncio.run(talk(url))
        arguments = ["chat", "room", "--store", str(tmp_path / "store.db"), "--relay", url]
        with terminal(arguments, {}) as screen:
            screen.shows(r"\\x1b\]0;owned\\x07\\x1b\[2J\\x9b31m\\x0dspoof\\u202etxt")
            screen.type("\x03")
            screen.ends()
            raw = screen.raw.decode()
        _, out, _ = piped("", "room", "--store", str(tmp_path / "store.db"))
    for said in (raw, out):
        assert "owned\\x07" in said
        assert not {"\x1b]0;owned", "\x07", "\x9b", "\u202e"} & {
            part for part in ("\x1b]0;owned", "\x07", "\x9b", "\u202e") if part in said
        }
    assert "\x1b" not in out


def test_a_line_that_is_not_taken_as_somebody_leaves_is_said_and_shown(tmp_path: Path) -> None:
    with terminal(["chat", "room", "--store", str(tmp_path / "store.db")], {}) as screen:
        screen.shows(PROMPT)
        screen.type("/nonsense a thought\r\x03")
        status, _ = screen.ends()
        left = screen.raw.decode()
    assert status == 1
    assert "1 line was not taken, neither sent nor saved" in left
    assert "\r\n/nonsense a thought\r\n" in left
    assert "everything was sent" not in left


def test_a_line_that_comes_back_behind_another_is_still_to_be_read(tmp_path: Path) -> None:
    with terminal(["chat", "room", "--store", str(tmp_path / "store.db")], {}) as screen:
        screen.shows(PROMPT)
        screen.type("/one\r/two\rmore")  # in one go: the field has "more" when they come back
        screen.shows("> more", "not taken: /one", "not taken: /two")
        screen.type("\x03")
        screen.ends()


# In pipes


def test_a_piped_message_is_sent_and_the_status_says_so(tmp_path: Path) -> None:
    store = tmp_path / "store.db"
    with relay(tmp_path / "relay") as url:
        status, out, errors = piped("hi\n", "room", "--store", str(store), "--relay", url)
        assert (status, errors) == (0, "")
        lines = out.splitlines()
        assert lines[0].endswith("you: hi  [#1 queued]")
        assert "-- #1 [accepted]" in lines
        assert "-- of 1 message: 1 accepted, 0 waiting, 0 not sent" in lines
        # Another one sees it, and the writer sees that it did.
        arguments = ("room", "--store", str(tmp_path / "other.db"), "--relay", url)
        status, out, errors = piped("", *arguments)
        assert (status, errors) == (0, "")
        assert ": hi" in out
    assert history(store) == [("hi", "accepted")]


def test_a_piped_message_that_nobody_takes_waits_and_the_status_says_that(tmp_path: Path) -> None:
    store = tmp_path / "store.db"
    arguments = ("room", "--store", str(store), "--relay", f"ws://127.0.0.1:{free_port()}")
    status, out, errors = piped("hi\nyou\n", *arguments, "--wait", "0.5")
    assert (status, errors) == (3, "")
    assert "-- of 2 messages: 0 accepted, 2 waiting, 0 not sent" in out
    assert "2 messages wait to be sent, saved here" in out
    assert "-- offline, next attempt in " in out
    assert history(store) == [("hi", "queued"), ("you", "queued")]


def test_without_a_relay_it_does_not_wait_at_all(tmp_path: Path) -> None:
    arguments = ("room", "--store", str(tmp_path / "store.db"), "--wait", "1000")
    assert piped("hi", *arguments)[0] == 3
    assert piped("", *arguments)[0] == 0


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"/nope\n", "no command /nope"),
        (b"x" * 40_000 + b"\n", "40000 bytes"),
        (b"y" * 500_000 + b"\n", "a message has at most 32768"),
        (b"\xff\xfe\n", "no text"),
        (b"/cancel\n", "no such message"),
    ],
)
def test_a_line_that_cannot_be_done_is_named_and_those_behind_it_are_sent(
    tmp_path: Path, line: bytes, said: str
) -> None:
    store = tmp_path / "store.db"
    status, out, errors = piped(line + b"after\n", "room", "--store", str(store))
    assert status == 1
    assert said in errors
    assert "after" in out
    assert history(store) == [("after", "queued")]


@pytest.mark.parametrize("out", ["/dev/full", "a reader that has gone", "closed"])
def test_what_is_piped_in_is_sent_though_nothing_can_be_said_of_it(
    tmp_path: Path, out: str
) -> None:
    """A log on a full disk, ``| head``, or a service without a stdout."""
    store = tmp_path / "store.db"
    command = [*COMMAND, "chat", "room", "--store", str(store)]
    reader, writer = os.pipe()
    os.close(reader)
    if out == "closed":
        command = ["sh", "-c", 'exec "$@" >&-', "sh", *command]
    with open(out if out == "/dev/full" else writer, "wb", closefd=out == "/dev/full") as written:
        done = subprocess.run(
            command, check=False, input=b"one\ntwo\n", stdout=written, stderr=subprocess.PIPE,
            timeout=100,
        )  # fmt: skip
    os.close(writer)
    assert (done.returncode, done.stderr) == (3, b"")
    assert history(store) == [("one", "queued"), ("two", "queued")]


def test_an_input_that_is_closed_is_an_empty_one(tmp_path: Path) -> None:
    command = [*COMMAND, "chat", "room", "--store", str(tmp_path / "store.db")]
    closed = ["sh", "-c", 'exec "$@" <&-', "sh", *command]
    done = subprocess.run(closed, check=False, capture_output=True, timeout=100)
    assert (done.returncode, done.stderr) == (0, b"")


def test_what_the_encoding_of_a_pipe_has_not_is_written_so_that_it_has(tmp_path: Path) -> None:
    store = str(tmp_path / "store.db")
    done = subprocess.run(
        [*COMMAND, "chat", "room", "--store", store], check=False, input="é 🎉\n".encode(),
        capture_output=True, timeout=100, env={**os.environ, "PYTHONIOENCODING": "latin-1"},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (3, b"")
    assert b"you: \xe9 \\U0001f389  [#1 queued]" in done.stdout


def test_commands_work_in_a_pipe(tmp_path: Path) -> None:
    store = tmp_path / "store.db"
    said = "one\ntwo\n//three\n/edit #2 zwei\n/cancel #1\n/status\n/more\n/help\n/quit\nnever\n"
    status, out, errors = piped(said, "room", "--store", str(store))
    assert (status, errors) == (3, "")
    assert "-- #1 [cancelled]" in out
    assert "this is the beginning" in out
    assert "2 messages to send" in out
    assert sorted(history(store)) == [
        ("/three", "queued"), ("one", "cancelled"), ("zwei", "queued"),
    ]  # fmt: skip


def test_a_room_that_the_relay_has_no_more_is_kept_under_another_name(tmp_path: Path) -> None:
    store = tmp_path / "store.db"

    async def write(url: str, store: str | Path, text: str) -> None:
        async with collab.open(store, relay=url, settings=QUICK) as client:
            room = await client.room("room")
            room.text("body").insert(0, text)
            await room.wait_synced(20)

    async def read(room: str) -> str:
        async with collab.open(store) as client:
            return str((await client.room(room)).text("body"))

    with relay(tmp_path / "relay") as url:
        asyncio.run(write(url, store, "ours"))
    with relay(tmp_path / "another") as url:
        asyncio.run(write(url, ":memory:", "theirs"))
        status, _, errors = piped("hello?\n", "room", "--store", str(store), "--relay", url)
        assert status == 3
        assert "has another history than the one on this device" in errors
        assert "/fork NAME" in errors
    status, out, errors = piped("/fork our copy\n", "room", "--store", str(store))
    assert (status, errors) == (0, "")
    assert "collab edit 'our copy'" in out
    assert [asyncio.run(read(room)) for room in ("our copy", "room")] == ["ours", "ours"]
    status, _, errors = piped("/fork our copy\n", "room", "--store", str(store))
    assert status == 1
    assert "'our copy' has content on this device" in errors


def test_a_store_in_use_a_bad_name_and_a_token_that_is_not_there_are_named(tmp_path: Path) -> None:
    store = str(tmp_path / "store.db")

    async def busy() -> tuple[int, str, str]:
        async with collab.open(store):
            return await asyncio.to_thread(piped, "hi\n", "room", "--store", store)

    for status, out, errors in (
        asyncio.run(busy()),
        piped("hi\n", "bad\x1bname", "--store", store),
        piped("hi\n", "room", "--store", store, "--token-file", str(tmp_path / "none")),
    ):
        assert (status, out) == (1, "")
        assert errors.startswith("collab: ")
        assert errors.count("\n") == 1
        assert "\x1b" not in errors
