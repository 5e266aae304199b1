"""``collab edit`` as people use it: under a terminal, with a real relay."""

from __future__ import annotations

import asyncio
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import collab
from collab.testing import relay
from tests.e2e.support import QUICK, run

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals")
if sys.platform != "win32":
    from tests.e2e.terminal import COMMAND, terminal

QUIT, OFFLINE, CHAT, NOW = "\x11", "\x0f", "\x14", "\x12"
READY = "Message, or /help"


def edit(store: Path, *more: str) -> list[str]:
    return ["edit", "plan", "--store", str(store), *more]


def content(store: Path, text: str = "body") -> str:
    """What a store has."""

    async def main() -> str:
        async with collab.open(store) as client:
            return str((await client.room("plan")).text(text))

    return asyncio.run(main())


def messages(store: Path) -> list[str]:
    """What was said, as a store has it."""

    async def main() -> list[str]:
        async with collab.open(store) as client:
            return [one.body for one in await (await client.room("plan")).chat.history()]

    return asyncio.run(main())


async def both(one: Callable[[], object], other: Callable[[], object]) -> None:
    """Look at two terminals at once, and let the relay go on meanwhile."""
    await asyncio.gather(asyncio.to_thread(one), asyncio.to_thread(other))


def test_two_editors_write_together_apart_and_together_again(tmp_path: Path) -> None:
    async def main() -> None:
        async with relay(tmp_path / "relay") as server:
            more = ("--relay", server.url)
            with (
                terminal(edit(tmp_path / "a.db", *more, "--name", "Ada"), {}) as ada,
                terminal(edit(tmp_path / "b.db", *more, "--name", "Ben"), {}) as ben,
            ):
                await both(lambda: ada.shows(READY, "● Ben"), lambda: ben.shows(READY, "● Ada"))
                ada.type("together 日本 👍\r")
                await both(
                    lambda: ada.shows("together 日本 👍", "saved and synced"),
                    lambda: ben.shows("together 日本 👍", "◂ Ada", "saved and synced"),
                )
                # The relay goes away, for both.
                async with server.offline():
                    await both(lambda: ada.shows("OFFLINE"), lambda: ben.shows("OFFLINE"))
                    ada.type("Ada was here. ")
                    ben.type("Ben was here. ")
                    await both(
                        lambda: ada.shows("Ada was here. ", "saved on this device · .* wait"),
                        lambda: ben.shows("Ben was here. ", "saved on this device · .* wait"),
                    )
                ada.type(NOW)
                ben.type(NOW)
                met = ("Ada was here. ", "Ben was here. ", "saved and synced")
                await both(lambda: ada.shows(*met), lambda: ben.shows(*met))
                # One of them works offline, and says something.
                ada.type(OFFLINE)
                await asyncio.to_thread(ada.shows, "OFFLINE", "working offline")
                ada.type("More of Ada. " + CHAT + "are you there?\r")
                ben.type("More of Ben. ")
                await both(
                    lambda: ada.shows("you  are you there", r"\[#1", "and 1 message wait"),
                    lambda: ben.shows("More of Ben. ", "saved and synced"),
                )
                ada.type(OFFLINE)
                each = ("More of Ada. ", "More of Ben. ", "are you there", "saved and synced")
                await both(lambda: ada.shows(*each, "delivered"), lambda: ben.shows(*each))
                ada.type(QUIT)
                ben.type(QUIT)
                ended = await asyncio.gather(
                    asyncio.to_thread(ada.ends), asyncio.to_thread(ben.ends)
                )
                assert [status for status, _ in ended] == [0, 0]
                assert all("everything was sent" in left for _, left in ended)
        ours = await asyncio.to_thread(content, tmp_path / "a.db")
        assert ours == await asyncio.to_thread(content, tmp_path / "b.db")
        assert all(part in ours for part in (*met[:2], *each[:2]))

    run(main())


@pytest.mark.parametrize("number", range(3))
def test_what_was_shown_as_saved_survives_a_kill(tmp_path: Path, number: int) -> None:
    store = tmp_path / "a.db"
    typed = ""
    for word in ("one", "日本", "👍 two", "x" * (1 + 7 * number)):
        with terminal(edit(store), {}) as screen:
            screen.shows(READY)
            screen.type(f"{word}.")
            typed = f"{word}.{typed}"  # the caret begins at the beginning
            screen.shows(re.escape(f"{word}."), r"saved on this device")
            screen.process.send_signal(signal.SIGKILL)
            screen.process.wait()
        assert content(store) == typed


@pytest.mark.parametrize("leaving", [QUIT, signal.SIGTERM, signal.SIGHUP, None])
def test_leaving_saves_everything_and_says_what_waits(
    tmp_path: Path, leaving: str | signal.Signals | None
) -> None:
    store = tmp_path / "a.db"
    with terminal(edit(store), {}) as screen:
        screen.shows(READY)
        screen.type("all of this")
        if leaving is None:
            screen.shows("all of this")
            screen.close()  # its window
            screen.process.wait(30)
        else:
            if isinstance(leaving, str):
                screen.type(leaving)
            else:
                screen.shows("all of this")
                screen.process.send_signal(leaving)
            status, left = screen.ends()
            assert status == 0
            assert re.search(r"\d+ changes? waits? to be sent, saved here", left)
    assert content(store) == "all of this"


