"""Who answers at the relay's address? A fresh nonce, and whether the answer has it.

The relay itself is asked, never a third party. A login page, a cache or a proxy cannot know the
nonce; over ``wss`` TLS proves in addition who gave the answer.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import sys
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Final

from collab.protocol.connection_table import Answer
from collab.route import Route, is_stranger, why_not

if TYPE_CHECKING:
    import httpx

__all__ = ["Probed", "probe"]

_STEP_S: Final = 30.0  # of each step; the caller bounds the whole
_MAX_BODY_BYTES: Final = 4096  # the relay's answer has some 120
_HEADERS: Final = {
    "user-agent": "collab",
    "accept": "application/json",
    "accept-encoding": "identity",  # nobody makes us unpack anything
    "cache-control": "no-store",
}
_LOGIN_REQUIRED: Final = 511  # RFC 6585: "Network Authentication Required"
_TOO_MANY: Final = 429


@dataclass(frozen=True, slots=True)
class Probed:
    """Who answered; ``what`` came, for people. ``date`` is the answer's own header."""

    answer: Answer
    what: str
    status: int | None = None
    date: str | None = None


async def probe(route: Route, nonce: bytes) -> Probed:
    """Ask ``/probe`` with ``nonce`` (16 fresh random bytes). The caller bounds the time.

    Redirects are not followed, the environment's proxies are not used, and no connection, cookie
    or answer of an earlier probe is used again.
    """
    if "httpx" not in sys.modules:  # it takes a while, and an event loop must not stand still
        await asyncio.to_thread(import_module, "httpx")
    import httpx

    try:
        async with (
            httpx.AsyncClient(
                verify=route.tls or _no_tls(),
                proxy=route.proxy,
                trust_env=False,
                follow_redirects=False,
                timeout=_STEP_S,
                headers=_HEADERS,
            ) as http,
            http.stream("GET", route.probe_url, params={"nonce": nonce.hex()}) as response,
        ):
            return _judge(response, await _body(response), nonce)
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
        return _judge_failure(error, route)


async def _body(response: httpx.Response) -> bytes:
    """As much of the body as a relay's may have; nobody makes us read a film."""
    body = b""
    async for piece in response.aiter_raw():
        body += piece
        if len(body) > _MAX_BODY_BYTES:
            break
    return body[: _MAX_BODY_BYTES + 1]


def _judge(response: httpx.Response, body: bytes, nonce: bytes) -> Probed:
    status, date = response.status_code, response.headers.get("date")

    def probed(answer: Answer, what: str) -> Probed:
        return Probed(answer, what, status, date)

    if response.is_redirect:
        return probed(Answer.STRANGER, f"HTTP {status}, a redirect")
    if (status >= 500 and status != _LOGIN_REQUIRED) or status == _TOO_MANY:
        # A gateway whose relay is away says so. A login page wants to be seen.
        return probed(Answer.NOTHING, f"HTTP {status}: something stands before the relay, not it")
    kind = response.headers.get("content-type", "no content type").partition(";")[0]
    try:
        found = json.loads(body) if status == 200 else None
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict) or "nonce" not in found:
        return probed(Answer.STRANGER, f"HTTP {status}, {kind:.60}, and not the relay's answer")
    if found["nonce"] != nonce.hex():
        return probed(Answer.STRANGER, "an answer to another question: a cache, most likely")
    return probed(Answer.RELAY, "the relay's own answer")


def _judge_failure(error: Exception, route: Route) -> Probed:
    import httpx

    if is_stranger(error):
        return Probed(Answer.STRANGER, why_not(error, route))
    if isinstance(error, httpx.RemoteProtocolError) and "disconnected" not in str(error):
        return Probed(Answer.STRANGER, "an answer that is not HTTP")
    return Probed(Answer.NOTHING, why_not(error, route))


def _no_tls() -> ssl.SSLContext:
    """What is never used: without it httpx would read all certificates for a plain address."""
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
