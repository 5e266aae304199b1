"""``collab doctor``: on each kind of trouble it stops where the trouble is, and says what to do."""

from __future__ import annotations

import asyncio
import datetime
import email.utils
import re
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from collab import doctor, testing
from collab.doctor import Finding, Outcome, examine
from collab.probe import Probed
from collab.protocol.connection_state import Answer
from collab.route import Route
from collab.testing import FaultProxy, Portal, proxy
from tests.e2e.support import run, running
from tests.e2e.tcp import forward, tcp_server
from tests.e2e.test_rights import House
from tests.unit.test_probe import serving, trusting

STEPS = ["DNS", "TCP", "TLS", "HTTP", "probe", "WebSocket", "round trip", "clock"]


async def findings(url: str, **options: Any) -> dict[str, Finding]:
    return {found.step: found async for found in examine(url, **options)}


async def hasty(url: str, step: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Finding]:
    """The same with little patience behind ``step``, whose own time a busy machine may need."""
    found = {}
    async for finding in examine(url):
        found[finding.step] = finding
        if finding.step == step:
            monkeypatch.setattr(doctor, "STEP_S", 0.2)
    return found


def last(found: dict[str, Finding]) -> Finding:
    return found[list(found)[-1]]


@asynccontextmanager
async def behind(portal: Portal) -> AsyncIterator[FaultProxy]:
    async with testing.relay() as relay, proxy(relay.url) as wire:
        wire.portal = portal
        yield wire


