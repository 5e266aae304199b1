"""Who belongs to a room: read offline, changed online only, told in order, and as rights."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import HTTPConnection

import collab
from collab import Member, Role, limits
from collab.protocol import frames
from collab.protocol.frames import Access, Close, Code
from collab.protocol.members import pack_members
from collab_server.app import Relay
from collab_server.auth import MEMBERS_DECIDE, User
from collab_server.gateway import yjs_messages as messages
from collab_server.settings import Settings
from tests.e2e.chat_member import Member as Speaking
from tests.e2e.chat_member import connected, entered
from tests.e2e.chat_support import bodies
from tests.e2e.support import (
    QUICK,
    ScriptedRelay,
    join,
    joined,
    run,
    running,
    scripted_client,
    soon,
    until,
)
from tests.e2e.support import entered as answer_to
from tests.e2e.test_rights import House
from tests.e2e.test_yjs_endpoint import provider, update_message

TABLES = ("chats", "messages", "members", "outbox", "gaps", "receipts")


def everything(path: Path, *tables: str) -> dict[str, list[Any]]:
    """Every row of a file's tables."""
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as file:
        return {
            table: file.execute(f"SELECT * FROM {table}").fetchall() for table in tables or TABLES
        }


def log_of(data: Path) -> dict[str, list[Any]]:
    return everything(Settings(data=data).log_path, "messages", "members", "chats", "lanes")


async def by_token(token: str | None, _request: HTTPConnection) -> User | None:
    return None if token is None else User(token)


@asynccontextmanager
async def ruled_by_members(data: Path) -> AsyncIterator[tuple[str, Relay]]:
    """A relay at which a member's role is the right; ana is the admin of "notes"."""
    async with running(data, authenticate=by_token, authorize=MEMBERS_DECIDE) as (url, relay):
        await relay.room("notes").set_member("ana", "admin", by="shop")
        yield url, relay


@asynccontextmanager
async def client(url: str, token: str, path: Path | str = ":memory:") -> AsyncIterator[Any]:
    """Somebody in "notes", once all is there."""
    async with collab.open(path, relay=url, token=token, settings=QUICK) as opened:
        room = await opened.room("notes")
        await room.wait_synced(20)
        yield room


def names(room: collab.Room) -> dict[str, str]:
    return {member.user: str(member.role) for member in room.members.all()}


# --- a list that everybody has ---


def test_a_change_is_seen_by_all_is_a_message_and_is_read_without_a_connection(
    tmp_path: Path,
) -> None:
    path = tmp_path / "b.db"

    async def main() -> None:
        async with (
            ruled_by_members(tmp_path) as (url, relay),
            client(url, "ana") as ana,
        ):
            await ana.members.set("ben", "writer")
            assert names(ana) == {"ana": "admin", "ben": "writer"}  # at once, here
            assert await relay.room("notes").members() == (
                Member("ana", Role.ADMIN), Member("ben", Role.WRITER),
            )  # fmt: skip
            async with client(url, "ben", path) as ben:
                await until(lambda: names(ben) == {"ana": "admin", "ben": "writer"})
                seen: list[collab.MembersChanged] = []
                ben.members.observe(seen.append)
                await ana.members.set("eve", Role.READER)
                await ana.members.set("eve", "writer")
                await ana.members.remove("eve")
                await until(lambda: seen and seen[-1].removed)
                eve = [[one.user for one in event.added] for event in seen]
                assert eve[0] == ["eve"]
                assert seen[-1].removed[0].user == "eve"
                assert ben.members.get("eve") is None
                assert ben.members.get("ana") == Member("ana", Role.ADMIN)
                told = [one for one in await ben.chat.history() if one.is_system]
                assert [(one.body, one.sender) for one in told] == [
                    ("shop added ana as an admin", "shop"),
                    ("ana added ben as a writer", "ana"),
                    ("ana added eve as a reader", "ana"),
                    ("ana made eve a writer", "ana"),
                    ("ana removed eve", "ana"),
                ]
                assert told[3].meta == {"member": "eve", "role": "writer", "was": "reader"}
        async with collab.open(path) as offline:
            room = await offline.room("notes")
            assert names(room) == {"ana": "admin", "ben": "writer"}

    run(main())


