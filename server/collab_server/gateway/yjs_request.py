"""What does a stock provider's opening request ask for: who is it, and which room?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qsl, unquote_to_bytes, urlencode

from starlette.websockets import WebSocket

from collab.protocol.codec import is_room_name

BEARER_PREFIX: Final = "token."  # of a subprotocol; the token itself comes after it


@dataclass(frozen=True, slots=True)
class Credentials:
    """What the opening request shows, and the subprotocol that the answer names."""

    token: str | None
    subprotocol: str | None


def take_credentials(socket: WebSocket) -> Credentials:
    """Take the token out of the opening request, so that no log can show it.

    In this order: ``Authorization: Bearer``, a subprotocol ``token.…``, a query parameter.
    """
    scope = socket.scope
    pairs = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
    tokens = [value for name, value in pairs if name == "token"]
    if tokens:
        rest = [(name, "redacted" if name == "token" else value) for name, value in pairs]
        scope["query_string"] = urlencode(rest).encode()
    offered: list[str] = list(scope.get("subprotocols", ()))
    carriers = [name for name in offered if name.startswith(BEARER_PREFIX)]
    # A browser that offered some and gets none back gives up.
    others = [name for name in offered if name not in carriers]
    subprotocol = next(iter(others + carriers), None)
    scheme, _, bearer = socket.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return Credentials(bearer.strip(), subprotocol)
    tokens = [name.removeprefix(BEARER_PREFIX) for name in carriers] + tokens
    return Credentials(tokens[0] if tokens else None, subprotocol)


def room_name(socket: WebSocket) -> str | None:
    """The rest of the path, decoded once; None if it may not name a room."""
    name: str = socket.path_params["room"]
    try:
        path = unquote_to_bytes(socket.scope.get("raw_path") or "/" + name).decode()
    except UnicodeDecodeError:
        return None
    return name if is_room_name(name) and path.endswith("/" + name) else None
