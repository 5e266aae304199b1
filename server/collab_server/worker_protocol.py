"""What the relay and its replica worker say to each other; the only module here that knows msgpack.

A frame on the pipe is a length (``>I``, at most ``MAX_PIPE_FRAME_BYTES``) and a msgpack array:

    [tag, room, number, offset, [blob, …]]      a message
    [tag 0, chunk, last]                        a piece of a blob of the next message

Both directions have the same shape. Blobs that together fit ``PART_BYTES`` ride in their message;
otherwise all of them travel before it in pieces, so that no frame is large and a document of any
size passes in turns. The pipe is ordered and has one writer: pieces are never interleaved.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import msgpack

from collab.limits import MAX_DOCUMENT_BYTES

__all__ = [
    "HEADER",
    "MARKER_BYTES",
    "MAX_MESSAGE_BYTES",
    "MAX_PIPE_FRAME_BYTES",
    "NOBODY",
    "PART_BYTES",
    "Arrived",
    "Decoder",
    "Message",
    "PipeError",
    "Tag",
    "encode",
    "frame_length",
    "group",
]

HEADER: Final = struct.Struct(">I")
PART_BYTES: Final = 256 * 1024  # copied within a fraction of a millisecond
_BLOB_OVERHEAD: Final = 5  # msgpack's header of a blob
MAX_PIPE_FRAME_BYTES: Final = PART_BYTES + 1024
MAX_MESSAGE_BYTES: Final = 4 * MAX_DOCUMENT_BYTES  # the end with a broken engine may say anything
MARKER_BYTES: Final = 16  # two words: the room of the present command; how many commands began
NOBODY: Final = -1  # in the marker: no command is being carried out


class Tag(enum.IntEnum):
    """What a message asks or answers."""

    PIECE = 0
    OPEN = 1  # an empty replica of this room, whatever was there
    FEED = 2  # apply these updates, in this order: then it has all of the log up to the offset
    DIFFERENCE = 4  # [state vector] -> ANSWER [update]
    SNAPSHOT = 5  # -> ANSWER [update, coverage]
    DROP = 6  # forget the replica
    READY = 7  # the worker's first words
    ANSWER = 8
    FAILED = 9  # [reason]: the replica could not be kept, and was dropped
    REFUSED = 10  # [reason]: the question was no question; the replica is as it was


class PipeError(Exception):
    """The other end of the pipe does not speak this protocol."""


@dataclass(frozen=True, slots=True)
class Message:
    """``number`` pairs a question with its answer; 0 means that there is none.

    ``offset`` is a place in the log: of what FEED brings, and of what an ANSWER was made from.
    """

    tag: Tag
    room: int = NOBODY
    number: int = 0
    offset: int = 0
    blobs: Sequence[bytes] = ()


def encode(message: Message) -> Iterator[bytes]:
    """The frames of a message, each of bounded length."""
    blobs = message.blobs
    if sum(len(blob) + _BLOB_OVERHEAD for blob in blobs) > PART_BYTES:
        for blob in blobs:
            yield from _pieces(blob)
        blobs = ()
    yield _frame([int(message.tag), message.room, message.number, message.offset, list(blobs)])


def group(updates: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    """Cut a run of updates where a message would no longer carry them whole."""
    start = size = 0
    for end, update in enumerate(updates):
        size += len(update) + _BLOB_OVERHEAD
        if size > PART_BYTES and end > start:
            yield updates[start:end]
            start, size = end, len(update) + _BLOB_OVERHEAD
    if start < len(updates):
        yield updates[start:]


def frame_length(header: bytes) -> int:
    """The length that a frame's header announces. Raises ``PipeError`` above the bound."""
    length: int = HEADER.unpack(header)[0]
    if length > MAX_PIPE_FRAME_BYTES:
        raise PipeError(f"a frame of {length} bytes")
    return length


@dataclass(frozen=True, slots=True)
class Arrived:
    """A message that is complete, its blobs still in pieces."""

    tag: Tag
    room: int
    number: int
    offset: int
    blobs: Sequence[Sequence[bytes]]

    @property
    def is_large(self) -> bool:
        """Whether putting it together takes milliseconds: do that in a thread."""
        return any(len(pieces) > 4 for pieces in self.blobs)

    def whole(self) -> Message:
        """The message itself."""
        blobs = [pieces[0] if len(pieces) == 1 else b"".join(pieces) for pieces in self.blobs]
        return Message(self.tag, self.room, self.number, self.offset, blobs)


class Decoder:
    """Puts messages together from frames without their headers."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._blobs: list[list[bytes]] = []
        self._size = 0

    def decode(self, frame: bytes) -> Arrived | None:
        """The message that ``frame`` completes. Raises ``PipeError`` for anything else."""
        try:
            match msgpack.unpackb(frame, use_list=True):
                case [Tag.PIECE, bytes(chunk), bool(last)]:
                    self._take(chunk, last=last)
                    return None
                case [int(tag), int(room), int(number), int(offset), [*inline]] if all(
                    type(blob) is bytes for blob in inline
                ):
                    self._size = 0
                    blobs = [*self._blobs, *([blob] for blob in inline)]
                    self._blobs = []
                    return Arrived(Tag(tag), room, number, offset, blobs)
        except (ValueError, msgpack.UnpackException) as error:
            raise PipeError(f"a frame that is not ours: {error}") from error
        raise PipeError("a frame that is not ours")

    def _take(self, chunk: bytes, *, last: bool) -> None:
        self._size += len(chunk)
        if self._size > MAX_MESSAGE_BYTES:
            raise PipeError(f"a message of more than {MAX_MESSAGE_BYTES} bytes")
        self._pieces.append(chunk)
        if last:
            self._blobs.append(self._pieces)
            self._pieces = []


def _pieces(blob: bytes) -> Iterator[bytes]:
    view = memoryview(blob)
    last = max(0, (len(blob) - 1) // PART_BYTES) * PART_BYTES
    for start in range(0, last + 1, PART_BYTES):
        yield _frame([int(Tag.PIECE), view[start : start + PART_BYTES], start == last])


def _frame(content: list[object]) -> bytes:
    body: bytes = msgpack.packb(content)
    return HEADER.pack(len(body)) + body
