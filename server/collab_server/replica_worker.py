"""The process that runs the CRDT engine for the relay: ``python -m collab_server.replica_worker``.

It reads commands from stdin and carries them out one by one, so an answer reflects exactly what was
fed before the question, and names the log's offset up to which that goes. Whatever an update does
to the engine, it does to this process only.

1. While a command is carried out, the marker (memory shared with the relay) names its room. When
   this process dies, the relay reads there whose command it was.
2. Nothing but frames goes to stdout: file descriptor 1 becomes stderr before the engine is loaded.
3. A replica that refused an update is dropped: from then on its room's questions are answered with
   FAILED until it is opened again.
4. The end of stdin is the end of the relay, and of this process.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from collab.crdt.server_replica import ServerReplica
from collab.protocol.coverage import Coverage
from collab.protocol.update import walk
from collab_server.worker_protocol import (
    HEADER,
    MARKER_BYTES,
    NOBODY,
    Decoder,
    Message,
    Tag,
    encode,
    frame_length,
)


@dataclass(slots=True)
class _Replica:
    """One room's document, what the guard found in all that was fed, and how far that goes."""

    document: ServerReplica
    fed: Coverage
    offset: int = 0


class Worker:
    """The replicas, and what each command does to them. Does no I/O."""

    def __init__(self) -> None:
        self._replicas: dict[int, _Replica] = {}
        self._failed: dict[int, str] = {}

    def carry_out(self, message: Message) -> Message | None:
        """Do what ``message`` says; the answer, if it has a number."""
        room, number = message.room, message.number
        try:
            if message.tag in (Tag.OPEN, Tag.DROP):
                self._replicas.pop(room, None)
                self._failed.pop(room, None)
            blobs = [] if room in self._failed else self._act(message)
        except Exception as error:  # noqa: BLE001 - the root: an engine raises what it likes
            reason = f"{type(error).__name__}: {error}"[:500]
            if message.tag is Tag.DIFFERENCE and room in self._replicas:
                return _reasoned(Tag.REFUSED, message, reason)
            self._replicas.pop(room, None)
            self._failed[room] = reason
        if number == 0:
            return None
        if room in self._failed:
            return _reasoned(Tag.FAILED, message, self._failed[room])
        return Message(Tag.ANSWER, room, number, self._replicas[room].offset, blobs)

    def _act(self, message: Message) -> Sequence[bytes]:
        room = message.room
        match message.tag:
            case Tag.OPEN:
                self._replicas[room] = _Replica(ServerReplica(), Coverage())
            case Tag.FEED:
                replica = self._replicas[room]
                for update in message.blobs:
                    replica.fed.add(walk(update))
                replica.document.apply(message.blobs)
                replica.offset = message.offset
            case Tag.DIFFERENCE:
                return [self._replicas[room].document.difference(message.blobs[0])]
            case Tag.SNAPSHOT:
                return _snapshot(self._replicas[room])
            case Tag.DROP:
                pass
            case _:
                raise ValueError(f"{message.tag!r} is not a command")
        return []


def _snapshot(replica: _Replica) -> Sequence[bytes]:
    """The document as one update, and its coverage, if it holds all that was fed.

    The relay deletes updates on the strength of this answer, so it is checked against the guard's
    own account of them: an engine keeps an update that lacks a predecessor out of the document, and
    says nothing.
    """
    snapshot = replica.document.snapshot()
    coverage = Coverage.from_update(snapshot)
    if coverage.clocks != replica.fed.clocks:
        raise RuntimeError("the snapshot does not hold all that was fed")
    return [snapshot, coverage.to_bytes()]


def _reasoned(tag: Tag, question: Message, reason: str) -> Message:
    blobs = [reason.encode(errors="replace")]
    return Message(tag, question.room, question.number, blobs=blobs)


def main() -> None:
    """Serve stdin until it ends. ``argv[1]`` is the file of the marker."""
    stdin, stdout = _take_pipes()
    _be_expendable()
    marker = _map_marker(Path(sys.argv[1]))
    worker, decoder, begun = Worker(), Decoder(), 0
    _write(stdout, Message(Tag.READY, number=os.getpid()))
    while len(header := stdin.read(HEADER.size)) == HEADER.size:
        arrived = decoder.decode(stdin.read(frame_length(header)))
        if arrived is None:
            continue
        begun += 1
        marker[1] = begun
        marker[0] = arrived.room
        answer = worker.carry_out(arrived.whole())
        marker[0] = NOBODY
        if answer is not None:
            _write(stdout, answer)


def _take_pipes() -> tuple[BinaryIO, BinaryIO]:
    stdin = os.fdopen(os.dup(0), "rb", buffering=1 << 20)
    stdout = os.fdopen(os.dup(1), "wb", buffering=1 << 20)
    os.dup2(2, 1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    return stdin, stdout


def _be_expendable() -> None:
    """The relay decides when this process ends, except when memory runs out: then this one goes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("800")
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core file would hold people's texts


def _map_marker(path: Path) -> memoryview:
    with path.open("r+b") as file:
        return memoryview(mmap.mmap(file.fileno(), MARKER_BYTES)).cast("q")


def _write(stdout: BinaryIO, message: Message) -> None:
    for frame in encode(message):
        stdout.write(frame)
    stdout.flush()


if __name__ == "__main__":
    try:
        main()
    except BrokenPipeError:
        os._exit(1)  # the relay is gone; there is nobody to tell
