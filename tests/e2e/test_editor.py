"""``collab edit`` beside a real relay: two people at a text, with and without a network."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

import collab
from collab.editor.leaving import LeaveScreen
from collab.errors import DiskFull
from collab.protocol.frames import Access
from collab.testing import Portal, proxy, relay
from tests.e2e.editor_support import editing
from tests.e2e.support import QUICK, reads, run, running, until
from tests.e2e.test_rights import House

EVIL = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202e"


def test_it_opens_from_the_disk_without_a_network_and_saves_what_is_typed(tmp_path: Path) -> None:
    async def main() -> None:
        async with editing(tmp_path / "a.db", "ws://127.0.0.1:9") as one:
            await one.types("日 one\n")
            await one.shows("日 one", "OFFLINE", "saved on this device", "6 changes wait")
        async with editing(tmp_path / "a.db") as one:
            glass = await one.shows("日 one", "OFFLINE", "no relay given")
            assert "plan · body" in glass
            assert "● Ada (you)" in glass

    run(main())


def test_two_people_write_at_once_and_see_each_others_carets(tmp_path: Path) -> None:
    async def main() -> None:
        async with (
            relay(tmp_path) as server,
            editing(relay=server.url, name="Ada") as ada,
            editing(relay=server.url, name="Ben") as ben,
        ):
            await asyncio.gather(ada.shows("● Ben"), ben.shows("● Ada"))
            await asyncio.gather(ada.types("one 👍\n"), ben.types("two 狗\n"))
            await asyncio.gather(ada.room.wait_synced(20), ben.room.wait_synced(20))
            await until(lambda: ada.text == ben.text == ada.app.area.text == ben.app.area.text)
            assert sorted(ada.text.splitlines()) == ["one 👍", "two 狗"]
            await ada.press("ctrl+home", "end")
            await ben.press("ctrl+end")
            await ada.shows("◂ Ben", "saved and synced")
            await ben.shows("◂ Ada", "saved and synced")
            first = ada.text.splitlines()[0]
            assert f"{first}  ◂ Ada" in ben.glass
            await ben.press("ctrl+z", "ctrl+z", "ctrl+z", "ctrl+z", "ctrl+z", "ctrl+z", "ctrl+z")
            await reads(ada.room, "one 👍\n")
            await ada.shows("one 👍")
            await ada.hides("two")

    run(main())


def test_a_caret_as_web_editors_set_it_is_shown_and_ours_is_set_so(tmp_path: Path) -> None:
    """The fields of y-codemirror.next, by a client that is no editor of ours."""

    async def main() -> None:
        async with (
            relay(tmp_path) as server,
            editing(relay=server.url) as one,
            collab.open(":memory:", relay=server.url, settings=QUICK) as client,
        ):
            room = await client.room("plan")
            text = room.text("body")
            await one.types("first\nsecond\n")
            await reads(room, "first\nsecond\n")
            at = text.relative_position(8).to_json() | {"type": None}
            cursor = {"anchor": at, "head": at}
            room.presence.set({"user": {"name": "Web", "color": "#f00"}, "cursor": cursor})
            await one.shows("second  ◂ Web", "● Web")
            text.insert(0, "zero\n")
            await one.shows("zero", "second  ◂ Web")
            states = room.presence.others().values()
            await until(lambda: any("cursor" in state for state in states))
            (state,) = room.presence.others().values()
            assert state["user"]["name"] == "Ada"
            assert set(state["cursor"]) == {"anchor", "head"}
            head = text.relative_position_from_json(state["cursor"]["head"])
            assert head.index == len("zero\nfirst\nsecond\n")
            room.presence.set({"cursor": None})
            await one.hides("◂ Web")

    run(main())


def test_both_write_while_the_relay_is_away_and_come_together(tmp_path: Path) -> None:
    async def main() -> None:
        async with (
            relay(tmp_path) as server,
            editing(relay=server.url, name="Ada") as ada,
            editing(relay=server.url, name="Ben") as ben,
        ):
            await asyncio.gather(ada.shows("● Ben"), ben.shows("● Ada"))
            async with server.offline():
                await asyncio.gather(ada.shows("OFFLINE"), ben.shows("OFFLINE"))
                await asyncio.gather(ada.types("Ada. "), ben.types("Ben. "))
                await ada.says("are you there")
                await ada.shows("1 message wait", "saved on this device · ", "#1 queued")
                await ada.hides("● Ben")  # nobody is seen
            await asyncio.gather(ada.shows("saved and synced"), ben.shows("saved and synced"))
            await until(lambda: ada.app.area.text == ben.app.area.text)
            assert sorted(ada.text.split()) == ["Ada.", "Ben."]
            await ben.shows("Ada (", "are you there")
            await ada.shows("[delivered]")

    run(main())


def test_working_offline_is_switched_on_and_off(tmp_path: Path) -> None:
    async def main() -> None:
        async with relay(tmp_path) as server, editing(relay=server.url) as one:
            await one.shows("ONLINE  saved and synced")
            await one.press("ctrl+o")
            await one.shows("OFFLINE  saved on this device · working offline")
            await one.types("x")
            await one.shows("saved on this device · 1 change waits · working offline")
            await one.press("ctrl+o")
            await one.shows("ONLINE  saved and synced")
        async with editing() as one:
            await one.press("ctrl+o")
            await one.shows("No relay was given")

    run(main())


def test_saved_is_not_said_of_what_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not in the turn of the edit either, before anything can be drawn."""

    async def main() -> None:
        async with editing(tmp_path / "a.db") as one:
            gate = asyncio.Event()
            append = one.client._documents.append

            async def slow(batches: Any) -> Any:
                await gate.wait()
                return await append(batches)

            monkeypatch.setattr(one.client._documents, "append", slow)
            one.app.area.insert("x")
            assert one.app.standing.badge is not None
            assert one.app.standing.badge.text.startswith("saving …")
            await one.types("y")
            assert "saving …" in one.glass
            assert "saved" not in one.glass
            gate.set()
            await one.shows("saved on this device")

    run(main())


