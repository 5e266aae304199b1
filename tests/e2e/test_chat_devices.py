"""Real relays and real devices: offline and on, restarted, copied, put back. Once, and in order."""

from __future__ import annotations

import asyncio
import random
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

import collab
import collab.testing
from tests.e2e.chat_support import history, shows, watch
from tests.e2e.support import QUICK, Wire, run, running, until


@asynccontextmanager
async def opened(
    path: Path | str, url: str | None, room: str = "notes"
) -> AsyncIterator[tuple[collab.Client, collab.Room]]:
    """A client on a file, and its room."""
    async with collab.open(path, relay=url, settings=QUICK) as client:
        yield client, await client.room(room)


async def agree(*rooms: collab.Room) -> list[str]:
    """What all rooms show once they show the same, and nothing waits."""
    for room in rooms:
        await room.wait_synced(20)
    shown: list[list[str]] = []
    for _ in range(2_000):
        shown = [await history(room) for room in rooms]
        if all(one == shown[0] for one in shown):
            return shown[0]
        await asyncio.sleep(0.005)
    raise AssertionError(f"they never agreed: {shown}")


def test_two_devices_send_in_turns_of_offline_and_online_and_each_sees_all_once_in_order(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        async with (
            collab.testing.relay(tmp_path / "relay") as relay,
            opened(tmp_path / "a.db", relay.url) as (_, ada),
            opened(tmp_path / "b.db", relay.url) as (_, ben),
        ):
            number = 0
            for _ in range(4):
                async with relay.offline():
                    for room, name in ((ada, "ada"), (ben, "ben")) * 5:
                        await room.chat.send(f"{name} {number}")
                        number += 1
                for room, name in ((ada, "ada"), (ben, "ben")) * 5:
                    await room.chat.send(f"{name} {number}")
                    number += 1
            shown = await agree(ada, ben)
            assert len(shown) == len(set(shown)) == number == 80
            for name, first in (("ada", 0), ("ben", 1)):
                mine = [body for body in shown if body.startswith(name)]
                assert mine == [f"{name} {n}" for n in range(first, number, 2)]
            found = await ada.chat.history(100)
            assert [message.seq for message in found] == [*range(1, 81)]

    run(main())


def test_messages_and_edits_of_one_device_go_over_one_socket_and_both_are_waited_for(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        async with (
            collab.testing.relay(tmp_path / "relay") as relay,
            opened(tmp_path / "a.db", relay.url) as (_, ada),
            opened(tmp_path / "b.db", relay.url) as (_, ben),
        ):
            async with relay.offline():
                ada.text("body").insert(0, "edit")
                message = await ada.chat.send("message")
                assert not ada.status.synced
            await ada.wait_synced(20)
            assert message.state in ("accepted", "delivered")
            assert (ada.status.pending_messages, ada.status.pending_updates) == (0, 0)
            assert ada.status.synced
            await shows(ben, "message")
            await until(lambda: str(ben.text("body")) == "edit")

    run(main())


def test_what_was_on_its_way_when_the_program_ended_arrives_after_the_next_start(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        path = tmp_path / "a.db"
        async with running(tmp_path / "relay") as (url, _), Wire(url) as wire:
            expected = []
            for start in range(6):
                async with opened(path, wire.url) as (_, room):
                    for number in range(8):
                        expected.append(f"{start}.{number}")
                        await room.chat.send(expected[-1])
                    if start % 2:
                        await wire.cut()
            async with opened(path, wire.url) as (_, room), opened(":memory:", url) as (_, other):
                assert await agree(room, other) == expected

    run(main())


def test_receipts_and_unread_go_between_real_devices(tmp_path: Path) -> None:
    async def main() -> None:
        async with (
            running(tmp_path / "relay") as (url, _),
            opened(tmp_path / "a.db", url) as (_, ada),
            opened(tmp_path / "b.db", url) as (_, ben),
        ):
            message = await ada.chat.send("hello")
            await message.wait("delivered", 20)
            await until(lambda: ben.chat.unread == 1)
            [got] = await ben.chat.history()
            assert got.sender == message.sender is not None
            await ben.chat.mark_read()
            await message.wait("read", 20)
            assert (message.delivered_by, message.read_by) == (1, 1)
            assert (ada.chat.unread, ben.chat.unread) == (0, 0)

    run(main())


# A file that is copied, or put back


def copy(source: Path, target: Path) -> None:
    """The file of a client that was closed."""
    assert not source.with_name(source.name + "-wal").exists()
    shutil.copy(source, target)


def test_a_copied_file_and_its_original_both_send_and_nothing_doubles_or_is_lost(
    tmp_path: Path,
) -> None:
    one, two = tmp_path / "one.db", tmp_path / "two.db"

    async def main() -> None:
        async with running(tmp_path / "relay") as (url, _):
            async with opened(one, url) as (_, room):
                await room.chat.send("both")
                await room.wait_synced(20)
            async with opened(one, None) as (_, room):  # undecided when it is copied
                await room.chat.send("waits in both")
            copy(one, two)
            sent = ["both", "waits in both"]
            for turn in range(3):
                for path in (one, two):
                    async with opened(path, url) as (_, room):
                        seen = watch(room)
                        sent.append(f"{path.stem} {turn}")
                        await room.chat.send(sent[-1])
                        await room.wait_synced(20)
                        if (path, turn) == (two, 0):
                            await seen.saw(collab.StoreRolledBack)
                        elif path == one:
                            assert not seen.of(collab.StoreRolledBack)
            async with opened(":memory:", url) as (_, fresh):
                await fresh.wait_synced(20)
                assert await history(fresh) == sent
            for path in (one, two):
                async with opened(path, url) as (_, room):
                    await room.wait_synced(20)
                    await shows(room, *sent)

    run(main())


def test_a_file_that_is_put_back_sends_what_it_has_once_and_learns_what_it_forgot(
    tmp_path: Path,
) -> None:
    path, backup = tmp_path / "a.db", tmp_path / "backup.db"

    async def main() -> None:
        async with running(tmp_path / "relay") as (url, _):
            async with opened(path, url) as (_, room):
                await room.chat.send("1")
                await room.wait_synced(20)
            async with opened(path, None) as (_, room):
                await room.chat.send("2")
                await room.chat.send("3")
            copy(path, backup)
            async with opened(path, url) as (_, room):
                await room.chat.send("4")
                await room.wait_synced(20)
            async with opened(backup, url) as (_, room):
                seen = watch(room)
                await room.chat.send("5")
                await seen.saw(collab.StoreRolledBack)
                await room.wait_synced(20)
                await shows(room, "1", "2", "3", "4", "5")
                assert len(seen.of(collab.StoreRolledBack)) == 1
            async with opened(backup, url) as (_, room):  # the new lane is its own from now on
                seen = watch(room)
                await room.chat.send("6")
                await room.wait_synced(20)
                assert not seen.of(collab.StoreRolledBack)
                await shows(room, "1", "2", "3", "4", "5", "6")

    run(main())


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_files_that_are_copied_and_put_back_at_random_lose_and_double_nothing(
    tmp_path: Path, seed: int
) -> None:
    dice = random.Random(seed)
    files = [tmp_path / f"{n}.db" for n in range(3)]
    sent: set[str] = set()

    async def main() -> None:
        async with running(tmp_path / "relay") as (url, _), Wire(url) as wire:
            async with opened(files[0], None) as (_, room):
                await room.chat.send("start")
                sent.add("start")
            for path in files[1:]:
                copy(files[0], path)
            for step in range(15):
                path = dice.choice(files)
                async with opened(path, wire.url if dice.random() < 0.8 else None) as (_, room):
                    for number in range(dice.randrange(5)):
                        body = f"{path.stem} {step}.{number}"
                        await room.chat.send(body)
                        sent.add(body)
                    await asyncio.sleep(dice.uniform(0, 0.03))
                    if dice.random() < 0.3:
                        await wire.cut()
                if dice.random() < 0.3:
                    # The messages that were only in the file that is overwritten are gone with it.
                    target = dice.choice([other for other in files if other != path])
                    async with opened(target, url) as (_, room):
                        await room.wait_synced(20)
                    copy(path, target)
            for path in files:
                async with opened(path, url) as (_, room):
                    await room.wait_synced(20)
            async with opened(":memory:", url) as (_, fresh):
                await fresh.wait_synced(20)
                shown = await history(fresh)
                assert len(shown) == len(set(shown)), f"seed {seed}"
                assert set(shown) == sent, f"seed {seed}"
                for path in files:
                    async with opened(path, url) as (_, room):
                        await shows(room, *shown)

    run(main())


# A relay that is put back


def test_a_relay_that_is_put_back_gets_what_its_senders_have(tmp_path: Path) -> None:
    data, backup = tmp_path / "relay", tmp_path / "backup"

    async def main() -> None:
        async with (
            Wire("") as wire,
            opened(tmp_path / "a.db", wire.url) as (_, ada),
            opened(tmp_path / "b.db", wire.url) as (_, ben),
        ):
            async with running(data) as (url, _):
                wire.target = url
                await ada.chat.send("before, by ada")
                await ben.chat.send("before, by ben")
                await agree(ada, ben)
            shutil.copytree(data, backup)
            async with running(data) as (url, _):
                wire.target = url
                for number in range(3):
                    await ada.chat.send(f"lost {number}, by ada")
                await agree(ada, ben)
                await ben.chat.send("lost 3, by ben")
                shown = await agree(ada, ben)
                assert len(shown) == 6
            seen = watch(ada)
            wire.target = ""
            async with running(backup) as (url, _):
                async with opened(tmp_path / "c.db", url) as (_, cas):
                    await cas.chat.send("in between, by cas")
                    await cas.wait_synced(20)
                    wire.target = url
                    event = await seen.saw(collab.MessagesReplaced)
                    assert isinstance(event.error, collab.HistoryReplaced)
                    assert event.resent >= 1
                    together = await agree(ada, ben, cas)
                    assert len(together) == len(set(together)) == 7
                    assert set(together) == {*shown, "in between, by cas"}
                    by_ada = [body for body in together if body.endswith("by ada")]
                    assert by_ada == ["before, by ada"] + [f"lost {n}, by ada" for n in range(3)]
                assert ada.status.gaps == ()

    run(main())


def test_what_only_others_sent_and_a_backup_lacks_is_kept_here_and_marked(tmp_path: Path) -> None:
    data, backup = tmp_path / "relay", tmp_path / "backup"

    async def main() -> None:
        async with running(data) as (url, _), opened(tmp_path / "a.db", url) as (_, ada):
            await ada.chat.send("before")
            await ada.wait_synced(20)
        shutil.copytree(data, backup)
        async with running(data) as (url, _):
            async with opened(tmp_path / "b.db", url) as (_, ben):
                await ben.chat.send("of somebody who never comes back")
                await ben.wait_synced(20)
            async with opened(tmp_path / "a.db", url) as (_, ada):
                await ada.wait_synced(20)
                assert len(await history(ada)) == 2
        async with running(backup) as (url, _), opened(tmp_path / "a.db", url) as (_, ada):
            seen = watch(ada)
            event = await seen.saw(collab.MessagesReplaced)
            assert (event.resent, event.kept) == (1, 1)
            await ada.wait_synced(20)
            found = await ada.chat.history()
            assert [(message.body, message.replaced) for message in found] == [
                ("before", False), ("of somebody who never comes back", True),
            ]  # fmt: skip
            await ada.chat.send("on")
            await ada.wait_synced(20)
            assert set(await history(ada)) == {
                "before", "of somebody who never comes back", "on",
            }  # fmt: skip

    run(main())


# The rest of the room


def test_a_chat_goes_on_while_a_huge_document_goes_up(tmp_path: Path) -> None:
    async def main() -> None:
        async with (
            running(tmp_path / "relay") as (url, _),
            Wire(url) as wire,
            opened(tmp_path / "b.db", url) as (_, ben),
        ):
            await ben.wait_synced(20)
            async with opened(tmp_path / "a.db", wire.url) as (_, ada):
                await ada.wait_synced(20)
                wire.up_limit = wire.up + 500_000
                ada.text("body").insert(0, "x" * 8_000_000)
                await ada.wait_saved()
                await until(lambda: wire.up >= wire.up_limit)  # the line is full of the document
                message = await ada.chat.send("meanwhile")
                while message.state in ("queued", "sending"):
                    wire.up_limit = wire.up + 50_000
                    await asyncio.sleep(0.005)
                assert wire.up < 6_000_000  # what was in the buffers is before it, no more
                await shows(ben, "meanwhile")
                assert ada.status.pending_updates
                assert str(ben.text("body")) == ""
                wire.up_limit = 1 << 62
                await ada.wait_synced(60)

    run(main())


def test_the_chat_outlives_a_right_that_is_withdrawn_and_given_again(tmp_path: Path) -> None:
    """LEFT and a new connection: what waited goes up when the room is open again."""
    from collab.protocol.frames import Access
    from collab_server.auth import User

    access = Access.WRITE

    async def authenticate(token: str | None, _request: object) -> User | None:
        return User(token or "")

    async def authorize(_user: User, _room: str) -> Access:
        return access

    async def main() -> None:
        nonlocal access
        async with running(
            tmp_path / "relay",
            authenticate=authenticate, authorize=authorize, recheck_rights_s=0.05,
        ) as (url, _), collab.open(
            tmp_path / "a.db", relay=url, token="ada", settings=QUICK
        ) as client:  # fmt: skip
            room = await client.room("notes")
            first = await room.chat.send("first")
            await first.wait("accepted", 20)
            assert first.sender == "ada"
            access = Access.NONE
            await until(lambda: room.status.error is not None)
            waits = await room.chat.send("waits")
            with pytest.raises(collab.OfflineError):
                await room.chat.send("now", ttl=0)
            assert waits.state == "queued"
            access = Access.WRITE
            await room.close()
            room = await client.room("notes")
            await room.wait_synced(20)
            assert await history(room) == ["first", "waits"]

    run(main())