def test_another_text_a_name_and_keys_that_the_footer_tells(tmp_path: Path) -> None:
    store = tmp_path / "a.db"
    with terminal(edit(store, "--text", "notes", "--name", "Zoë 小明"), {}) as screen:
        screen.shows(READY, "plan · notes", r"● Zoë 小明 \(you\)")
        screen.shows(r"\^q Quit", r"\^t Chat", r"\^o Offline", r"\^z Undo", r"\^y Redo")
        screen.type("wrong\x1aright\r\t\x1b[D\x1b[3~")
        screen.shows("right")
        screen.type(QUIT)
        screen.ends()
    assert content(store, "notes") == "right\n"
    assert content(store) == ""


def test_what_is_typed_at_once_is_done_in_its_order_to_the_end(tmp_path: Path) -> None:
    """Nobody waits for the screen who knows what to type."""
    store = tmp_path / "a.db"
    with terminal(edit(store), {}) as screen:
        screen.shows(READY)
        back = "\x7f\x7f"
        screen.type(
            f"teh{back}he\rsecond{CHAT}said{CHAT}third{CHAT}more{back}\r/help\r\x1b[5~{QUIT}"
        )
        screen.ends()

    assert content(store) == "the\nsecondthird"
    assert messages(store) == ["saidmo"]


def test_a_paste_is_one_edit_and_no_line_of_it_is_lost(tmp_path: Path) -> None:
    store = tmp_path / "a.db"
    with terminal(edit(store), {}) as screen:
        screen.shows(READY)
        screen.type("\x1b[200~first\rsecond\r\n日本\x1b[201~")
        screen.shows("first", "second", "日本", "saved on this device")
        screen.type(CHAT + "\x1b[200~said in\rtwo lines\x1b[201~\r")
        screen.shows("you  said in", "two lines", "#1 queued")
        screen.type(QUIT)
        screen.ends()
    assert content(store) == "first\nsecond\n日本"
    assert messages(store) == ["said in\ntwo lines"]


def test_without_colours_none_is_written(tmp_path: Path) -> None:
    colour = re.compile(rb"\x1b\[[0-9;]*\b(?:3[0-8]|4[0-8]|9[0-7]|10[0-7])(?:;[0-9;]*)?m")

    def raw(environ: dict[str, str]) -> bytes:
        with terminal(edit(tmp_path / "a.db", "--name", "Ada"), environ) as screen:
            screen.shows(READY, "OFFLINE", "● Ada")
            screen.type("text" + CHAT + "hi\r")
            screen.shows("text", "you  hi")
            screen.type(QUIT)
            screen.ends()
            return screen.raw

    assert colour.search(raw({"COLORTERM": "truecolor"}))
    assert not colour.search(raw({"NO_COLOR": "1", "COLORTERM": "truecolor"}))


def test_it_follows_the_size_of_the_terminal(tmp_path: Path) -> None:
    with terminal(edit(tmp_path / "a.db"), {}, rows=24, columns=80) as screen:
        screen.shows(READY)
        screen.type("text")
        for rows, columns in ((12, 50), (40, 132), (24, 80)):
            screen.resize(rows, columns)
            shown = screen.shows("text", "OFFLINE", READY, "Quit")
            assert len(shown.split("\n")) == rows


def test_nothing_that_others_wrote_reaches_the_terminal_raw(tmp_path: Path) -> None:
    evil = "\x1b]0;owned\x07\x1b[2J\x9b31m\rspoof\u202etxt"

    async def main() -> None:
        async with (
            relay(tmp_path / "relay") as server,
            collab.open(":memory:", relay=server.url, settings=QUICK) as client,
        ):
            room = await client.room("plan")
            text = room.text("body")
            text.insert(0, f"a{evil}\n")
            at = text.relative_position(2).to_json()
            user = {"name": f"Eve{evil}", "color": evil}
            room.presence.set({"user": user, "cursor": {"anchor": at, "head": at}})
            await room.chat.send(f"c{evil}", meta={"name": f"Eve{evil}"})
            arguments = edit(tmp_path / "a.db", "--relay", server.url)

            def look() -> bytes:
                with terminal(arguments, {}) as screen:
                    screen.shows(r"a␛\]0;owned␇", "◂ Eve", r"owned\\x07", "saved and synced")
                    screen.type(QUIT)
                    screen.ends()
                    return screen.raw

            raw = (await asyncio.to_thread(look)).decode()
            raw = re.sub("\x1b\\]22;[a-z]*\x07", "", raw)  # the pointer's shape, by Textual
        assert not {part for part in ("\x1b]0;owned", "\x07", "\x9b", "\u202e") if part in raw}

    run(main())


def refused(*arguments: str, program: str = "") -> str:
    """What the command says that does not begin."""
    command = [sys.executable, "-c", program, *arguments] if program else [*COMMAND, *arguments]
    done = subprocess.run(
        command, check=False, stdin=subprocess.DEVNULL, capture_output=True, timeout=60
    )
    assert (done.returncode, done.stdout) == (1, b"")
    said = done.stderr.decode()
    assert said.startswith("collab: ")
    assert said.count("\n") == 1
    return said


def test_what_keeps_it_from_beginning_is_said_in_a_sentence(tmp_path: Path) -> None:
    store = tmp_path / "a.db"
    assert "needs a terminal" in refused(*edit(store))
    missing = "import sys; sys.modules['textual'] = None; from collab.cli import main; main()"
    assert "pip install 'collab-sync[edit]'" in refused(*edit(store), program=missing)
    assert not store.exists()

    async def busy() -> tuple[int, str]:
        async with collab.open(store):
            with terminal(edit(store), {}) as screen:
                return await asyncio.to_thread(screen.ends)

    status, left = asyncio.run(busy())
    assert status == 1
    assert "collab: " in left
