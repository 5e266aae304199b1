"""The chat in plain lines, for pipes and logs: each thing that happens is a line.

Lines of the input are sent or done in their order. When the input ends, what was sent is waited
for, for a while; the exit status says what became of it. That nobody reads the output, or that its
disk is full, keeps no line from being sent.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import BinaryIO, Final, TextIO

from collab import limits
from collab.connection import ConnectionStatus, State
from collab.message import Message
from collab.protocol.message_state import PATH, MessageState
from collab.terminal import wording
from collab.terminal.conversation import Conversation
from collab.terminal.transcript import Row

__all__ = ["ACCEPTED", "FAILED", "WAITING", "Plain", "put_line"]

ACCEPTED, FAILED, WAITING = 0, 1, 3  # exit statuses; 2 is a command line that cannot be read

_LINES_AHEAD: Final = 100  # read and not done yet
_LINE_BYTES: Final = 4 * limits.MAX_BODY_BYTES  # of a longer line enough is kept to refuse it
_LOOK_AGAIN_S: Final = 0.2  # the connection is looked at, besides being told of messages


class Plain:
    """Reads ``source`` to its end, writes to ``out``, and what went wrong to ``errors``."""

    def __init__(self, source: BinaryIO, out: TextIO, errors: TextIO, *, wait_s: float) -> None:
        self._source = source
        self._out = out
        self._errors = errors
        self._wait_s = wait_s
        self._conversation: Conversation
        self._news = asyncio.Event()
        self._left = asyncio.Event()
        self._said_of_connection = ""
        self._standing: dict[Message, str] = {}
        self._lines: asyncio.Queue[str | OSError | None] = asyncio.Queue(_LINES_AHEAD)
        self._is_cut_short = False  # lines of the input were read, and not done

    async def run(self, conversation: Conversation) -> int:
        """Read, do, wait; returns the exit status."""
        self._conversation = conversation
        for row in reversed(list(conversation.transcript.rows_backwards())):
            self._say(_plain(row))
        leaving = asyncio.create_task(self._left.wait())
        reading = asyncio.create_task(self._read())
        await asyncio.wait([leaving, reading], return_when=asyncio.FIRST_COMPLETED)
        if not reading.done():
            reading.cancel()
        await asyncio.wait([reading])
        if reading.cancelled():
            self._is_cut_short = self._count_undone() > 0
        else:
            reading.result()
        if not self._left.is_set():
            await self._wait(leaving)
        leaving.cancel()
        return self._verdict()

    def leave(self) -> None:
        """End it without waiting: a signal."""
        self._left.set()

    # What the conversation tells

    def added(self, message: Message) -> None:
        """See Watcher."""
        row = self._conversation.transcript.row(message)
        self._standing[message] = row.tail
        self._say(_plain(row))
        self._news.set()

    def changed(self, message: Message) -> None:
        """See Watcher."""
        transcript = self._conversation.transcript
        standing = wording.standing(message, None)
        if message.is_mine and standing != self._standing.get(message):
            self._standing[message] = standing
            number = transcript.number(message)
            named = f"#{number}" if number is not None else transcript.row(message).body
            self._say(f"-- {named} {standing}")
        self._news.set()

    def noticed(self, text: str, kind: str) -> None:
        """See Watcher."""
        put_line(f"-- {text}", self._errors if kind == "error" else self._out)

    def connected(self, status: ConnectionStatus) -> None:
        """See Watcher."""
        said = f"{status.state}: {status.reason}" if status.state is not State.LIVE else "online"
        if status.state not in (State.CONNECTING, State.PROBING, State.SYNCING):
            if said != self._said_of_connection:  # not each attempt that fails as the last one did
                why = wording.trouble(status)
                said_now = wording.connection(status, time.time())
                self._say(f"-- {said_now}: {why}" if why else f"-- {said_now}")
            self._said_of_connection = said
        self._news.set()

    def refreshed(self) -> None:
        """See Watcher."""
        self._news.set()

    def gave_back(self, line: str) -> None:
        """See Watcher. The error says it; whoever feeds the pipe has the line."""

    # What is read

    async def _read(self) -> None:
        loop = asyncio.get_running_loop()

        def put(line: str | OSError | None) -> None:
            asyncio.run_coroutine_threadsafe(self._lines.put(line), loop).result()

        def feed() -> None:
            with suppress(RuntimeError, asyncio.CancelledError):  # the loop may be gone
                try:
                    for line in _lines_of(self._source):
                        put(line)
                except OSError as error:
                    put(error)
                put(None)

        threading.Thread(target=feed, daemon=True).start()  # not every loop can wait for a pipe
        while (line := await self._lines.get()) is not None:
            if isinstance(line, OSError):
                self._conversation.failures += 1
                self.noticed(f"the input cannot be read any further: {line.strerror}", "error")
                continue
            # Whole or not at all: a signal must not come between a line and what is said of it.
            doing = asyncio.create_task(self._conversation.do(line))
            try:
                left = await asyncio.shield(doing)
            except asyncio.CancelledError:
                await asyncio.wait([doing])
                raise
            if left:
                self._left.set()
                return

    def _count_undone(self) -> int:
        """How many lines wait to be done; says so. There may be more in the pipe."""
        count = 0
        while not self._lines.empty():
            count += isinstance(self._lines.get_nowait(), str)
        if count:
            self.noticed(
                f"stopped before all of the input was done: {count:,} or more of its lines were "
                f"read, and neither sent nor saved",
                "error",
            )
        return count

    async def _wait(self, leaving: asyncio.Task[bool]) -> None:
        """Until all that was sent is decided; or, if nothing was, until what is new is here."""
        deadline = time.monotonic() + self._wait_s
        while not self._is_done():
            left_s = deadline - time.monotonic()
            if left_s <= 0 or self._conversation.is_hopeless:
                return
            self._news.clear()
            news = asyncio.create_task(self._news.wait())
            await asyncio.wait(
                [news, leaving],
                timeout=min(left_s, _LOOK_AGAIN_S),
                return_when=asyncio.FIRST_COMPLETED,
            )
            news.cancel()
            if leaving.done():
                return

    def _is_done(self) -> bool:
        sent = self._conversation.sent
        if sent:
            return not any(_waits(message) for message in sent)
        status = self._conversation.connection
        if status is None or status.next_attempt is not None:
            return True
        return status.state is State.LIVE and self._conversation.is_caught_up

    # What came of it

    def _verdict(self) -> int:
        sent = self._conversation.sent
        accepted = sum(_is_accepted(message) for message in sent)
        waiting = sum(_waits(message) for message in sent)
        ended = sum(
            not _is_accepted(message) and not _waits(message)
            and message.state is not MessageState.CANCELLED
            for message in sent
        )  # fmt: skip
        if sent:
            self._say(
                f"-- of {wording.messages(len(sent))}: {accepted:,} accepted, {waiting:,} waiting, "
                f"{ended:,} not sent"
            )
        if ended or self._conversation.failures or self._is_cut_short:
            return FAILED
        return WAITING if waiting else ACCEPTED

    def _say(self, line: str) -> None:
        put_line(line, self._out)


def put_line(line: str, out: TextIO) -> None:
    """Write a line. If that fails, what it was for is done all the same, and no more is written."""
    try:
        print(line, file=out, flush=True)
    except OSError:  # who read it has gone, or the disk of a log is full
        with suppress(OSError), open(os.devnull, "wb") as nowhere:  # else it fails again at the end
            os.dup2(nowhere.fileno(), out.fileno())


def _is_accepted(message: Message) -> bool:
    return message.state in PATH[2:]


def _waits(message: Message) -> bool:
    return message.state in PATH[:2]


def _plain(row: Row) -> str:
    first = f"{row.lead}: {row.body}" if row.lead else f"-- {row.body}"
    whole = first.replace("\n", "\n      ")
    return f"{whole}  {row.tail}" if row.tail else whole


def _lines_of(source: BinaryIO) -> Iterator[str]:
    """Lines without their ends. What is not UTF-8 stays recognisable as such, and is refused."""
    while line := source.readline(_LINE_BYTES):
        kept = line
        while not line.endswith(b"\n") and (line := source.readline(_LINE_BYTES)):
            pass
        yield kept.rstrip(b"\r\n").decode("utf-8", "surrogateescape")
