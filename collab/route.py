"""How a device reaches its relay: the address, its proxy, its TLS; and why it cannot, in words."""

from __future__ import annotations

import ipaddress
import socket
import ssl
from functools import cached_property
from typing import Final
from urllib.parse import SplitResult, urlsplit

from collab.errors import LocalError

__all__ = ["Route", "causes", "is_stranger", "why_not"]

_PORTS: Final = {"ws": 80, "wss": 443}
_NO_TLS: Final = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE")


class Route:
    """The way to the relay at ``url``, such as ``wss://relay.example``. Raises LocalError.

    Everything that goes to the relay goes this way, the probe too: a probe that went another way
    would prove nothing. ``proxy`` is an ``http://`` address, or None: no proxy. The environment's
    proxies are not used: whose they are the program may not know. ``tls`` replaces the
    system's own certificates and rules.
    """

    def __init__(
        self, url: str, *, proxy: str | None = None, tls: ssl.SSLContext | None = None
    ) -> None:
        self.url = url.rstrip("/")
        self.proxy = proxy
        self._tls = tls
        self._parts = _split(url)
        self.scheme = self._parts.scheme
        self.host = self._parts.hostname or ""
        self.port = self._parts.port or _PORTS[self.scheme]
        if proxy is not None and not proxy.startswith("http://"):
            raise LocalError(
                f"A proxy's address begins with http://, and {proxy!r} does not. "
                f"Nothing was opened."
            )

    @property
    def is_secure(self) -> bool:
        """Whether TLS proves who answers."""
        return self.scheme == "wss"

    @property
    def is_loopback(self) -> bool:
        """Whether the address names this machine and nothing else."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def sync_url(self) -> str:
        """Where the WebSocket is."""
        return f"{self.url}/sync"

    @property
    def probe_url(self) -> str:
        """Where the probe is; ``?nonce=`` follows."""
        return f"http{'s' if self.is_secure else ''}{self.url[len(self.scheme) :]}/probe"

    @cached_property
    def tls(self) -> ssl.SSLContext | None:
        """The TLS context, made once; None where there is no TLS."""
        if not self.is_secure:
            return None
        return self._tls or ssl.create_default_context()


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        is_whole = bool(parts.hostname) and (parts.port is None or parts.port > 0)
        (parts.hostname or "").encode("idna")  # as who looks it up does; "a..b" is no name
    except ValueError:  # which UnicodeError is, too
        is_whole = False
    if not url.startswith(("ws://", "wss://")) or not is_whole:
        raise LocalError(
            f"A relay's address begins with ws:// or wss:// and names a host, and {url!r} does "
            f"not. Nothing was opened."
        )
    if parts.query or parts.fragment or parts.username:
        raise LocalError(
            f"A relay's address has no user, query or fragment; the token goes into token=…. "
            f"{parts.hostname} was not asked, and nothing was opened."
        )
    return parts


def why_not(error: BaseException, route: Route) -> str:
    """Why ``error`` kept us from the relay: half a sentence, for people."""
    where = f"{route.host}:{route.port}"
    for cause in causes(error):
        match cause:
            case socket.gaierror():
                return f"the name {route.host} leads nowhere (DNS: {cause.strerror})"
            case ssl.SSLCertVerificationError():
                return f"the certificate of {where} is not good: {cause.verify_message}"
            case ssl.SSLError() if cause.reason in _NO_TLS:
                return f"what answers at {where} speaks no TLS"
            case ConnectionRefusedError():
                return f"nobody listens at {where} (connection refused)"
            case ConnectionResetError() | BrokenPipeError():
                return f"{where} cut the connection"
            case TimeoutError():
                return f"{where} did not answer in time"
            case OSError() if cause.strerror:
                return f"{where} cannot be reached ({cause.strerror})"
    return f"{type(error).__name__}: {error}".rstrip(": ")


def is_stranger(error: BaseException) -> bool:
    """Whether it failed because somebody answered who is not the relay."""
    return any(
        isinstance(cause, ssl.SSLCertVerificationError)
        or (isinstance(cause, ssl.SSLError) and cause.reason in _NO_TLS)
        for cause in causes(error)
    )


def causes(error: BaseException) -> list[BaseException]:
    """``error`` and what led to it, the first cause first."""
    found: list[BaseException] = []
    this: BaseException | None = error
    while this is not None and this not in found:
        found.insert(0, this)
        this = this.__cause__ or this.__context__
    return found