def test_a_device_that_returns_learns_of_changes_in_order_and_of_a_list_that_became_empty(
    tmp_path: Path,
) -> None:
    path = tmp_path / "a.db"

    async def main() -> None:
        async with running(tmp_path) as (url, relay):
            async with client(url, "", path) as room:
                await relay.room("notes").set_member("ben", "writer", by="shop")
                await until(lambda: names(room) == {"ben": "writer"})
            await relay.room("notes").send("one", sender="shop")
            await relay.room("notes").remove_member("ben", by="shop")
            await relay.room("notes").send("two", sender="shop")
            async with client(url, "", path) as room:
                await until(lambda: names(room) == {})
                await until(lambda: room._chat.machine.is_caught_up)
                assert bodies(await room.chat.history()) == [
                    "shop added ben as a writer", "one", "shop removed ben", "two",
                ]  # fmt: skip

    run(main())


def test_the_longest_list_comes_in_one_frame(tmp_path: Path) -> None:
    rows = [(f"{n:03}" + "x" * (limits.MAX_USER_BYTES - 3), "reader") for n in range(900)]
    frame = frames.Members(2**63 - 1, True, pack_members(rows))
    from collab.protocol.codec import decode_from_relay, encode

    assert len(rows) == limits.MAX_MEMBERS
    assert decode_from_relay(encode(frame)) == frame

    async def main() -> None:
        async with running(tmp_path) as (url, relay):
            room = relay.room("talk")
            await asyncio.gather(*(room.set_member(user, "reader", by="x") for user, _ in rows))
            with pytest.raises(collab.TooLarge, match="900 members"):
                await room.set_member("one more", "reader", by="x")
            async with entered(url) as ana:
                await ana.until(lambda: ana.members)
                assert ana.members == dict(rows)

    run(main())


# --- rights ---


def test_roles_are_rights_and_a_change_takes_effect_at_once(tmp_path: Path) -> None:
    async def main() -> None:
        async with ruled_by_members(tmp_path) as (url, relay), client(url, "ana") as ana:
            async with scripted_client(url, token="ben") as stranger:
                await stranger.send(join("notes"))
                assert (await stranger.expect(frames.Denied)).code == Code.FORBIDDEN
            await ana.members.set("ben", "writer")
            async with connected(url, token="ben") as speaker:
                ben = Speaking(speaker)
                await ben.join("notes")
                assert ben.joined is not None
                assert ben.joined.access == Access.WRITE
                await ben.enter()
                assert (await ben.say(ben.message(1))).code == "accepted"
                await speaker.send(frames.Change(ben.channel, 1, "eve", "admin"))
                await ben.until(lambda: ben.changed)
                assert ben.changed[0].code == "forbidden"
                await ana.members.set("ben", "reader")
                await ben.until(lambda: ben.left)
                assert ben.left is not None
                assert ben.left.code == Code.BUSY
                ben.left = ben.joined = None
                await ben.join("notes")
                assert ben.joined is not None
                assert ben.joined.access == Access.READ
                await ben.enter()
                assert (await ben.say(ben.message(2))).code == "forbidden"
                await relay.room("notes").remove_member("ben", by="shop")
                await ben.until(lambda: ben.left)
                assert ben.left.code == Code.FORBIDDEN
            assert "eve" not in names(ana)

    run(main())


def test_who_gives_his_own_right_up_is_told_that_it_is_done(tmp_path: Path) -> None:
    async def main() -> None:
        async with ruled_by_members(tmp_path) as (url, _), client(url, "ana") as ana:
            await ana.members.set("ben", "admin")
            await ana.members.set("ana", "reader")
            assert names(ana)["ana"] == "reader"
            machine = ana._sync.machine
            await until(lambda: machine.access is Access.READ and ana._chat.machine.is_open)
            with pytest.raises(collab.Rejected) as refused:
                await ana.members.set("ana", "admin")
            assert (refused.value.code, refused.value.retryable) == ("forbidden", False)
            async with client(url, "ben") as ben:
                await ben.members.remove("ben")
                assert names(ben) == {"ana": "reader"}

    run(main())


