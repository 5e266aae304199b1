"""The notebook's page over HTTP: files of this package, under a strict content security policy.

The page is built from ``examples/notebook`` and committed, so that nothing here needs Node.
"""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

__all__ = ["STATIC", "routes"]

STATIC: Final = Path(__file__).parent / "static"

_TYPES: Final = {
    "app.css": "text/css; charset=utf-8",
    "app.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
    "index.html": "text/html; charset=utf-8",
    "sw.js": "text/javascript; charset=utf-8",
}

_HEADERS: Final = {
    "cache-control": "no-cache",
    "cross-origin-opener-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


def policy(nonce: str | None = None) -> str:
    """What the page may load and do: its own files, its own relay, and pictures in the document.

    CodeMirror puts its styles into the page by a script; ``nonce`` lets those in and no others.
    """
    styles = "'self'" if nonce is None else f"'self' 'nonce-{nonce}'"
    return "; ".join(
        (
            "default-src 'none'",
            "script-src 'self'",
            f"style-src {styles}",
            "img-src 'self' data:",
            "connect-src 'self'",
            "worker-src 'self'",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        )
    )


def routes() -> list[BaseRoute]:
    """Routes of the page, to stand beside a relay's: ``/`` and the files that it names."""
    files = {name: (STATIC / name).read_bytes() for name in _TYPES}
    page = files.pop("index.html").decode()

    def index(_request: Request) -> Response:
        nonce = secrets.token_urlsafe(16)
        return _response("index.html", page.replace("{nonce}", nonce).encode(), nonce)

    def file_of(name: str) -> Route:
        return Route(f"/{name}", lambda _request: _response(name, files[name]))

    return [Route("/", index), *map(file_of, files)]


def _response(name: str, content: bytes, nonce: str | None = None) -> Response:
    headers = {**_HEADERS, "content-security-policy": policy(nonce)}
    return Response(content, headers=headers, media_type=_TYPES[name])
