"""What a program gives to be sent, checked: whatever raises here has stored nothing."""

from __future__ import annotations

import math
import os
import time
import uuid
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final

from collab import limits
from collab.errors import BadMessage, TooLarge
from collab.protocol.codec import pack_map, unpack_map
from collab.protocol.message_id import RANDOM_BYTES, make_id
from collab.storage.message_acts import Draft

__all__ = ["check_body", "make_draft"]

_UNTOUCHED: Final = "Nothing was stored."


def make_draft(
    body: str,
    id: uuid.UUID | str | None,
    meta: Mapping[str, Any] | None,
    ttl: timedelta | float | None,
    *,
    confirm: bool = False,
) -> Draft:
    """The message of these, written now. Raises :class:`BadMessage` and :class:`TooLarge`."""
    now_ms = max(0, time.time_ns() // 1_000_000)
    check_body(body)
    named = make_id(now_ms, os.urandom(RANDOM_BYTES)) if id is None else _id_bytes(id)
    return Draft(named, body, _packed(meta), now_ms, _ttl_ms(ttl), bool(confirm))


def check_body(body: object) -> None:
    """Raise :class:`BadMessage` or :class:`TooLarge` unless ``body`` may be a message's."""
    if not isinstance(body, str):
        raise BadMessage(f"A message's body is a string, not {type(body).__name__}. {_UNTOUCHED}")
    try:
        size = len(body.encode())
    except UnicodeEncodeError as error:
        raise BadMessage(
            f"This body is no text: it has half of a surrogate pair. {_UNTOUCHED}"
        ) from error
    if size > limits.MAX_BODY_BYTES:
        raise TooLarge(
            f"This body has {size} bytes; a message has at most {limits.MAX_BODY_BYTES}. "
            f"{_UNTOUCHED} Put long texts into the document."
        )


def _id_bytes(id: uuid.UUID | str) -> bytes:
    try:
        return (id if isinstance(id, uuid.UUID) else uuid.UUID(id)).bytes
    except (ValueError, AttributeError, TypeError) as error:
        raise BadMessage(f"A message's id is a UUID; {id!r:.80} is not. {_UNTOUCHED}") from error


def _packed(meta: Mapping[str, Any] | None) -> bytes:
    if not meta:
        return b""
    if not isinstance(meta, Mapping) or not all(isinstance(key, str) for key in meta):
        raise BadMessage(f"A message's meta is a mapping whose keys are strings. {_UNTOUCHED}")
    try:
        packed = pack_map(dict(meta))
    except (TypeError, ValueError, OverflowError) as error:
        raise BadMessage(f"msgpack cannot carry this meta: {error}. {_UNTOUCHED}") from error
    if unpack_map(packed) is None:
        raise BadMessage(f"This meta is nested too deeply for msgpack. {_UNTOUCHED}")
    if len(packed) > limits.MAX_META_BYTES:
        raise TooLarge(
            f"This meta has {len(packed)} bytes; a message has at most {limits.MAX_META_BYTES}. "
            f"{_UNTOUCHED}"
        )
    return packed


def _ttl_ms(ttl: timedelta | float | None) -> int | None:
    if ttl is None:
        return None
    try:
        seconds = ttl.total_seconds() if isinstance(ttl, timedelta) else float(ttl)
    except (TypeError, ValueError, OverflowError):
        seconds = math.nan
    if not 0 <= seconds * 1000 <= limits.MAX_TTL_MS:
        raise BadMessage(
            f"A message may wait for 0 seconds to ten years, or with ttl=None for ever; "
            f"{ttl!r:.80} is neither. {_UNTOUCHED}"
        )
    return max(1, math.ceil(seconds * 1000)) if seconds else limits.LIVE_TTL_MS
