"""What a program does wrong with a chat raises by name, and the outbox is as it was."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import pytest

import collab
import collab.testing
from collab import limits
from collab.protocol.frames import Access
from collab_server.auth import User
from tests.e2e.chat_support import bodies, history, logged, stored
from tests.e2e.support import QUICK, run, running

ID = uuid.UUID(int=7)


def nested(depth: int) -> Any:
    """Lists in lists."""
    value: Any = []
    for _ in range(depth):
        value = [value]
    return value


MISUSES: dict[str, tuple[type[Exception], dict[str, Any], str]] = {
    "a body that is too large": (
        collab.TooLarge, {"body": "x" * (limits.MAX_BODY_BYTES + 1)}, "at most 32768",
    ),
    "a body whose bytes are too many": (
        collab.TooLarge, {"body": "你" * 11_000}, "33000 bytes",
    ),
    "a body that is no string": (collab.BadMessage, {"body": b"hello"}, "not bytes"),
    "no body": (collab.BadMessage, {"body": None}, "NoneType"),
    "half of an emoji": (collab.BadMessage, {"body": "\ud83d"}, "surrogate"),
    "meta that msgpack cannot carry": (collab.BadMessage, {"meta": {"a": object()}}, "msgpack"),
    "a set in meta": (collab.BadMessage, {"meta": {"a": {1}}}, "msgpack"),
    "a number that is too large": (collab.BadMessage, {"meta": {"a": 2**64}}, "msgpack"),
    "half of an emoji in meta": (collab.BadMessage, {"meta": {"a": "\ud83d"}}, "msgpack"),
    "meta that is too deep": (collab.BadMessage, {"meta": {"a": nested(2_000)}}, "msgpack"),
    "meta that could not be read": (collab.BadMessage, {"meta": {"a": nested(1_023)}}, "deeply"),
    "meta with keys that are no strings": (collab.BadMessage, {"meta": {1: 2}}, "keys"),
    "meta that is no mapping": (collab.BadMessage, {"meta": ["a"]}, "mapping"),
    "meta that is too large": (collab.TooLarge, {"meta": {"a": "x" * 8_200}}, "8192"),
    "a negative ttl": (collab.BadMessage, {"ttl": -1}, "-1 is neither"),
    "a negative timedelta": (collab.BadMessage, {"ttl": timedelta(seconds=-1)}, "neither"),
    "a ttl that is no number": (collab.BadMessage, {"ttl": float("nan")}, "nan"),
    "an endless ttl": (collab.BadMessage, {"ttl": float("inf")}, "ttl=None"),
    "a ttl that is a word": (collab.BadMessage, {"ttl": "soon"}, "soon"),
    "a ttl of a century": (collab.BadMessage, {"ttl": 4e9}, "ten years"),
    "an id that is none": (collab.BadMessage, {"id": "seven"}, "UUID"),
    "an id of the wrong type": (collab.BadMessage, {"id": 7}, "UUID"),
    "another body under the same id": (collab.IdConflict, {"id": ID, "body": "other"}, "Another"),
    "another meta under the same id": (collab.IdConflict, {"id": ID, "meta": {"a": 1}}, "Another"),
    "a message that must go now": (collab.OfflineError, {"ttl": 0}, "now or never"),
    "the same as a timedelta": (collab.OfflineError, {"ttl": timedelta(0)}, "now or never"),
    "the same id with a question": (collab.IdConflict, {"id": ID, "confirm": True}, "confirmed"),
}  # fmt: skip


@pytest.mark.parametrize("name", MISUSES)
def test_a_misuse_raises_by_name_and_stores_nothing(tmp_path: Path, name: str) -> None:
    error, arguments, says = MISUSES[name]

    async def main() -> None:
        path = tmp_path / "a.db"
        async with collab.open(path) as client:
            room = await client.room("notes")
            await room.chat.send("hello", id=ID)
            before = stored(path)
            with pytest.raises(error, match=says) as caught:
                await room.chat.send(**{"body": "hello", **arguments})
            assert isinstance(caught.value, collab.CollabError)
            assert issubclass(error, ValueError) == (error in (collab.BadMessage, collab.TooLarge))
            assert stored(path) == before
            assert room.status.pending_messages == 1
            await room.chat.send("and on")
            assert await history(room) == ["hello", "and on"]

    run(main())


NOT_NOW = {name: misuse for name, misuse in MISUSES.items() if misuse[0] is not collab.OfflineError}


@pytest.mark.parametrize("name", NOT_NOW)
def test_a_misuse_while_connected_changes_neither_the_outbox_nor_the_log(
    tmp_path: Path, name: str
) -> None:
    error, arguments, says = NOT_NOW[name]

    async def main() -> None:
        path = tmp_path / "a.db"
        async with (
            collab.testing.relay(tmp_path / "relay") as relay,
            collab.open(path, relay=relay.url, settings=QUICK) as client,
        ):
            room = await client.room("notes")
            await room.chat.send("hello", id=ID)
            await room.wait_synced(20)
            before = stored(path), logged(tmp_path / "relay")
            with pytest.raises(error, match=says):
                await room.chat.send(**{"body": "hello", **arguments})
            await room.wait_synced(20)
            assert (stored(path), logged(tmp_path / "relay")) == before
            await (await room.chat.send("and on")).wait("accepted", 20)
            assert [row[:3] for row in logged(tmp_path / "relay")["messages"]] == [
                (1, 1, ID.bytes), (1, 2, ANY),
            ]  # fmt: skip

    run(main())


def test_without_the_right_to_write_a_message_comes_back_and_the_log_is_as_it_was(
    tmp_path: Path,
) -> None:
    access = Access.WRITE

    async def authenticate(token: str | None, _request: object) -> User | None:
        return User(token or "")

    async def authorize(_user: User, _room: str) -> Access:
        return access

    async def main() -> None:
        nonlocal access
        path = tmp_path / "a.db"
        async with running(tmp_path / "relay", authenticate=authenticate, authorize=authorize) as (
            url,
            _,
        ):
            async with collab.open(path, relay=url, token="ada", settings=QUICK) as client:
                room = await client.room("notes")
                await room.chat.send("hello")
                await room.wait_synced(20)
            before = stored(path), logged(tmp_path / "relay")["messages"]
            access = Access.READ
            async with collab.open(path, relay=url, token="ada", settings=QUICK) as client:
                room = await client.room("notes")
                message = await room.chat.send("may I?")
                with pytest.raises(collab.Rejected) as caught:
                    await message.wait("accepted", 20)
                assert caught.value.code == "forbidden"
                assert (message.state, message.body, message.seq) == ("rejected", "may I?", None)
                assert room.status.pending_messages == 0
            assert stored(path)[:-1] == before[0]
            assert len(stored(path)) == 2
            assert logged(tmp_path / "relay")["messages"] == before[1]

    run(main())


def test_the_same_id_with_other_bytes_on_another_device_comes_back_and_the_log_is_as_it_was(
    tmp_path: Path,
) -> None:
    async def authenticate(_token: str | None, _request: object) -> User | None:
        return User("ada")

    async def authorize(_user: User, _room: str) -> Access:
        return Access.WRITE

    async def main() -> None:
        one, two = tmp_path / "one.db", tmp_path / "two.db"
        async with running(tmp_path / "relay", authenticate=authenticate, authorize=authorize) as (
            url,
            _,
        ):
            async with collab.open(two) as client:
                await (await client.room("notes")).chat.send("other bytes", id=ID)
            async with collab.open(one, relay=url, token="-", settings=QUICK) as client:
                room = await client.room("notes")
                await room.chat.send("hello", id=ID)
                await room.wait_synced(20)
            before = logged(tmp_path / "relay")["messages"]
            async with collab.open(two, relay=url, token="-", settings=QUICK) as client:
                room = await client.room("notes")
                await room.wait_synced(20)
                found = [(it.body, it.state, it.code) for it in await room.chat.history()]
                assert sorted(found) == [
                    ("hello", "accepted", ""), ("other bytes", "rejected", "conflict"),
                ]  # fmt: skip
            assert logged(tmp_path / "relay")["messages"] == before

    run(main())


def test_what_fits_exactly_is_taken(tmp_path: Path) -> None:
    async def main() -> None:
        async with collab.open(tmp_path / "a.db") as client:
            room = await client.room("notes")
            meta = {"a": "x" * (limits.MAX_META_BYTES - 6)}
            largest = await room.chat.send("x" * limits.MAX_BODY_BYTES, meta=meta)
            assert largest.meta == meta
            empty = await room.chat.send("", meta={})
            assert (empty.body, empty.meta) == ("", {})
            await room.chat.send("for ever", ttl=None)
            await room.chat.send("briefly", ttl=1e-9)

    run(main())


def test_the_same_message_again_is_the_same_object(tmp_path: Path) -> None:
    async def main() -> None:
        async with collab.open(tmp_path / "a.db") as client:
            room = await client.room("notes")
            first = await room.chat.send("hello", id=ID, meta={"a": 1})
            assert await room.chat.send("hello", id=str(ID), meta={"a": 1}) is first
            assert first.id == ID
            assert len(stored(tmp_path / "a.db")) == 1
            other = await client.room("other")
            assert (await other.chat.send("another room", id=ID)).id == ID

    run(main())


def test_a_full_outbox_raises_in_send_and_what_was_queued_stays(tmp_path: Path) -> None:
    settings = collab.ClientSettings(outbox=collab.OutboxCaps(messages=3))

    async def main() -> None:
        path = tmp_path / "a.db"
        async with collab.open(path, settings=settings) as client:
            room, other = await client.room("notes"), await client.room("other")
            first = await room.chat.send("1")
            await room.chat.send("2")
            await other.chat.send("3")
            before = stored(path)
            for target in (room, other):
                with pytest.raises(collab.OutboxFull, match="3 messages"):
                    await target.chat.send("4")
            assert stored(path) == before
            await room.chat.cancel(first)
            await room.chat.send("4")
            assert await history(room) == ["1", "2", "4"]

    run(main())


def test_a_message_of_another_room_or_of_a_closed_one_is_refused(tmp_path: Path) -> None:
    async def main() -> None:
        async with collab.open(tmp_path / "a.db") as client:
            room, other = await client.room("notes"), await client.room("other")
            message = await room.chat.send("hello")
            acts: list[Callable[[collab.Room], Awaitable[None]]] = [
                lambda target: target.chat.cancel(message),
                lambda target: target.chat.edit(message, "bye"),
                lambda target: target.chat.retry(message),
            ]
            for act in acts:
                with pytest.raises(collab.WrongState, match="not of this room"):
                    await act(other)
            with pytest.raises(collab.WrongState, match="stalled"):
                await room.chat.retry(message)
            await room.close()
            for act in acts:
                with pytest.raises(collab.Closed):
                    await act(room)
            room = await client.room("notes")
            for act in acts:
                with pytest.raises(collab.WrongState, match="not of this room"):
                    await act(room)
            assert await history(room) == ["hello"]

    run(main())


@pytest.mark.parametrize("body", ["x" * (limits.MAX_BODY_BYTES + 1), b"bytes", "\udc00"])
def test_an_edit_that_no_message_can_carry_changes_nothing(tmp_path: Path, body: Any) -> None:
    async def main() -> None:
        async with collab.open(tmp_path / "a.db") as client:
            room = await client.room("notes")
            message = await room.chat.send("hello")
            before = stored(tmp_path / "a.db")
            with pytest.raises(ValueError):  # noqa: PT011 - both of ours are one
                await room.chat.edit(message, body)
            assert stored(tmp_path / "a.db") == before
            assert message.body == "hello"

    run(main())


@pytest.mark.parametrize(
    "arguments",
    [
        {"limit": 0},
        {"limit": True},
        {"limit": "9"},
        {"before": -1},
        {"after": 1.5},
        {"before": "1"},
    ],
    ids=str,
)
def test_a_stretch_of_history_that_is_none_is_refused(
    tmp_path: Path, arguments: dict[str, Any]
) -> None:
    async def main() -> None:
        async with collab.open(tmp_path / "a.db") as client:
            room = await client.room("notes")
            with pytest.raises(collab.LocalError):
                await room.chat.history(**arguments)

    run(main())


def test_a_closed_room_says_so(tmp_path: Path) -> None:
    async def main() -> None:
        async with collab.open(tmp_path / "a.db", settings=QUICK) as client:
            room = await client.room("notes")
            chat = room.chat
            message = await chat.send("hello")
            await room.close()
            for act in (chat.send("x"), chat.history(), chat.mark_read()):
                with pytest.raises(collab.Closed):
                    await act
            with pytest.raises(collab.Closed):
                chat.observe(print)
            with pytest.raises(collab.Closed):
                await message.wait("accepted")
            assert message.body == "hello"

    run(main())


def test_a_room_that_is_forgotten_is_forgotten_with_its_messages(tmp_path: Path) -> None:
    async def main() -> None:
        path = tmp_path / "a.db"
        async with collab.open(path) as client:
            room, other = await client.room("notes"), await client.room("other")
            await room.chat.send("gone")
            await other.chat.send("kept")
            await client.forget("notes")
            assert [row for row in stored(path) if "gone" in row] == []
            again = await client.room("notes")
            assert bodies(await again.chat.history()) == []
            await again.chat.send("new")
            assert (await history(again), await history(other)) == (["new"], ["kept"])

    run(main())


def test_the_chat_is_of_the_thread_of_its_loop(tmp_path: Path) -> None:
    import asyncio

    async def main() -> None:
        async with collab.open(tmp_path / "a.db") as client:
            room = await client.room("notes")

            def elsewhere() -> None:
                with pytest.raises(collab.WrongThread):
                    _ = room.chat.unread
                with pytest.raises(collab.WrongThread):
                    asyncio.run(room.chat.send("x"))

            await asyncio.to_thread(elsewhere)
            assert await history(room) == []

    run(main())
