"""One open room at a terminal: ties its chat to a transcript, and does what lines ask for."""

from __future__ import annotations

import shlex
import time
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from typing import Final, Protocol

from collab import chat_events as events
from collab.client import Client
from collab.connection import ConnectionStatus, State
from collab.errors import CollabError, WrongState
from collab.events import Failed, Recovered, RoomEvent
from collab.history import History, place_of
from collab.message import Message
from collab.progress import RoomState
from collab.protocol.message_state import MessageState
from collab.room import Room
from collab.terminal import safe, wording
from collab.terminal.commands import COMMANDS, Command, Say, parse
from collab.terminal.transcript import Shown, Transcript

__all__ = ["Conversation", "Watcher"]

_PAGE: Final = 50  # messages that /more shows
_S = MessageState


class Watcher(Protocol):
    """Who shows a conversation. Called on the event loop."""

    def added(self, message: Message) -> None:
        """There is a new message; it is in the transcript."""

    def changed(self, message: Message) -> None:
        """A message has changed; so has the transcript."""

    def noticed(self, text: str, kind: str) -> None:
        """Something is to be said ("notice" or "error"); it is in the transcript."""

    def connected(self, status: ConnectionStatus) -> None:
        """The connection has another state."""

    def refreshed(self) -> None:
        """Anything else has changed: gaps, unread, receipts, how the room stands."""

    def gave_back(self, line: str) -> None:
        """A line was not taken: nothing of it is stored, so whoever typed it must not lose it."""