def test_a_stock_provider_is_served_by_its_role_too(tmp_path: Path) -> None:
    async def main() -> None:
        async with ruled_by_members(tmp_path) as (url, relay):
            await relay.room("notes").set_member("ben", "reader", by="shop")
            async with provider(url, token="ben") as one:
                await one.hello()
                await relay.room("notes").set_member("ben", "writer", by="shop")
                assert await one.closed() == Close.OVERLOADED
            async with provider(url, token="ben") as one:
                await one.hello()
                await one.send(update_message(one.type("now")), messages.step1(b"\0"))
                await one.expect(messages.Step2)
                await relay.room("notes").remove_member("ben", by="shop")
                assert await one.closed() == Close.FORBIDDEN

    run(main())


def test_a_right_that_goes_while_its_room_is_being_opened_opens_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        async with ruled_by_members(tmp_path) as (url, relay):
            await relay.room("notes").set_member("ben", "writer", by="shop")
            shared = relay._running()
            hold = shared.rooms.hold

            async def slow(name: str, *, epoch: bytes | None) -> Any:
                shared.rooms.hold = hold  # type: ignore[method-assign]
                loaded = await hold(name, epoch=epoch)
                await relay.room("notes").remove_member("ben", by="shop")
                return loaded

            shared.rooms.hold = slow  # type: ignore[method-assign]
            async with scripted_client(url, token="ben") as ben:
                await ben.send(join("notes"))
                assert (await ben.expect(frames.Denied)).code == Code.FORBIDDEN

    run(main())


def test_members_are_deleted_with_their_room(tmp_path: Path) -> None:
    async def main() -> None:
        async with ruled_by_members(tmp_path) as (url, relay), client(url, "ana") as ana:
            await ana.members.set("ben", "writer")
            await relay.room("notes").delete()
            assert await relay.room("notes").members() == ()
            assert log_of(tmp_path)["members"] == []
            async with scripted_client(url, token="ana", number=1 << 60) as again:
                await again.send(join("notes"))
                assert (await again.expect(frames.Denied)).code == Code.FORBIDDEN
            with pytest.raises(collab.CollabError):
                await ana.members.set("eve", "reader")
            assert names(ana) == {"ana": "admin", "ben": "writer"}  # as this device last heard

    run(main())


# --- misuse ---

NO_NAMES: list[Any] = ["", "x" * 256, "\ud83d", 7, None]


@pytest.mark.parametrize("user", NO_NAMES, ids=repr)
def test_a_name_that_there_cannot_be_is_refused_and_nothing_is_written(
    tmp_path: Path, user: Any
) -> None:
    path = tmp_path / "a.db"

    async def main() -> None:
        async with running(tmp_path) as (url, relay), client(url, "", path) as room:
            before = everything(path), log_of(tmp_path)
            for act in (room.members.set(user, "reader"), room.members.remove(user)):
                with pytest.raises(collab.LocalError, match="no name"):
                    await act
            handle = relay.room("notes")
            for act in (
                handle.set_member(user, "reader", by="x"),
                handle.remove_member("x", by=user),
            ):
                with pytest.raises(collab.LocalError, match="no name"):
                    await act
            for role in ("owner", "", None):
                with pytest.raises(collab.LocalError, match="reader, writer, admin"):
                    await room.members.set("ben", role)
                with pytest.raises(collab.LocalError, match="reader, writer, admin"):
                    await handle.set_member("ben", role, by="x")  # type: ignore[arg-type]
            assert (everything(path), log_of(tmp_path)) == before

    run(main())


def test_offline_a_change_raises_at_once_and_nothing_is_queued_or_stored(tmp_path: Path) -> None:
    path = tmp_path / "a.db"

    async def main() -> None:
        async with running(tmp_path) as (url, _), client(url, "", path) as room:
            await room.members.set("ben", "writer")
            await until(lambda: len(everything(path)["messages"]) == 1)
        before = everything(path), log_of(tmp_path)
        for relay_url in (None, "ws://127.0.0.1:1"):
            async with collab.open(path, relay=relay_url, settings=QUICK) as offline:
                room = await offline.room("notes")
                for act in (room.members.set("eve", "admin"), room.members.remove("ben")):
                    with pytest.raises(collab.OfflineError, match="nothing is queued"):
                        await act
                assert names(room) == {"ben": "writer"}
                assert room.status.pending_messages == 0
                assert (everything(path), log_of(tmp_path)) == before

    run(main())


