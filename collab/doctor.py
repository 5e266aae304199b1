"""Why does it not connect? One step after the other, and of each a plain sentence."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from enum import StrEnum
from statistics import median
from typing import Final

from collab.errors import CollabError, LocalError
from collab.link import greet
from collab.probe import Probed, probe
from collab.protocol import frames
from collab.protocol.codec import decode_from_relay, encode
from collab.protocol.connection_state import Answer, Meaning, meaning_of
from collab.relay_socket import Lost, RelaySocket, opened
from collab.route import Route, why_not

__all__ = ["Finding", "Outcome", "examine"]

STEP_S: Final = 10.0  # what a device gives its connection, too
PINGS: Final = 5
SLOW_S: Final = 1.0  # a round trip above it is felt at every edit of others
CLOCK_S: Final = 30.0  # tokens carry times; the Date header has whole seconds
EXPIRES_SOON_DAYS: Final = 14


class Outcome(StrEnum):
    """How a step came out."""

    GOOD = "good"
    LOOK = "look"  # it works, and somebody should look at it
    BAD = "bad"


@dataclass(frozen=True, slots=True)
class Finding:
    """One step: what was found and, where that is not good, what to do."""

    step: str
    outcome: Outcome
    said: str


async def examine(
    url: str,
    *,
    token: str | None = None,
    proxy: str | None = None,
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[Finding]:
    """Examine the way to the relay at ``url`` step by step, until one is bad.

    Nothing is changed anywhere: no room is opened, and the device id is of this call alone. It
    ends within a minute.
    """
    try:
        patient = _Examination(Route(url, proxy=proxy, tls=tls), token)
    except LocalError as error:
        yield Finding("address", Outcome.BAD, str(error))
        return
    for step, examined in patient.steps():
        began = time.perf_counter()
        try:
            async with asyncio.timeout(STEP_S):
                outcome, said = await examined()
        except TimeoutError:
            outcome, said = patient.hung(step)
        took_ms = 1000 * (time.perf_counter() - began)
        if took_ms >= 1:
            said = f"{said} ({took_ms:.0f} ms)"
        yield Finding(step, outcome, said)
        if outcome is Outcome.BAD:
            return


_Result = tuple[Outcome, str]


class _Examination:
    """One run. Each step is a method, and may use what those before it found."""

    def __init__(self, route: Route, token: str | None) -> None:
        self._route = route
        self._token = token
        hop = route if route.proxy is None else Route(f"ws{route.proxy.removeprefix('http')}")
        self._hop = hop  # where TCP goes: the relay, or the proxy before it
        self._probed = Probed(Answer.NOTHING, "not asked")
        self._asked = 0.0
        self._took = 0.0
        self._trips: list[float] = []

    def steps(self) -> list[tuple[str, Callable[[], Awaitable[_Result]]]]:
        """The steps in their order."""
        return [
            ("DNS", self._dns),
            ("TCP", self._tcp),
            ("TLS", self._tls),
            ("HTTP", self._http),
            ("probe", self._probe),
            ("WebSocket", self._websocket),
            ("round trip", self._round_trip),
            ("clock", self._clock),
        ]

    def hung(self, step: str) -> _Result:
        """What it means that ``step`` had no answer in time."""
        nothing = f"no answer within {STEP_S:g} s"
        if step == "WebSocket":
            return self._judge_close(Lost(nothing))
        return Outcome.BAD, (
            f"{_upper(nothing)}: something on the way takes what is sent and says nothing, most "
            f"likely a firewall. Ask whoever runs this network or the relay."
        )

    async def _dns(self) -> _Result:
        host, port = self._hop.host, self._hop.port
        try:
            found = await asyncio.get_running_loop().getaddrinfo(
                host, port, type=socket.SOCK_STREAM
            )
        except OSError as error:
            return Outcome.BAD, (
                f"{_upper(why_not(error, self._hop))}. Check the spelling and this device's "
                f"network; a name of a company's own network needs its VPN."
            )
        addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
        return Outcome.GOOD, f"{host} is {', '.join(addresses)}."

    async def _tcp(self) -> _Result:
        host, port = self._hop.host, self._hop.port
        try:
            _, writer = await asyncio.open_connection(host, port)
        except OSError as error:
            return Outcome.BAD, (
                f"{_upper(why_not(error, self._hop))}. Is the relay running, does it listen on "
                f"this address and port, and does a firewall let it through?"
            )
        writer.close()
        if self._route.proxy is not None:
            return Outcome.GOOD, f"The proxy {host}:{port} takes connections."
        unused = [name for name in os.environ if name.lower() in ("http_proxy", "https_proxy")]
        if unused:
            return Outcome.LOOK, (
                f"{host}:{port} takes connections, directly: {unused[0]} is set, and collab does "
                f"not use it. Where a proxy is needed, say so: --proxy here, "
                f"ConnectionSettings(proxy=…) in the program."
            )
        return Outcome.GOOD, f"{host}:{port} takes connections."

    async def _tls(self) -> _Result:
        route = self._route
        if not route.is_secure:
            if route.is_loopback:
                return Outcome.GOOD, "None, and none is needed: it is this machine."
            return Outcome.LOOK, (
                "None: everything, the token too, can be read and changed on the way. Give the "
                "relay a certificate, and use wss://."
            )
        if route.proxy is not None:
            return Outcome.GOOD, "It goes through the proxy; the next step shows it."
        try:
            _, writer = await asyncio.open_connection(route.host, route.port, ssl=route.tls)
        except OSError as error:
            return Outcome.BAD, (
                f"{_upper(why_not(error, route))}. Behind a login page this is what one sees: log "
                f"in to the network. Else check this device's clock, the relay's certificate and "
                f"its name; a private authority is given with ConnectionSettings(tls=…)."
            )
        certificate = writer.get_extra_info("peercert") or {}
        version = writer.get_extra_info("ssl_object").version()
        writer.transport.abort()
        until = certificate.get("notAfter")
        days = (ssl.cert_time_to_seconds(until) - time.time()) / 86_400 if until else 1000.0
        said = f"{version}, and the certificate is good for {days:.0f} days."
        if days < EXPIRES_SOON_DAYS:
            return Outcome.LOOK, f"{said} Renew it: after that nobody connects."
        return Outcome.GOOD, said

    async def _http(self) -> _Result:
        self._asked, began = time.time(), time.perf_counter()
        self._probed = found = await probe(self._route, os.urandom(16))
        self._took = time.perf_counter() - began
        if found.status is None:
            return Outcome.BAD, (
                f"No answer to a plain request: {found.what}. What listens there is no relay, or "
                f"something on the way ends what it does not know. Check address and port."
            )
        return Outcome.GOOD, f"It answers plain requests (status {found.status})."

    async def _probe(self) -> _Result:
        found = self._probed
        match found.answer:
            case Answer.RELAY:
                return Outcome.GOOD, "The relay itself answers: it knows this call's own number."
            case Answer.STRANGER:
                return Outcome.BAD, (
                    f"Somebody else answers in the relay's place: {found.what}. If this network "
                    f"has a login page, open a browser and log in. Else check the address, and "
                    f"that whatever stands before the relay passes /probe on, unchanged and "
                    f"uncached. Your edits are saved on this device meanwhile."
                )
            case Answer.NOTHING:
                return Outcome.BAD, (
                    f"The relay is not serving: {found.what}. Ask whoever runs it; your edits are "
                    f"saved on this device meanwhile."
                )

    async def _websocket(self) -> _Result:
        hello = frames.Hello(frames.VERSION, os.urandom(16), os.urandom(16), 1, self._token)
        try:
            async with opened(self._route) as open_socket:
                await greet(open_socket, hello)
                self._trips = [await _round_trip(open_socket, number) for number in range(PINGS)]
                return Outcome.GOOD, "Open, and the relay answered this call's own number."
        except Lost as lost:
            return self._judge_close(lost)
        except CollabError as error:
            return Outcome.BAD, (
                f"{_upper(str(error))}. Another program answers at /sync: check the address."
            )

    def _judge_close(self, lost: Lost) -> _Result:
        meaning = meaning_of(lost.code)
        if meaning is Meaning.TOKEN and self._token is None:
            return Outcome.LOOK, (
                "The relay answers, and wants a token. Give one with --token-file, or in the "
                "variable COLLAB_TOKEN, to try that too."
            )
        if meaning is Meaning.TOKEN:
            return Outcome.BAD, (
                "The relay does not take this token: it has expired, is of another relay, or this "
                "device's clock or the relay's is wrong. Get a new one."
            )
        if meaning is Meaning.PERMANENT:
            return Outcome.BAD, (
                f"The relay ends the connection for good: {lost} ({lost.code}). With another "
                f"version of collab, or after a word with whoever runs it, it may let you in."
            )
        return Outcome.BAD, (
            f"Plain requests pass and WebSockets do not: {lost}. Whatever stands before the relay "
            f"must pass upgrades on at /sync (nginx: proxy_http_version 1.1, and the headers "
            f"Upgrade and Connection); some company proxies never do."
        )

    async def _round_trip(self) -> _Result:
        if not self._trips:  # it wants a token
            typical, said = self._took, "A plain request, connection and all, takes"
        else:
            typical, said = median(self._trips), f"PING and PONG, {PINGS} times, typically take"
        said = f"{said} {1000 * typical:.1f} ms."
        if typical > SLOW_S:
            return Outcome.LOOK, f"{said} What others do comes late; nothing is lost by it."
        return Outcome.GOOD, said

    async def _clock(self) -> _Result:
        date = self._probed.date
        try:
            theirs = parsedate_to_datetime(date or "").timestamp()
        except ValueError:
            return Outcome.LOOK, "The relay does not say what time it has, so it is not compared."
        ours = self._asked + self._took / 2
        # The header has whole seconds: half of one is the best guess at the rest.
        difference = theirs + 0.5 - ours
        if abs(difference) <= CLOCK_S:
            return (
                Outcome.GOOD,
                f"This device and the relay agree, to {abs(difference) + 0.5:.0f} s.",
            )
        which = "behind" if difference > 0 else "ahead of"
        return Outcome.LOOK, (
            f"This device's clock is {abs(difference):.0f} s {which} the relay's. Tokens and "
            f"certificates have times and may be refused; edits and their order do not depend on "
            f"clocks. Set the clock that is wrong."
        )


async def _round_trip(relay: RelaySocket, number: int) -> float:
    """Seconds from PING to its PONG."""
    began = time.perf_counter()
    await relay.send(encode(frames.Ping(number)))
    while decode_from_relay(await relay.receive()) != frames.Pong(number):
        pass
    return time.perf_counter() - began


def _upper(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}"
