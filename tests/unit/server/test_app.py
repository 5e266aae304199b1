"""The relay's HTTP side, and the relay inside somebody else's application."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import HTTPConnection
from starlette.routing import Mount

import collab
from collab.protocol.frames import Access
from collab_server.app import Relay, application
from collab_server.auth import User
from collab_server.serving import listening
from collab_server.settings import Settings

NONCE = "0123456789abcdef" * 2


async def anybody(token: str | None, request: HTTPConnection) -> User | None:
    return User("ada")


async def everything(user: User, room: str) -> Access:
    return Access.WRITE


@asynccontextmanager
async def http(relay: Relay) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(application(relay))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        yield client


def test_a_relay_without_rights_refuses_to_start(tmp_path: Path) -> None:
    with pytest.raises(collab.LocalError, match="denies by default"):
        Relay(Settings(data=tmp_path))
    with pytest.raises(collab.LocalError, match="both authenticate and authorize"):
        Relay(Settings(data=tmp_path), authenticate=anybody)


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "relay.example", "::"])
def test_an_open_relay_listens_on_loopback_only(host: str, tmp_path: Path) -> None:
    with pytest.raises(collab.LocalError, match="loopback"):
        Settings(data=tmp_path, open=True, host=host)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.9.9.9"])
def test_every_loopback_address_will_do_for_an_open_relay(host: str, tmp_path: Path) -> None:
    assert Settings(data=tmp_path, open=True, host=host).open


def test_the_probe_echoes_a_fresh_nonce_and_is_never_cached(tmp_path: Path) -> None:
    async def main() -> None:
        relay = Relay(Settings(data=tmp_path, open=True))
        async with relay.lifespan(), http(relay) as client:
            answer = await client.get("/probe", params={"nonce": NONCE})
            assert answer.status_code == 200
            assert answer.headers["cache-control"] == "no-store"
            body = answer.json()
            assert body["nonce"] == NONCE
            assert body["protocol"] == 1
            assert len(bytes.fromhex(body["relay"])) == 16

    asyncio.run(main())


@pytest.mark.parametrize("nonce", ["", "short", NONCE.upper(), NONCE + "0", "<b>" + NONCE[3:]])
def test_the_probe_answers_to_nothing_but_a_nonce(nonce: str, tmp_path: Path) -> None:
    async def main() -> None:
        relay = Relay(Settings(data=tmp_path, open=True))
        async with relay.lifespan(), http(relay) as client:
            answer = await client.get("/probe", params={"nonce": nonce})
            assert answer.status_code == 400
            assert nonce not in answer.text or not nonce

    asyncio.run(main())


def test_before_and_after_its_life_a_relay_says_that_it_is_not_ready(tmp_path: Path) -> None:
    async def main() -> None:
        relay = Relay(Settings(data=tmp_path, open=True))
        async with http(relay) as client:
            assert (await client.get("/healthz")).status_code == 503
            async with relay.lifespan():
                healthy = await client.get("/healthz")
                assert healthy.status_code == 200
                assert healthy.json()["status"] == "ok"
            assert (await client.get("/probe", params={"nonce": NONCE})).status_code == 503

    asyncio.run(main())


def test_a_relay_whose_commits_ended_says_so_at_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It must not look healthy: nothing is stored before it is started again."""

    def fail(*_: object) -> None:
        raise RuntimeError("a callback that raises")

    async def main() -> None:
        relay = Relay(Settings(data=tmp_path, open=True))
        async with http(relay) as client, relay.lifespan():
            assert relay._shared is not None
            relay._shared.log.chat.on_messages(fail)
            await relay.room("notes").send("stored all the same", sender="bot")
            while not caplog.records:
                await asyncio.sleep(0)
            unhealthy = await client.get("/healthz")
            assert unhealthy.status_code == 503
            assert "a callback that raises" in unhealthy.json()["log"]

    with caplog.at_level(logging.CRITICAL), pytest.raises(RuntimeError, match="that raises"):
        asyncio.run(asyncio.wait_for(main(), 20))
    assert "nothing is stored any more" in caplog.text


def test_a_relay_lives_inside_an_application_that_has_users_of_its_own(tmp_path: Path) -> None:
    asked: list[tuple[str | None, str]] = []

    async def authenticate(token: str | None, request: HTTPConnection) -> User | None:
        return User(token) if token in ("ada", "ben") else None

    async def authorize(user: User, room: str) -> Access:
        asked.append((user.sub, room))
        return Access.WRITE if room == "shared" else Access.NONE

    async def main() -> None:
        settings = Settings(data=tmp_path / "relay", port=0)
        relay = Relay(settings, authenticate=authenticate, authorize=authorize)
        app = Starlette(routes=[Mount("/collab", routes=relay.routes)])
        transport = httpx.ASGITransport(app)
        async with (
            relay.lifespan(),
            httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as web,
            listening(relay, settings) as url,
        ):
            probe = await web.get("/collab/probe", params={"nonce": NONCE})
            assert probe.status_code == 200
            async with (
                collab.open(tmp_path / "a.db", relay=url, token="ada") as ada,
                collab.open(tmp_path / "b.db", relay=url, token=lambda: "ben") as ben,
                collab.open(tmp_path / "c.db", relay=url, token="eve") as eve,
            ):
                hers, his = await ada.room("shared"), await ben.room("shared")
                hers.text("body").insert(0, "hello")
                await hers.wait_synced(timeout=30)
                async with asyncio.timeout(30):
                    while str(his.text("body")) != "hello":
                        await asyncio.sleep(0.005)
                private = await ben.room("private")
                with pytest.raises(collab.Rejected) as denied:
                    await private.wait_synced(timeout=30)
                assert denied.value.code == "forbidden"
                shut_out = await eve.room("shared")
                with pytest.raises(collab.Rejected, match="token"):
                    await shut_out.wait_synced(timeout=30)
        assert ("ada", "shared") in asked
        assert ("ben", "private") in asked
        assert all(sub != "eve" for sub, _ in asked)

    asyncio.run(main())


def test_an_expired_token_asks_the_callable_once_more_and_then_no_more(tmp_path: Path) -> None:
    async def authenticate(token: str | None, request: HTTPConnection) -> User | None:
        return User("ada") if token == "fresh" else None

    async def main() -> None:
        config = Settings(data=tmp_path / "relay", port=0)
        relay = Relay(config, authenticate=authenticate, authorize=everything)
        async with relay.lifespan(), listening(relay, config) as url:
            given = iter(["expired", "fresh"])
            async with collab.open(":memory:", relay=url, token=lambda: next(given)) as client:
                room = await client.room("a")
                await room.wait_synced(timeout=30)

            asked: list[str] = []

            def expired() -> str:
                asked.append("expired")
                return "expired"

            async with collab.open(":memory:", relay=url, token=expired) as client:
                room = await client.room("a")
                with pytest.raises(collab.Rejected, match="token"):
                    await room.wait_synced(timeout=30)
                assert client.connection is not None
                assert client.connection.state is collab.State.FAILED
                assert len(asked) == 2

    asyncio.run(main())
