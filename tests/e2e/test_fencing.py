"""Of two connections of one device the newer one lives; a copied file becomes its own device."""

from __future__ import annotations

from pathlib import Path

import pytest

import collab
from collab import limits
from collab.protocol import frames
from collab.testing import FaultProxy, proxy
from collab_server.gateway.sync import SyncConnection
from tests.e2e.support import (
    QUICK,
    ScriptedRelay,
    run,
    running,
    scripted_client,
    socket_to,
    until,
)

DEVICE = b"0123456789abcdef"


def test_a_connection_with_a_higher_number_ends_the_lower_one(tmp_path: Path) -> None:
    async def main() -> None:
        async with (
            running(tmp_path) as (url, _),
            scripted_client(url, device=DEVICE, number=5) as first,
            scripted_client(url, device=DEVICE, number=6) as second,
        ):
            code, reason = await first.closed()
            assert (code, reason) == (frames.Close.FENCED, "this device has a newer connection")
            await second.send(frames.Ping(3))
            assert (await second.expect(frames.Pong)).number == 3

    run(main())


def test_a_connection_with_a_lower_or_equal_number_is_itself_ended(tmp_path: Path) -> None:
    async def main() -> None:
        async with (
            running(tmp_path) as (url, _),
            scripted_client(url, device=DEVICE, number=5) as first,
        ):
            for number in (4, 5):
                async with socket_to(url) as late:
                    await late.send(frames.Hello(1, bytes(16), DEVICE, number, None))
                    assert (await late.closed())[0] == frames.Close.FENCED
            await first.send(frames.Ping(3))
            assert (await first.expect(frames.Pong)).number == 3

    run(main())


def test_devices_do_not_fence_each_other_and_a_freed_place_is_free(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path) as (url, relay):
            async with (
                scripted_client(url, device=DEVICE, number=9) as first,
                scripted_client(url, device=b"f" * 16, number=1) as other,
            ):
                for speaker in (first, other):
                    await speaker.send(frames.Ping(3))
                    await speaker.expect(frames.Pong)
            shared = relay._shared
            assert shared is not None
            await until(lambda: not shared.connections)
            async with scripted_client(url, device=DEVICE, number=1) as later:
                await later.send(frames.Ping(3))
                await later.expect(frames.Pong)

    run(main())


def watch(room: collab.Room) -> list[collab.RoomEvent]:
    """Every event of these kinds from now on."""
    kinds = (collab.StoreRolledBack, collab.Failed)
    seen: list[collab.RoomEvent] = []
    room.observe(lambda event: seen.append(event) if isinstance(event, kinds) else None)
    return seen


def test_a_client_that_is_fenced_takes_another_device_id_and_comes_back(tmp_path: Path) -> None:
    async def main() -> None:
        async with (
            running(tmp_path / "relay") as (url, _),
            collab.open(tmp_path / "a.db", relay=url, settings=QUICK) as client,
        ):
            rooms = [await client.room(name) for name in ("notes", "plan")]
            for room in rooms:
                await room.wait_synced(20)
            events = [watch(room) for room in rooms]
            device = await client._identity.device_id()
            async with scripted_client(url, device=device, number=2**62) as copy:
                await until(lambda: all(events))
                rooms[0].text("body").insert(0, "goes on")
                await rooms[0].wait_synced(20)
                await copy.send(frames.Ping(3))  # and nobody fences the other copy
                assert (await copy.expect(frames.Pong)).number == 3
            assert [[type(event) for event in each] for each in events] == [
                [collab.StoreRolledBack]
            ] * 2
            event = events[0][0]
            assert isinstance(event, collab.StoreRolledBack)
            assert "Another copy of this device's file is in use" in event.reason
            renewed = await client._identity.device_id()
            assert renewed != device
        async with collab.open(tmp_path / "a.db") as client:
            assert await client._identity.device_id() == renewed

    run(main())


