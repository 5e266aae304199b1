"""The way to the relay, and why there is none."""

from __future__ import annotations

import socket
import ssl

import pytest

import collab
from collab.route import Route, is_stranger, why_not


def test_an_address_becomes_that_of_the_socket_and_that_of_the_probe() -> None:
    plain = Route("ws://relay.example:8765/")
    assert (plain.sync_url, plain.probe_url) == (
        "ws://relay.example:8765/sync", "http://relay.example:8765/probe",
    )  # fmt: skip
    secure = Route("wss://relay.example/under/here")
    assert secure.probe_url == "https://relay.example/under/here/probe"
    assert (plain.port, secure.port, secure.host) == (8765, 443, "relay.example")


@pytest.mark.parametrize(
    "url",
    ["http://x", "relay.example", "ws://", "ws://x:notaport", "ws://x:99999", "ws://[::1",
     "ws://relay..example", f"ws://{'x' * 64}.example"],
)  # fmt: skip
def test_an_address_that_is_none_is_refused_in_words(url: str) -> None:
    with pytest.raises(collab.LocalError, match="begins with ws:// or wss://"):
        Route(url)


@pytest.mark.parametrize("url", ["ws://ada:secret@x", "ws://x?token=secret", "ws://x#secret"])
def test_a_secret_in_an_address_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(collab.LocalError) as caught:
        Route(url)
    assert "secret" not in str(caught.value)


def test_a_proxy_is_an_http_address() -> None:
    assert Route("ws://x", proxy="http://proxy:3128").proxy == "http://proxy:3128"
    with pytest.raises(collab.LocalError, match="http://"):
        Route("ws://x", proxy="socks5://proxy")


def test_tls_is_there_where_it_is_asked_for_and_is_made_once() -> None:
    assert Route("ws://x").tls is None
    route = Route("wss://x")
    assert route.tls is not None
    assert route.tls is route.tls
    own = ssl.create_default_context()
    assert Route("wss://x", tls=own).tls is own


@pytest.mark.parametrize(
    ("url", "is_loopback"),
    [("ws://127.0.0.1:1", True), ("ws://[::1]:1", True), ("ws://localhost", True),
     ("ws://10.0.0.1", False), ("ws://localhost.example", False)],
)  # fmt: skip
def test_loopback_is_known(url: str, is_loopback: bool) -> None:
    assert Route(url).is_loopback is is_loopback


def verification(message: str) -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_message = message
    return error


@pytest.mark.parametrize(
    ("error", "said", "stranger"),
    [
        (socket.gaierror(-2, "Name or service not known"), "the name relay.example leads", False),
        (ConnectionRefusedError(111, "Connection refused"), "nobody listens at relay.exa", False),
        (ConnectionResetError(), "relay.example:80 cut the connection", False),
        (TimeoutError(), "did not answer in time", False),
        (OSError(113, "No route to host"), "cannot be reached (No route to host)", False),
        (verification("certificate has expired"), "is not good: certificate has expired", True),
    ],
    ids=repr,
)
def test_every_reason_is_half_a_sentence(error: Exception, said: str, stranger: bool) -> None:
    wrapped = OSError("a library's own words")
    wrapped.__cause__ = error
    for one in (error, wrapped):
        assert said in why_not(one, Route("ws://relay.example"))
        assert is_stranger(one) is stranger