@asynccontextmanager
async def with_tls(target: str) -> AsyncIterator[str]:
    """A relay's address with TLS before it."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await forward(reader, writer, target.partition("://")[2])

    async with tcp_server(serve, tls=serving()) as port:
        yield f"wss://127.0.0.1:{port}"


def test_a_healthy_relay_passes_every_step() -> None:
    async def main() -> None:
        async with testing.relay() as relay:
            found = await findings(relay.url)
            assert list(found) == STEPS
            assert {one.outcome for one in found.values()} == {Outcome.GOOD}, found

    run(main())


def test_a_healthy_relay_with_tls_does_too() -> None:
    async def main() -> None:
        async with testing.relay() as relay, with_tls(relay.url) as url:
            found = await findings(url, tls=trusting())
            assert list(found) == STEPS
            assert {one.outcome for one in found.values()} == {Outcome.GOOD}, found
            assert "TLSv1" in found["TLS"].said
            wrong = last(await findings(url))
            assert (wrong.step, wrong.outcome) == ("TLS", Outcome.BAD)
            assert "certificate" in wrong.said
            assert "clock" in wrong.said

    run(main())


@pytest.mark.parametrize("url", ["http://relay.example", "relay.example", "ws://"])
def test_an_address_that_is_none_is_said_to_be_none(url: str) -> None:
    async def main() -> None:
        found = last(await findings(url))
        assert (found.step, found.outcome) == ("address", Outcome.BAD)
        assert "ws:// or wss://" in found.said

    run(main())


def test_a_name_that_leads_nowhere_is_dns() -> None:
    async def main() -> None:
        found = last(await findings("wss://relay.invalid"))
        assert (found.step, found.outcome) == ("DNS", Outcome.BAD)
        assert "Check the spelling" in found.said

    run(main())


def test_where_nobody_listens_is_tcp() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]

    async def main() -> None:
        found = last(await findings(f"ws://127.0.0.1:{port}"))
        assert (found.step, found.outcome) == ("TCP", Outcome.BAD)
        assert "Is the relay running" in found.said

    run(main())


def test_what_speaks_no_tls_is_tls() -> None:
    async def main() -> None:
        async with testing.relay() as relay:
            found = last(await findings(relay.url.replace("ws:", "wss:")))
            assert (found.step, found.outcome) == ("TLS", Outcome.BAD)
            assert "speaks no TLS" in found.said

    run(main())


def test_what_hangs_is_named_with_its_step(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with testing.relay() as relay, proxy(relay.url) as wire:
            wire.hanging = True
            found = last(await hasty(wire.url, "TLS", monkeypatch))
            assert (found.step, found.outcome) == ("HTTP", Outcome.BAD)
            assert "firewall" in found.said

    run(main())


@pytest.mark.parametrize(
    ("portal", "step", "says"),
    [
        (Portal.REDIRECT, "probe", "log in"),
        (Portal.HTML, "probe", "log in"),
        (Portal.JSON, "probe", "passes /probe on"),
        (Portal.SWALLOW, "WebSocket", "WebSockets do not: no answer"),
    ],
)
def test_who_answers_in_the_relays_place_is_found(
    monkeypatch: pytest.MonkeyPatch, portal: Portal, step: str, says: str
) -> None:
    async def main() -> None:
        async with behind(portal) as wire:
            found = last(await hasty(wire.url, "probe", monkeypatch))
            assert (found.step, found.outcome) == (step, Outcome.BAD)
            assert says in found.said

    run(main())


def test_a_cache_is_found_at_its_second_answer() -> None:
    async def main() -> None:
        async with behind(Portal.REPLAY) as wire:
            first = last(await findings(wire.url))
            assert (first.step, first.outcome) == ("WebSocket", Outcome.BAD)
            assert "must pass upgrades on" in first.said
            found = last(await findings(wire.url))
            assert (found.step, found.outcome) == ("probe", Outcome.BAD)
            assert "a cache" in found.said

    run(main())


def test_a_token_is_asked_for_tried_and_its_refusal_explained(tmp_path: Path) -> None:
    house = House()

    async def main() -> None:
        async with running(
            tmp_path, authenticate=house.authenticate, authorize=house.authorize
        ) as (url, _):
            found = await findings(url)
            assert found["WebSocket"].outcome is Outcome.LOOK
            assert "--token-file" in found["WebSocket"].said
            assert list(found) == STEPS
            found = await findings(url, token="ada")
            assert found["WebSocket"].outcome is Outcome.GOOD
            refused = last(await findings(url, token="bad"))
            assert (refused.step, refused.outcome) == ("WebSocket", Outcome.BAD)
            assert "Get a new one" in refused.said
            assert "bad" not in refused.said

    run(main())


def test_without_tls_beyond_this_machine_it_says_what_that_means() -> None:
    async def main() -> None:
        examination = doctor._Examination(Route("ws://relay.example"), None)
        outcome, said = await examination._tls()
        assert outcome is Outcome.LOOK
        assert "in the clear" in said or "can be read" in said

    run(main())


@pytest.mark.parametrize(("offset_s", "says"), [(0, "agree"), (300, "behind"), (-300, "ahead of")])
def test_clocks_that_differ_are_told_apart(offset_s: int, says: str) -> None:
    async def main() -> None:
        examination = doctor._Examination(Route("ws://relay.example"), None)
        now = datetime.datetime.now(datetime.UTC)
        date = email.utils.format_datetime(now + datetime.timedelta(seconds=offset_s), usegmt=True)
        examination._asked = now.timestamp()
        examination._probed = Probed(Answer.RELAY, "", 200, date)
        outcome, said = await examination._clock()
        assert says in said
        assert (outcome is Outcome.GOOD) == (offset_s == 0)
        examination._probed = Probed(Answer.RELAY, "", 200, None)
        assert "does not say what time" in (await examination._clock())[1]

    run(main())


def test_a_slow_line_is_measured() -> None:
    async def main() -> None:
        async with testing.relay() as relay, proxy(relay.url) as wire:
            wire.delay_s = 0.05
            found = await findings(wire.url)
            told = re.search(r"typically take ([\d.]+) ms", found["round trip"].said)
            assert told is not None
            assert float(told[1]) >= 100

    run(main())


def test_a_proxy_of_the_environment_is_pointed_out_and_not_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://user:secret@proxy.invalid:3128")

    async def main() -> None:
        async with testing.relay() as relay:
            found = await findings(relay.url)
            assert found["TCP"].outcome is Outcome.LOOK
            assert "HTTPS_PROXY is set, and collab does not use it" in found["TCP"].said
            assert "secret" not in found["TCP"].said
            assert last(found).step == "clock"

    run(main())


def test_a_certificate_that_ends_soon_is_pointed_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "EXPIRES_SOON_DAYS", 1_000_000)

    async def main() -> None:
        async with testing.relay() as relay, with_tls(relay.url) as url:
            found = await findings(url, tls=trusting())
            assert found["TLS"].outcome is Outcome.LOOK
            assert "Renew it" in found["TLS"].said

    run(main())


def test_examining_leaves_no_trace_at_the_relay(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path) as (url, app):
            await findings(url)
            assert app._shared is not None
            assert len(app._shared.rooms) == 0

    run(main())