def test_a_client_whose_first_attempt_is_fenced_takes_another_device_id(tmp_path: Path) -> None:
    """The copy is connected, and its clock is ahead of ours."""

    async def main() -> None:
        path = tmp_path / "a.db"
        async with collab.open(path) as client:
            device = await client._identity.device_id()
        async with (
            running(tmp_path / "relay") as (url, _),
            scripted_client(url, device=device, number=2**62) as copy,
            proxy(url) as wire,
        ):
            wire.refusing = True  # until somebody watches
            async with collab.open(path, relay=wire.url, settings=QUICK) as client:
                room = await client.room("notes")
                events = watch(room)
                wire.refusing = False
                await room.wait_synced(20)
                assert await client._identity.device_id() != device
                assert [type(event) for event in events] == [collab.StoreRolledBack]
                await copy.send(frames.Ping(3))
                await copy.expect(frames.Pong)

    run(main())


def test_our_own_half_open_socket_that_we_fence_is_no_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = collab.ClientSettings(
        connection=collab.ConnectionSettings(
            ping_s=0.1, silence_s=0.1, backoff=QUICK.connection.backoff
        )
    )

    async def main() -> None:
        async with (
            running(tmp_path) as (url, relay),
            FaultProxy(url) as network,
            collab.open(":memory:", relay=network.url, settings=quick) as client,
        ):
            room = await client.room("notes")
            await room.wait_synced(20)
            events, device = watch(room), await client._identity.device_id()
            shared = relay._shared
            assert shared is not None
            [half_open] = shared.connections
            assert isinstance(half_open, SyncConnection)
            closes: list[int] = []
            monkeypatch.setattr(half_open, "close", lambda code, _reason: closes.append(code))
            network.freeze()  # this socket alone, and neither end learns of it
            await until(lambda: closes)
            assert closes == [frames.Close.FENCED]
            room.text("body").insert(0, "x")
            await room.wait_synced(20)
            network.thaw()  # and all that was held up arrives
            SyncConnection.close(half_open, closes[0], "this device has a newer connection")
            await until(lambda: half_open not in shared.connections)
            room.text("body").insert(0, "y")
            await room.wait_synced(20)
            assert events == []
            assert await client._identity.device_id() == device

    run(main())


def test_two_programs_that_fence_without_end_are_stopped(tmp_path: Path) -> None:
    """No copy of a file does this: it is a fault of the relay, or of another program."""

    async def main() -> None:
        async with (
            ScriptedRelay() as relay,
            collab.open(tmp_path / "a.db", relay=relay.url, settings=QUICK) as client,
        ):
            room = await client.room("notes")
            events, devices = watch(room), set[bytes]()
            for _ in range(limits.MAX_NEW_DEVICE_IDS_AN_HOUR + 1):
                visit = await relay.visit()
                devices.add((await visit.expect(frames.Hello)).device)
                await visit.socket.close(frames.Close.FENCED, "this device has a newer connection")
            await until(lambda: client.connection.state is collab.State.FAILED)  # type: ignore[union-attr]
            assert len(devices) == len(events) + 1 == limits.MAX_NEW_DEVICE_IDS_AN_HOUR + 1
            assert client.connection is not None
            assert client.connection.next_attempt is None
            assert "newer connection" in client.connection.reason
            with pytest.raises(collab.Rejected, match=r"client\.connect") as rejected:
                await room.wait_synced(20)
            assert rejected.value.code == "fenced"
            client.connect()  # the user's act
            await relay.welcomed()

    run(main())


def test_a_device_id_that_the_disk_does_not_take_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with (
            ScriptedRelay() as relay,
            collab.open(tmp_path / "a.db", relay=relay.url, settings=QUICK) as client,
        ):
            room = await client.room("notes")
            events = watch(room)
            visit = await relay.visit()
            device = (await visit.expect(frames.Hello)).device
            renew, refusals = client._identity.renew, list[bytes]()

            async def refuse(device_id: bytes) -> None:
                refusals.append(device_id)
                if len(refusals) > 2:
                    await renew(device_id)
                    return
                raise collab.DiskFull("full")

            monkeypatch.setattr(client._identity, "renew", refuse)
            await visit.socket.close(frames.Close.FENCED, "")
            again = await relay.visit()
            used = (await again.expect(frames.Hello)).device
            assert used == refusals[-1] == await client._identity.device_id()
            assert used != device
            assert len(refusals) == 3
            assert len(events) == 1

    run(main())