def test_a_full_disk_is_said_and_leaving_waits_for_it_or_for_a_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        path = tmp_path / "a.db"
        async with editing(path) as one:
            append = one.client._documents.append

            async def refuse(_: object) -> None:
                raise DiskFull("The disk is full. Free some space.")

            monkeypatch.setattr(one.client._documents, "append", refuse)
            await one.types("kept")
            await one.shows(
                "NOT SAVED", "kept in memory, tried again", "The disk is full. Free some"
            )
            await one.press("ctrl+q")
            await one.shows("Not everything is saved. The disk is full.", "Ctrl+X")
            await one.press("x")  # no key but those that are named does anything
            await one.press("escape")
            await one.shows("kept")
            assert not isinstance(one.app.screen, LeaveScreen)
            await one.types("!")
            await one.press("ctrl+q")
            await one.shows("Not everything is saved")
            monkeypatch.setattr(one.client._documents, "append", append)
            await until(lambda: not one.app.is_running)
        async with editing(path) as one:
            assert one.text == "kept!"

    run(main())


def test_what_is_not_saved_is_given_up_only_at_a_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(_: object) -> None:
        raise DiskFull("The disk is full.")

    async def main() -> None:
        async with editing(tmp_path / "a.db") as one:
            monkeypatch.setattr(one.client._documents, "append", refuse)
            await one.types("gone")
            await one.press("ctrl+q")
            await one.shows("leave, and lose what is not saved")
            await one.press("ctrl+x")
            await until(lambda: not one.app.is_running)

    with pytest.raises(DiskFull):  # the client says so, too
        run(main())


def test_a_fault_by_which_nothing_is_saved_any_more_is_no_leave_to_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails() -> None:
        raise collab.LocalError("A fault of collab itself.")

    async def main() -> None:
        async with editing(tmp_path / "a.db") as one:
            monkeypatch.setattr(one.room, "wait_saved", fails)
            await one.types("text")
            await one.press("ctrl+q")
            await one.shows("Not everything is saved. A fault of collab", "It is not tried again")
            await one.press("escape")
            await one.hides("Not everything is saved")
            await one.press("ctrl+q")
            await one.shows("leave, and lose what is not saved")
            await one.press("ctrl+x")
            await until(lambda: not one.app.is_running)

    run(main())


def test_who_may_only_read_cannot_write_and_is_told(tmp_path: Path) -> None:
    house = House()
    house.rights["eve", "plan"] = Access.READ

    async def main() -> None:
        async with (
            running(
                tmp_path,
                authenticate=house.authenticate,
                authorize=house.authorize,
                recheck_rights_s=0.05,
            ) as (url, _),
            collab.open(":memory:", relay=url, token="ada", settings=QUICK) as client,
            editing(relay=url, token="eve", name="Eve") as eve,
        ):
            room = await client.room("plan")
            room.text("body").insert(0, "for all to read")
            await eve.shows("READ ONLY", "for all to read", "saved and synced")
            await eve.types("nothing")
            assert eve.text == eve.app.area.text == "for all to read"
            house.rights["eve", "plan"] = Access.WRITE
            await eve.hides("READ ONLY")
            await eve.types("now ")
            await reads(room, "now for all to read")

    run(main())


def test_a_deleted_room_is_said_in_sentences_and_keeps_what_is_here(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path) as (url, server), editing(relay=url) as one:
            await one.types("mine")
            await one.shows("saved and synced")
            await server.room("plan").delete()
            await one.shows("NOT SYNCED", "saved on this device", "deleted")
            await one.types("!")
            assert one.text == one.app.area.text == "mine!"

    run(main())


def test_a_sign_in_page_is_named(tmp_path: Path) -> None:
    async def main() -> None:
        async with (
            relay(tmp_path) as server,
            proxy(server.url) as wire,
            editing(relay=wire.url) as one,
        ):
            await one.shows("saved and synced")
            wire.portal = Portal.HTML
            wire.cut()
            await one.types("x")
            await one.shows("SIGN-IN PAGE", "saved on this device · 1 change waits")
            wire.portal = None
            await one.shows("saved and synced")

    run(main())


