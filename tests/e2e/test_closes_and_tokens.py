"""What a relay's goodbye means: come back, come back with another token, or do not come back."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import pytest

import collab
from collab.protocol import frames
from collab.protocol.backoff import BackoffSettings
from collab.protocol.frames import Close
from tests.e2e.support import QUICK, ScriptedRelay, run, running, until
from tests.e2e.test_rights import House

TRANSIENT = [1000, 1001, Close.INTERNAL, Close.RESTART, Close.OVERLOADED, 4508, 4509, 4599]
PERMANENT = [Close.BAD_FRAME, Close.FORBIDDEN, Close.UNSUPPORTED_VERSION, Close.BAD_UPDATE, 4499]


def state(client: collab.Client) -> collab.State:
    assert client.connection is not None
    return client.connection.state


@pytest.mark.parametrize("code", TRANSIENT)
@pytest.mark.parametrize("when", ["before WELCOME", "live"])
def test_after_a_transient_close_it_comes_back_by_itself(code: int, when: str) -> None:
    async def main() -> None:
        async with (
            ScriptedRelay() as relay,
            collab.open(":memory:", relay=relay.url, settings=QUICK) as client,
        ):
            visit = await (relay.welcomed() if when == "live" else relay.visit())
            await visit.socket.close(code, "for a while")
            await relay.welcomed()
            await until(lambda: state(client) is collab.State.LIVE)
            assert relay.probes == (when != "live")  # only a failed attempt is a reason to ask

    run(main())


@pytest.mark.parametrize("code", PERMANENT)
@pytest.mark.parametrize("when", ["before WELCOME", "live"])
def test_after_a_permanent_close_it_waits_for_somebody_to_act(code: int, when: str) -> None:
    async def main() -> None:
        async with (
            ScriptedRelay() as relay,
            collab.open(":memory:", relay=relay.url, settings=QUICK) as client,
        ):
            room = await client.room("notes")
            visit = await (relay.welcomed() if when == "live" else relay.visit())
            await visit.socket.close(code, "this is why")
            await until(lambda: state(client) is collab.State.FAILED)
            assert client.connection is not None
            assert "This is why." in client.connection.reason
            assert "Everything is kept on this device" in client.connection.reason
            assert client.connection.next_attempt is None
            with pytest.raises(collab.Rejected, match="This is why"):
                await room.wait_synced(5)
            client.network_hint(up=True)
            client.resume()
            await asyncio.sleep(0.1)
            assert relay.attempts == 1
            client.connect()
            await relay.welcomed()

    run(main())


def test_a_token_that_expired_is_asked_for_again_and_the_connection_is_back_at_once(
    tmp_path: Path,
) -> None:
    asked: Counter[str] = Counter()

    async def token() -> str:
        asked["token"] += 1
        return f"token {asked['token']}"

    settings = collab.ClientSettings(
        connection=collab.ConnectionSettings(backoff=BackoffSettings(base_s=600, cap_s=600))
    )

    async def main() -> None:
        async with (
            ScriptedRelay() as relay,
            collab.open(":memory:", relay=relay.url, token=token, settings=settings) as client,
        ):
            visit = await relay.welcomed()
            await until(lambda: state(client) is collab.State.LIVE)
            await visit.socket.close(Close.UNAUTHENTICATED, "expired")
            visit = await relay.visit()  # at once, whatever the backoff is
            hello = await visit.expect(frames.Hello)
            assert hello.token == "token 2"

    run(main())


def test_a_relay_that_ends_every_welcome_with_unauthenticated_is_not_hammered() -> None:
    settings = collab.ClientSettings(
        connection=collab.ConnectionSettings(backoff=BackoffSettings(base_s=600, cap_s=600))
    )

    async def main() -> None:
        async with (
            ScriptedRelay() as relay,
            collab.open(
                ":memory:", relay=relay.url, token=lambda: "t", settings=settings
            ) as client,
        ):
            for _ in range(2):
                visit = await relay.welcomed()
                await visit.socket.close(Close.UNAUTHENTICATED, "expired")
            await until(lambda: state(client) is collab.State.OFFLINE)
            await asyncio.sleep(0.2)
            assert relay.attempts == 2

    run(main())


def test_another_token_leaves_failed(tmp_path: Path) -> None:
    house = House()

    async def main() -> None:
        async with (
            running(tmp_path, authenticate=house.authenticate, authorize=house.authorize) as (
                url, _,
            ),
            collab.open(":memory:", relay=url, token="bad", settings=QUICK) as client,
        ):  # fmt: skip
            room = await client.room("notes")
            room.text("body").insert(0, "kept")
            await until(lambda: state(client) is collab.State.FAILED)
            assert house.asked["bad"] == 1  # a string is what it is: no use asking twice
            client.use_token("ada")
            await room.wait_synced(20)
            assert house.asked["ada"] == 1

    run(main())


def test_a_token_function_that_never_returns_holds_up_nothing_else() -> None:
    settings = collab.ClientSettings(
        connection=collab.ConnectionSettings(token_timeout_s=0.1, backoff=QUICK.connection.backoff)
    )
    calls: Counter[str] = Counter()

    async def token() -> str:
        calls["token"] += 1
        if calls["token"] < 3:
            await asyncio.Event().wait()
        return "ada"

    async def main() -> None:
        async with (
            ScriptedRelay() as relay,
            collab.open(":memory:", relay=relay.url, token=token, settings=settings) as client,
        ):
            reasons: list[str] = []
            client.observe(lambda status: reasons.append(status.reason))
            await relay.welcomed()
            assert any("gave no token within 0.1 s" in reason for reason in reasons)
            assert relay.probes == 0  # the network had no part in it

    run(main())


def test_a_token_function_whose_own_work_was_cancelled_is_asked_again(tmp_path: Path) -> None:
    """A program cancels its refresh of a token, and starts another one."""

    async def main() -> None:
        refreshing: list[asyncio.Task[str]] = []

        async def refreshed() -> str:
            return "a token"

        async def token() -> str:
            refreshing.append(asyncio.create_task(refreshed()))
            if len(refreshing) == 1:
                refreshing[0].cancel()
            return await refreshing[-1]

        async with (
            running(tmp_path) as (url, _),
            collab.open(":memory:", relay=url, token=token, settings=QUICK) as client,
        ):
            room = await client.room("notes")
            room.text("body").insert(0, "x")
            await room.wait_synced(20)
            assert len(refreshing) == 2

    run(main())


def test_a_status_counts_the_time_since_its_state_began() -> None:
    async def main() -> None:
        async with (
            ScriptedRelay() as relay,
            collab.open(":memory:", relay=relay.url, settings=QUICK) as client,
        ):
            visit = await relay.welcomed()
            await until(lambda: state(client) is collab.State.LIVE)
            assert client.connection is not None
            since = client.connection.since
            await asyncio.sleep(0.05)
            client.connect()  # it is, and stays so
            await asyncio.sleep(0.05)
            assert client.connection.since == since
            await visit.socket.close(1001)
            await relay.welcomed()
            await until(lambda: state(client) is collab.State.LIVE)
            assert client.connection.since > since

    run(main())
