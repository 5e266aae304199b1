"""What is a room made of when it is read from the log? Needs no engine."""

from __future__ import annotations

from typing import Final

from collab.errors import BadUpdate
from collab.protocol.update import Coverage, walk
from collab_server.log.port import RoomRow, StoredRoom
from collab_server.room import Room

EMPTY_UPDATE: Final = b"\0\0"


def room_of(row: RoomRow, stored: StoredRoom, coverage: Coverage, *, channel: int) -> Room:
    """The room in memory, with ``coverage`` of all that is stored of it."""
    return Room(
        room_id=row.id,
        channel=channel,
        name=row.name,
        epoch=row.epoch,
        base=stored.base,
        head=last_offset(stored),
        coverage=coverage,
        snapshot_bytes=len(stored.snapshot or b""),
        log_bytes=sum(len(data) for _, data in stored.updates),
    )


def last_offset(stored: StoredRoom) -> int:
    """The offset of the newest update."""
    return max([stored.snapshot_offset, *(offset for offset, _ in stored.updates)])


def coverage_of(stored: StoredRoom) -> Coverage:
    """What a stored room contains. Raises :class:`BadUpdate` if its log is damaged."""
    coverage = Coverage()
    if stored.coverage is not None:
        try:
            coverage = Coverage.from_bytes(stored.coverage)
        except BadUpdate:  # of another version of this program
            coverage = Coverage.from_update(stored.snapshot or EMPTY_UPDATE)
    elif stored.snapshot is not None:
        coverage = Coverage.from_update(stored.snapshot)
    for _, data in stored.updates:
        coverage.add(walk(data))
    return coverage