def test_messages_are_unread_until_they_are_seen(tmp_path: Path) -> None:
    async def main() -> None:
        async with (
            relay(tmp_path) as server,
            editing(relay=server.url) as one,
            collab.open(":memory:", relay=server.url, settings=QUICK) as client,
        ):
            await one.press("ctrl+t", "ctrl+t")  # to the chat; and away with it
            assert not one.app.chat.display
            assert one.app.area.has_focus
            chat = (await client.room("plan")).chat
            message = await chat.send("look here", meta={"name": "Ben"})
            await one.shows("1 unread")
            await one.types("x")  # nobody has seen it
            assert one.room.chat.unread == 1
            await one.press("ctrl+t")
            await one.shows("Ben (", "look here")
            await until(lambda: one.room.chat.unread == 0)
            await one.hides("1 unread")
            await message.wait("read", timeout=20)

    run(main())


def test_a_line_that_the_chat_does_not_take_is_given_back(tmp_path: Path) -> None:
    async def main() -> None:
        async with editing(tmp_path / "a.db") as one:
            await one.press("ctrl+t")
            await one.types("/nonsense a secret\n")
            await one.shows("There is no command /nonsense")
            assert one.app.chat.field.text == "/nonsense a secret"
            await one.press("f7", "delete")
            await one.types("said\n")
            await one.shows("you  said", "#1 queued")
            assert one.app.chat.field.text == ""
            await one.types("/cancel\n")
            await one.shows("[#1 cancelled]")
            await one.press("escape")
            await one.types("text")
            assert one.text == "text"
            await one.press("ctrl+t")
            await one.types("/quit\n")
            await until(lambda: not one.app.is_running)

    run(main())


def test_a_line_that_comes_back_holds_up_who_leaves_and_is_shown_behind_another(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        async with editing(tmp_path / "a.db") as one:
            refuses = True
            send = one.room.chat.send

            async def full(*given: Any, **named: Any) -> collab.Message:
                if not refuses:
                    return await send(*given, **named)
                await goes_on.wait()
                raise DiskFull("The disk is full.")

            goes_on = asyncio.Event()
            one.room.chat.send = full  # type: ignore[method-assign]
            await one.press("ctrl+t")
            await one.types("first\nsecond\nthird")
            goes_on.set()
            await one.shows("not taken: first", "not taken: second")
            assert one.app.chat.field.text == "third"
            goes_on.clear()
            await one.press("enter", "ctrl+q")
            goes_on.set()
            await until(lambda: one.app.chat.field.text == "third")
            assert one.app.is_running
            refuses = False
            await one.press("enter", "ctrl+q")
            await until(lambda: not one.app.is_running)
        async with editing(tmp_path / "a.db") as one:
            await one.shows("you  third")

    run(main())


def test_nothing_that_others_wrote_is_drawn_raw(tmp_path: Path) -> None:
    async def main() -> None:
        async with (
            relay(tmp_path) as server,
            editing(relay=server.url, room="plan") as one,
            collab.open(":memory:", relay=server.url, settings=QUICK) as client,
        ):
            room = await client.room("plan")
            room.text("body").insert(0, f"a{EVIL}b\n")
            place = room.text("body").relative_position(1).to_json()
            cursor = {"anchor": place, "head": place}
            room.presence.set({"user": {"name": f"Eve{EVIL}"}, "cursor": cursor})
            await room.chat.send(f"c{EVIL}", meta={"name": EVIL})
            glass = await one.shows(
                "a␛]0;owned␇␛[2J\ufffd31m\ufffdb", "◂ Eve ]0;owned", "owned\\x07"
            )
            assert not {"\x1b", "\x07", "\x9b", "\u202e"} & set(glass)
            assert one.text == f"a{EVIL}b\n"

    run(main())


@pytest.mark.parametrize("size", [(80, 24), (40, 12), (20, 6), (200, 60)])
def test_every_size_has_room_for_the_text_and_its_standing(
    tmp_path: Path, size: tuple[int, int]
) -> None:
    async def main() -> None:
        async with editing(tmp_path / "a.db", size=size) as one:
            await one.types("text")
            await one.shows("text", "OFFLINE")
            for other in ((100, 30), (30, 8), size):
                await one.pilot.resize_terminal(*other)
                await one.is_high(other[1])
                await one.shows("text", "OFFLINE")

    run(main())


def test_many_people_at_many_places_are_drawn_and_leave_no_trace(tmp_path: Path) -> None:
    async def main() -> None:
        async with relay(tmp_path) as server, editing(relay=server.url, size=(120, 24)) as one:
            await one.types("abcdef")
            for number in range(3):
                async with collab.open(":memory:", relay=server.url, settings=QUICK) as client:
                    room = await client.room("plan")
                    await reads(room, "abcdef")
                    at = room.text("body").relative_position(number).to_json()
                    room.presence.set(
                        {"user": {"name": f"P{number}"}, "cursor": {"anchor": at, "head": at}}
                    )
                    await one.shows(f"◂ P{number}", f"● P{number}")
                await one.hides(f"P{number}")

    run(main())