def test_who_may_not_change_members_is_told_so_and_nothing_is_written(tmp_path: Path) -> None:
    house = House()
    house.rights["ana", "notes"] = Access.WRITE

    async def main() -> None:
        async with running(
            tmp_path, authenticate=house.authenticate, authorize=house.authorize
        ) as (url, relay), client(url, "ana", tmp_path / "a.db") as ana:  # fmt: skip
            before = everything(tmp_path / "a.db"), log_of(tmp_path)
            for act in (ana.members.set("ana", "admin"), ana.members.remove("ben")):
                with pytest.raises(collab.Rejected) as refused:
                    await act
                assert refused.value.code == "forbidden"
            assert (everything(tmp_path / "a.db"), log_of(tmp_path)) == before
            # Roles are no rights here: an admin of the list is not one of the room.
            await relay.room("notes").set_member("ana", "admin", by="shop")
            with pytest.raises(collab.Rejected, match="may not change"):
                await ana.members.set("ben", "reader")
            house.rights["eve", "notes"] = Access.ADMIN
            async with client(url, "eve") as eve:
                await eve.members.set("ben", "reader")

    run(main())


@pytest.mark.parametrize("ending", ["cut", "left", "entered again", "closed"])
def test_a_change_whose_answer_does_not_come_says_that_nobody_knows(
    tmp_path: Path, ending: str
) -> None:
    async def main() -> None:
        async with (
            ScriptedRelay() as relay,
            collab.open(tmp_path / "a.db", relay=relay.url, settings=QUICK) as opened,
        ):
            room = await opened.room("notes")
            visit = await relay.welcomed()
            visit.chats = True
            await visit.send(joined(await visit.expect(frames.Join), access=Access.ADMIN))
            await visit.send(frames.Difference(7, 0, b"\0\0"))
            await visit.send(answer_to(await visit.expect(frames.Enter)))
            await until(lambda: room._chat.machine.is_open)
            asking = asyncio.create_task(room.members.set("ben", "writer"))
            change = await visit.expect(frames.Change)
            assert (change.user, change.role) == ("ben", "writer")
            match ending:
                case "cut":
                    visit.socket.transport.abort()
                case "left":
                    await visit.send(frames.Left(7, Code.BUSY, "come again"))
                case "entered again":
                    await visit.send(frames.Expected(7, 9))  # the file was put back, it seems
                case "closed":
                    await room.close()
            error = collab.Closed if ending == "closed" else collab.OfflineError
            with pytest.raises(error, match=r"may be done or not.*room\.members says which"):
                await soon(asking)
            if ending == "entered again":
                await visit.send(answer_to(await visit.expect(frames.Enter)))
                await visit.send(frames.Changed(7, change.request, "done", ""))  # too late
                await until(lambda: room._chat.machine.is_open)
                assert relay.attempts == 1

    run(main())


# --- what becomes of the list on a device ---


def test_a_copy_of_a_room_has_no_members_and_a_forgotten_one_leaves_none(tmp_path: Path) -> None:
    path = tmp_path / "a.db"

    async def main() -> None:
        async with running(tmp_path) as (url, _), collab.open(
            path, relay=url, settings=QUICK
        ) as opened:  # fmt: skip
            room = await opened.room("notes")
            room.text("body").insert(0, "hello")
            await room.wait_synced(20)
            await room.members.set("ben", "writer")
            fork = await room.fork("copy")
            await fork.wait_synced(20)
            assert (names(fork), names(room)) == ({}, {"ben": "writer"})
            await opened.forget("notes")
            assert everything(path)["members"] == []

    run(main())


def test_members_stay_when_refused_edits_are_given_up(tmp_path: Path) -> None:
    house = House()
    house.rights["ada", "notes"] = Access.READ

    async def main() -> None:
        async with running(
            tmp_path, authenticate=house.authenticate, authorize=house.authorize
        ) as (url, relay), client(url, "ada", tmp_path / "a.db") as room:  # fmt: skip
            await relay.room("notes").set_member("ada", "reader", by="shop")
            await until(lambda: names(room) == {"ada": "reader"})
            room.text("body").insert(0, "mine")
            await until(lambda: room.status.refused)
            again = await room.discard_refused()
            assert names(again) == {"ada": "reader"}
            await relay.room("notes").set_member("eve", "admin", by="shop")
            await until(lambda: names(again) == {"ada": "reader", "eve": "admin"})

    run(main())
