"""Of two connections of one device the newer one lives."""

from __future__ import annotations

from pathlib import Path

import collab
from collab.protocol import frames
from tests.e2e.support import QUICK, run, running, scripted_client, socket_to, until

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


def test_a_client_that_was_fenced_says_so_and_does_not_come_back_by_itself(tmp_path: Path) -> None:
    async def main() -> None:
        async with (
            running(tmp_path) as (url, relay),
            collab.open(":memory:", relay=url, settings=QUICK) as client,
        ):
            room = await client.room("notes")
            await room.wait_synced(20)
            device = await client._documents.device_id()
            async with scripted_client(url, device=device, number=2**62):
                await until(lambda: client.connection.state is collab.State.FAILED)  # type: ignore[union-attr]
                assert client.connection is not None
                assert client.connection.next_attempt is None
                assert "newer connection" in client.connection.reason
            shared = relay._shared
            assert shared is not None
            await until(lambda: not shared.connections)
            client.connect()  # the user's act
            room.text("body").insert(0, "back")
            await room.wait_synced(20)

    run(main())