class Conversation:
    """What a person has before them. ``open`` it first, ``leave`` it last.

    ``sent`` are the messages of this session. ``failures`` counts lines that could not be done.
    """

    def __init__(self, client: Client, room: Room, *, name: str | None, watcher: Watcher) -> None:
        self.transcript: Final = Transcript()
        self.sent: Final[list[Message]] = []
        self.failures = 0
        self._client = client
        self._room = room
        self._meta: Mapping[str, str] = {wording.NAME: name} if name else {}
        self._watcher = watcher
        self._watching = ExitStack()
        self._mark_stands = False  # the unread mark is before something that is still unread

    async def open(self, last: int) -> None:
        """Show the newest ``last`` messages that are here, and from now on what happens."""
        chat = self._room.chat
        for subscription in (chat.observe(self._chat_event), self._room.observe(self._room_event)):
            self._watching.callback(subscription.close)
        if self._client.connection is not None:
            self._watching.callback(self._client.observe(self._watcher.connected).close)
        self._show(await chat.history(last + 1), last)
        self.transcript.gaps = self._room.status.gaps
        self.transcript.mark_unread(chat.unread)
        self._mark_stands = self.transcript.first_unread is not None

    def leave(self, not_taken: int = 0) -> str:
        """Watch no more; what is said on leaving. The room is still to be closed.

        ``not_taken`` counts lines that came back when nobody could see them any more.
        """
        self._watching.close()
        stalled = sum(m.is_mine and m.state is _S.STALLED for m in self.transcript.messages)
        return wording.leaving(self._room.status.pending_messages, stalled, not_taken)

    # How it stands

    @property
    def title(self) -> str:
        """The room's name, harmless."""
        return safe.name(self._room.name)

    @property
    def pending(self) -> int:
        """Messages that the relay has not decided."""
        return self._room.status.pending_messages

    @property
    def unread(self) -> int:
        """Messages of others that were not read."""
        return self._room.chat.unread

    @property
    def connection(self) -> ConnectionStatus | None:
        """How the connection stands; None without a relay."""
        return self._client.connection

    @property
    def is_caught_up(self) -> bool:
        """Whether what the relay had is here, or a fault of the room keeps it away."""
        status = self._room.status
        return status.state is RoomState.LIVE or status.error is not None

    @property
    def trouble(self) -> str:
        """What keeps this room from being saved or synced; "" if nothing does."""
        error = self._room.status.error
        return "" if error is None else wording.fault(error)

    @property
    def is_hopeless(self) -> bool:
        """Whether nothing will come of waiting for the relay."""
        status = self._client.connection
        return status is None or status.state is State.FAILED

    # What lines ask for

    async def do(self, line: str) -> bool:
        """Do what a line asks for; returns whether that was to leave. An error becomes a notice."""
        asked = None
        try:
            match asked := parse(line):
                case None:
                    pass
                case Say(body):
                    self.sent.append(await self._room.chat.send(body, meta=self._meta))
                case Command("quit"):
                    return True
                case Command():
                    await self._command(asked)
        except CollabError as error:
            self.failures += 1
            self.notice(safe.one_line(str(error)), "error")
            if not isinstance(asked, Command) or asked.name == "edit":
                self._watcher.gave_back(line)
        return False

    async def seen(self) -> None:
        """Somebody is in front of the screen: what is shown is read."""
        with suppress(CollabError):  # a disk that takes nothing; the next key tries again
            await self._read()

    def notice(self, text: str, kind: str = "notice") -> None:
        """Say something that is no message."""
        self.transcript.notice(text, kind)
        self._watcher.noticed(text, kind)

    def show_not_taken(self, line: str) -> None:
        """A line came back and the field has another one by now: then it is to be read here."""
        self.notice(f"the line that was not taken: {safe.text(line)}", "error")

    def warned(self, text: str) -> None:
        """Something of the program itself was logged; from any thread."""
        self._client.call_soon(lambda: self.notice(safe.one_line(text), "error"))

    async def _command(self, asked: Command) -> None:
        chat = self._room.chat
        match asked.name:
            case "more":
                await self._more()
            case "edit":
                await chat.edit(self._find(asked, _S.QUEUED), asked.text)
            case "cancel":
                await chat.cancel(self._find(asked, _S.QUEUED, _S.SENDING, _S.STALLED))
            case "retry":
                await chat.retry(self._find(asked, _S.STALLED))
            case "read":
                await self._read()
            case "fork":
                await self._fork(asked.text)
            case "connect":
                self._client.connect()
            case "status":
                for line in self._standing():
                    self.notice(line)
            case "help":
                for name, does in COMMANDS.items():
                    self.notice(does if does.startswith("/") else f"/{name}  {does}")

    def _find(self, asked: Command, *states: MessageState) -> Message:
        transcript = self.transcript
        if asked.number is not None:
            found: Shown | None = transcript.numbered(asked.number)
        else:
            found = transcript.newest(*states)
        if not isinstance(found, Message):
            which = f"no message #{asked.number}" if asked.number else "no such message here"
            raise WrongState(f"There is {which} to /{asked.name}. Nothing was changed.")
        return found

    async def _read(self) -> None:
        await self._room.chat.mark_read()

    async def _fork(self, name: str) -> None:
        kept = await self._room.fork(name)
        await kept.close()
        self.notice(
            f"this room's text is kept as {safe.name(name)} too, on this device; it goes to the "
            f"relay when that room is opened: collab edit {safe.one_line(shlex.quote(name))}"
        )

    async def _more(self) -> None:
        """Fetch the newest gap that is shown; else go back on this disk."""
        transcript = self.transcript
        gap, lowest = transcript.next_gap(), transcript.lowest
        if gap is not None:
            before = len(transcript.messages)
            self._show(await self._room.chat.history(_PAGE, before=gap.high + 1), _PAGE)
            if transcript.next_gap() == gap and len(transcript.messages) == before:
                self.notice("they cannot be fetched now: there is no connection to the relay")
        elif transcript.has_older and lowest is not None:
            first = transcript.messages[0]
            assert isinstance(first, Message)
            self._show(await self._room.chat.history(_PAGE + 1, before=first), _PAGE)
        else:
            self.notice("this is the beginning")
        self.transcript.gaps = self._room.status.gaps
        self._watcher.refreshed()

    def _show(self, found: History, limit: int) -> None:
        """Take a stretch of history in; more than ``limit`` of it says that there is still more."""
        lowest = self.transcript.lowest
        shown = found[-limit:]
        for message in shown:
            self.transcript.put(message, place_of(message))
        if shown and (lowest is None or place_of(shown[0]) < lowest):
            self.transcript.has_older = len(found) > limit
        elif lowest is None or not found:
            self.transcript.has_older = False

    def _standing(self) -> list[str]:
        status = self._room.status
        said = [f"room {self.title}: {wording.connection(self.connection, time.time())}"]
        if why := wording.trouble(self.connection):
            said.append(why)
        said.append(
            f"{wording.messages(status.pending_messages)} to send; {self.unread:,} unread; "
            f"{sum(gap.high - gap.low + 1 for gap in status.gaps if not gap.lost):,} not here"
        )
        if status.refused:
            said.append(f"the relay refuses edits of the document: {safe.one_line(status.refused)}")
        if self.trouble:
            said.append(self.trouble)
        return said

    # What happens

    def _chat_event(self, event: events.ChatEvent) -> None:
        match event:
            case events.MessageAdded(message):
                self._took(message)
                self._arrived(message)
                self._watcher.added(message)
            case events.MessageChanged(message):
                self._took(message)
                self._watcher.changed(message)
            case events.GapsChanged(gaps):
                self.transcript.gaps = gaps
            case events.MessagesLost(low, high):
                self.notice(
                    f"{high - low + 1:,} messages never came here, and the relay keeps them no more"
                )
            case events.UnreadChanged(unread=0):
                self._mark_stands = False  # it is still shown, until something new comes
            case events.StoreRolledBack(reason):
                self.notice(safe.one_line(reason), "error")
            case events.MessagesReplaced(error=error):
                self.notice(safe.one_line(str(error)), "error")
        self._watcher.refreshed()

    def _took(self, message: Message) -> None:
        place = place_of(message)
        if not self.transcript.is_in_reach(message, place):
            return
        self.transcript.put(message, place)
        self.transcript.trim()

    def _arrived(self, message: Message) -> None:
        """The first message of others after all was read is where the unread begin."""
        if self._mark_stands or message.is_mine or message.is_system or not self.unread:
            return
        self._mark_stands = True
        self.transcript.first_unread = message

    def _room_event(self, event: RoomEvent) -> None:
        match event:
            case Failed(error):
                self.notice(wording.fault(error), "error")
            case events.StoreRolledBack(reason):
                self.notice(safe.one_line(reason), "error")
            case Recovered():
                self.notice("the disk takes messages again, and has those that waited")
        self._watcher.refreshed()
