"""Whatever a relay sends, the client's process lives, and what is not concerned goes on."""

from __future__ import annotations

import pytest
from websockets.asyncio.server import ServerConnection, serve

import collab
from collab.protocol import frames
from collab.protocol.codec import encode
from tests.e2e.authors import Author, damaged
from tests.e2e.support import QUICK, ScriptedRelay, joined, reads, run, soon, until
from tests.e2e.test_causal_order import open_with

SICK, WELL = 7, 8


@pytest.mark.parametrize("name", damaged())
@pytest.mark.parametrize("kind", [frames.Updates, frames.Difference])
def test_a_damaged_update_stops_its_room_alone(
    name: str, kind: type[frames.Updates] | type[frames.Difference]
) -> None:
    async def main() -> None:
        async with (
            ScriptedRelay() as relay,
            collab.open(":memory:", relay=relay.url, settings=QUICK) as client,
        ):
            visit = await relay.welcomed()
            well = await client.room("well")
            await open_with(visit, well, channel=WELL)
            sick = await client.room("sick")
            await open_with(visit, sick, channel=SICK)
            failures: list[collab.CollabError] = []

            def take(event: collab.RoomEvent) -> None:
                if isinstance(event, collab.Failed):
                    failures.append(event.error)

            sick.observe(take)
            await visit.send(kind(SICK, 5, damaged()[name]))
            await until(lambda: failures)
            assert isinstance(sick.status.error, collab.BadUpdate)
            assert failures == [sick.status.error]
            with pytest.raises(collab.BadUpdate, match=r"'sick' was not let in: .*room\.fork"):
                await sick.wait_synced(20)
            assert (await visit.expect(frames.Leave)).channel == SICK
            # The room is stopped: what still comes for it changes nothing, and edits are kept.
            await visit.send(frames.Updates(SICK, 6, Author(3).insert(0, "late")))
            sick.text("body").insert(0, "mine")
            await sick.wait_saved()
            well.text("body").insert(0, "mine ")
            update = await visit.expect(frames.Update)
            assert update.channel == WELL
            await visit.send(
                frames.Updates(WELL, 6, Author(4).insert(0, "theirs")),
                frames.Ack(WELL, update.number, 6),
            )
            await soon(well.wait_synced())
            await until(lambda: "theirs" in str(well.text("body")))
            assert str(sick.text("body")) == "mine"
            assert well.status.error is None
            assert relay.attempts == 1

    run(main())


def test_a_damaged_joining_or_presence_stops_its_room_alone() -> None:
    async def main() -> None:
        async with (
            ScriptedRelay() as relay,
            collab.open(":memory:", relay=relay.url, settings=QUICK) as client,
        ):
            visit = await relay.welcomed()
            well = await client.room("well")
            await open_with(visit, well, channel=WELL)
            one = await client.room("one")
            request = await visit.expect(frames.Join)
            await visit.send(joined(request, channel=1, state_vector=b"\x09"))
            two = await client.room("two")
            await open_with(visit, two, channel=2)
            await visit.send(frames.Awareness(2, b"\x03\xff"))
            three = await client.room("three")
            await open_with(visit, three, channel=3)
            await visit.send(frames.Resync(3, b"\xff"))
            for room in (one, two, three):
                await until(lambda room=room: isinstance(room.status.error, collab.BadUpdate))  # type: ignore[misc]
            await visit.send(frames.Updates(WELL, 6, Author(4).insert(0, "theirs")))
            await reads(well, "theirs")
            assert relay.attempts == 1

    run(main())


@pytest.mark.parametrize(
    "greeting",
    [
        encode(frames.Welcome(frames.VERSION, b"w" * 16, b"r" * 16, b"g" * 16)),
        encode(frames.Pong(1)),
        b"\xc1",
        "<html>Welcome to our hotel</html>",
    ],
    ids=["wrong nonce", "no WELCOME", "garbage", "text"],
)
def test_nothing_goes_to_who_does_not_echo_the_nonce(greeting: bytes | str) -> None:
    async def main() -> None:
        async with (
            ScriptedRelay() as relay,
            collab.open(":memory:", relay=relay.url, settings=QUICK) as client,
        ):
            room = await client.room("notes")
            room.text("body").insert(0, "secret")
            await room.wait_saved()
            states: list[collab.ConnectionStatus] = []
            client.observe(states.append)
            for _ in range(3):
                visit = await relay.visit()
                await visit.expect(frames.Hello)
                await visit.socket.send(greeting)
                await visit.closed()
                assert visit.passed == []  # HELLO, and nothing after it
            assert {status.state for status in states} == {
                collab.State.CONNECTING,
                collab.State.PROBING,
                collab.State.OFFLINE,
            }
            assert room.status.pending_updates == 1
            # The real one comes back.
            visit = await relay.welcomed()
            await visit.expect(frames.Join)

    run(main())


def test_who_takes_the_websocket_and_not_the_protocol_is_told_nothing() -> None:
    told: list[object] = []

    async def take(socket: ServerConnection) -> None:
        async for message in socket:
            told.append(message)

    async def main() -> None:
        async with serve(take, "127.0.0.1", 0) as server:
            port = next(iter(server.sockets)).getsockname()[1]
            async with collab.open(
                ":memory:", relay=f"ws://127.0.0.1:{port}", token="secret", settings=QUICK
            ) as client:
                await until(lambda: client.connection.state is collab.State.CAPTIVE)  # type: ignore[union-attr]
        assert told == []

    run(main())


def test_a_malformed_frame_ends_the_connection_and_the_client_comes_back() -> None:
    async def main() -> None:
        async with (
            ScriptedRelay() as relay,
            collab.open(":memory:", relay=relay.url, settings=QUICK) as client,
        ):
            room = await client.room("notes")
            for data in (b"\xc1", encode(frames.Ping(1)), "text", encode(frames.Part(1, 9, b"x"))):
                visit = await relay.welcomed()
                await visit.expect(frames.Join)
                await visit.socket.send(data)
                await visit.closed()
            visit = await relay.welcomed()
            await open_with(visit, room, channel=SICK)
            assert room.status.synced

    run(main())


def test_a_relay_with_another_history_of_a_room_is_told_apart() -> None:
    async def main() -> None:
        async with (
            ScriptedRelay() as relay,
            collab.open(":memory:", relay=relay.url, settings=QUICK) as client,
        ):
            visit = await relay.welcomed()
            room = await client.room("notes")
            await open_with(visit, room, channel=SICK)
            room.text("body").insert(0, "ours")
            update = await visit.expect(frames.Update)
            await visit.send(frames.Ack(SICK, update.number, 1))
            await soon(room.wait_synced())
            await visit.socket.close()
            visit = await relay.welcomed()
            request = await visit.expect(frames.Join)
            stranger = Author(9)
            stranger.insert(0, "theirs")
            await visit.send(
                frames.Joined(
                    request.request, SICK, b"z" * 16, False, 3, stranger.document.get_state(), 2
                )
            )
            with pytest.raises(collab.RoomReplaced):
                await room.wait_synced(20)
            await visit.send(frames.Difference(SICK, 3, stranger.all()))
            room.text("body").insert(4, " and kept")
            await room.wait_saved()
            assert str(room.text("body")) == "ours and kept"
            assert isinstance(room.status.error, collab.RoomReplaced)
            other = await client.room("other")
            await open_with(visit, other, channel=WELL)
            assert not [f for f in visit.passed if isinstance(f, frames.Offer | frames.Update)]

    run(main())
