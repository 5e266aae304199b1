"""Who answers at the relay's address, and who cannot pretend to be it."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from collab import testing
from collab.probe import Probed, probe
from collab.protocol.connection_state import Answer
from collab.route import Route
from tests.e2e.support import run, soon
from tests.e2e.tcp import say, tcp_server

NONCE = bytes(range(16))
TLS = Path(__file__).parent.parent / "tls"


def http(status: str, body: bytes, *headers: str) -> bytes:
    """An answer as it is on the wire."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


def genuine(nonce: bytes) -> bytes:
    answer = {"nonce": nonce.hex(), "relay": "72" * 16, "protocol": 1}
    return http("200 OK", json.dumps(answer).encode(), "Content-Type: application/json")


@asynccontextmanager
async def saying(
    answer: bytes | Callable[[asyncio.StreamWriter], Awaitable[None]],
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[tuple[Route, list[bytes]]]:
    """A server that says ``answer`` to everybody: the way to it, and what it was asked."""
    asked: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        if callable(answer):
            await answer(writer)
        else:
            await say(writer, answer)

    async with tcp_server(serve, tls=tls) as port:
        yield Route(f"{'wss' if tls else 'ws'}://127.0.0.1:{port}", tls=trusting()), asked


def trusting() -> ssl.SSLContext:
    return ssl.create_default_context(cafile=TLS / "relay.pem")


def serving() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(TLS / "relay.pem", TLS / "relay.key")
    return context


def ask(answer: bytes, tls: ssl.SSLContext | None = None) -> Probed:
    async def main() -> Probed:
        async with saying(answer, tls) as (route, _):
            return await soon(probe(route, NONCE))

    return run(main())


def test_the_relay_itself_is_known_by_the_fresh_nonce() -> None:
    async def main() -> None:
        async with testing.relay() as relay:
            found = await probe(Route(relay.url), NONCE)
            assert (found.answer, found.status) == (Answer.RELAY, 200)
            assert found.date is not None

    run(main())


STRANGERS = {
    "a redirect": http("302 Found", b"", "Location: http://portal.invalid/login"),
    "a permanent one": http("308 Permanent Redirect", b"", "Location: https://elsewhere/probe"),
    "a page": http("200 OK", b"<html>Welcome</html>", "Content-Type: text/html"),
    "a page that says 511": http("511 Network Authentication Required", b"<html>"),
    "a page that says 403": http("403 Forbidden", b"Log in first"),
    "JSON without the nonce": http("200 OK", b'{"status": "ok"}'),
    "JSON that is no object": http("200 OK", b'["nonce"]'),
    "JSON too deep": http("200 OK", b"[" * 4000),
    "an answer that is too long": http("200 OK", b'{"nonce": "' + b"0" * 100_000),
    "a cache's old answer": genuine(b"o" * 16),
    "nothing at all": http("204 No Content", b""),
    "what is not HTTP": b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
}


@pytest.mark.parametrize("what", STRANGERS)
def test_a_stranger_is(what: str) -> None:
    assert ask(STRANGERS[what]).answer is Answer.STRANGER


@pytest.mark.parametrize("status", ["500 Oops", "502 Bad Gateway", "503 Busy", "429 Too Many"])
def test_a_gateway_whose_relay_is_away_is_nobody(status: str) -> None:
    found = ask(http(status, b"<html>nginx</html>", "Content-Type: text/html"))
    assert found.answer is Answer.NOTHING
    assert status[:3] in found.what


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{"])
def test_an_answer_that_breaks_off_is_nobody(answer: bytes) -> None:
    found = ask(answer)
    assert found.answer is not Answer.RELAY


def test_where_nobody_listens_is_nobody() -> None:
    async def main() -> None:
        async with saying(b"") as (route, _):
            pass
        found = await probe(route, NONCE)
        assert found.answer is Answer.NOTHING
        assert "nobody listens" in found.what

    run(main())


def test_over_tls_the_relay_is_known_and_a_wrong_certificate_is_a_stranger() -> None:
    assert ask(genuine(NONCE), serving()).answer is Answer.RELAY

    async def main() -> None:
        async with saying(genuine(NONCE), serving()) as (route, asked):
            distrusting = Route(route.url)
            found = await probe(distrusting, NONCE)
            assert found.answer is Answer.STRANGER
            assert "certificate" in found.what
            assert asked == []

    run(main())


def test_what_speaks_no_tls_where_tls_is_due_is_a_stranger() -> None:
    async def main() -> None:
        async def refuse(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await say(writer, http("400 Bad Request", b"speak plainly"))

        async with tcp_server(refuse) as port:
            found = await soon(probe(Route(f"wss://127.0.0.1:{port}", tls=trusting()), NONCE))
        assert found.answer is Answer.STRANGER
        assert "speaks no TLS" in found.what

    run(main())


def test_no_redirect_is_followed_and_no_proxy_of_the_environment_is_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def main() -> None:
        async with (
            saying(genuine(NONCE)) as (other, asked_other),
            saying(genuine(NONCE)) as (relay, asked),
        ):
            for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
                monkeypatch.setenv(name, other.probe_url.removesuffix("/probe"))
            assert (await probe(relay, NONCE)).answer is Answer.RELAY
            assert (len(asked), asked_other) == (1, [])
        location = f"Location: {other.probe_url}?nonce={NONCE.hex()}"
        async with saying(http("307 Temporary Redirect", b"", location)) as (relay, _):
            assert (await probe(relay, NONCE)).answer is Answer.STRANGER
            assert asked_other == []

    run(main())


def test_a_proxy_that_is_configured_is_used() -> None:
    async def main() -> None:
        async with saying(genuine(NONCE)) as (other, asked):
            proxy = other.probe_url.removesuffix("/probe")
            found = await probe(Route("ws://relay.invalid", proxy=proxy), NONCE)
            assert found.answer is Answer.RELAY
            assert asked[0].startswith(b"GET http://relay.invalid/probe?nonce=")

    run(main())


def test_an_endless_answer_is_not_read_to_its_end() -> None:
    async def endless(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: video/mp4\r\n\r\n")
        while True:
            writer.write(b"x" * 65536)
            await writer.drain()

    async def main() -> None:
        async with saying(endless) as (route, _):
            assert (await soon(probe(route, NONCE))).answer is Answer.STRANGER

    run(main())


def test_what_a_probe_says_of_this_device_is_next_to_nothing() -> None:
    async def main() -> None:
        async with saying(genuine(NONCE)) as (route, asked):
            await probe(route, NONCE)
            names = {
                line.partition(b":")[0].lower() for line in asked[0].split(b"\r\n")[1:] if line
            }
            assert names <= {
                b"host", b"accept", b"accept-encoding", b"connection", b"user-agent",
                b"cache-control",
            }  # fmt: skip

    run(main())
