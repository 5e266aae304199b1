"""What ``collab status`` prints of a store file: for people, and as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Final

from collab.storage.survey import ChatSurvey, RoomSurvey, Survey
from collab.terminal import safe

__all__ = ["as_json", "as_text"]

_SHORT: Final = 8  # hexadecimal digits of an id that people compare


def as_text(found: Survey) -> str:
    """Lines for people; harmless for a terminal."""
    lines = [f"store:   {safe.one_line(found.path)}"]
    lines.append(f"in use:  {found.owner or 'by nobody'}")
    if found.version < found.newest_version:
        lines.append(f"format:  {_older(found)}")
    if found.device_id is not None:
        lines.append(f"device:  {found.device_id.hex()[:_SHORT]}")
    if found.rooms is not None:
        for room in found.rooms:
            lines += ["", *_room(room)]
        lines += ["", _sum(found.rooms)]
    lines.append(
        "Whether a program is connected now, and what a relay refuses, the file does not say."
    )
    return "\n".join(lines)


def as_json(found: Survey) -> str:
    """One object. Ids are in hexadecimal digits; what is not known is null."""
    return json.dumps(asdict(found), default=bytes.hex, indent=2)


def _older(found: Survey) -> str:
    missing = "it holds nothing yet" if found.rooms is None else "it holds no messages"
    return (
        f"{found.version}, and {found.newest_version} is the newest: {missing}; the next program "
        f"that opens it brings it up to date"
    )


def _room(room: RoomSurvey) -> list[str]:
    place = "no place in the relay's log"
    if room.generation is not None:
        place = f"at offset {room.offset:,} of generation {room.generation.hex()[:_SHORT]}"
    joined = f"has been joined at a relay, {place}" if room.was_joined else "was never at a relay"
    lines = [
        f"room {safe.name(room.name)}",
        f"  document:  {room.document_bytes:,} bytes, {_updates(room.pending_updates)}; {joined}",
    ]
    return lines if room.chat is None else lines + _chat(room.chat)


def _updates(count: int) -> str:
    return {0: "nothing to send", 1: "1 update to send"}.get(count, f"{count:,} updates to send")


def _chat(chat: ChatSurvey) -> list[str]:
    entered = f"here as {safe.name(chat.user)}" if chat.user else "was never entered at a relay"
    lines = [
        f"  messages:  {chat.here:,} here, {chat.unread:,} unread, up to {chat.seq:,}; {entered}"
    ]
    if chat.queued or chat.sending:
        lines.append(f"  to send:   {chat.queued:,} queued, {chat.sending:,} sent and not decided")
    if chat.stalled:
        lines.append(f"  given up:  {chat.stalled:,}; they are kept, and can be tried again")
    for gap in chat.gaps:
        why = "and kept by the relay no more" if gap.lost else "to be fetched on demand"
        lines.append(f"  not here:  {gap.low:,} to {gap.high:,}, {why}")
    return lines


def _sum(rooms: tuple[RoomSurvey, ...]) -> str:
    chats = [room.chat for room in rooms if room.chat is not None]
    waiting = sum(chat.queued + chat.sending for chat in chats)
    updates = sum(room.pending_updates for room in rooms)
    named = "1 room" if len(rooms) == 1 else f"{len(rooms):,} rooms"
    return f"{named}: {updates:,} updates and {waiting:,} messages to send."
