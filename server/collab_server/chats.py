"""The chats of the loaded rooms: what is committed reaches their readers, what is old goes."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from typing import Final

from collab import limits
from collab.protocol import frames
from collab.protocol.members import MemberRow
from collab.protocol.messages import LoggedMessage
from collab.protocol.verdicts import GivenVerdict
from collab_server.chat import Chat, ChatReader, Unserved
from collab_server.lanes import LaneKey
from collab_server.log.chat_port import ChatLog, ChatState
from collab_server.rooms import Loaded, Rooms
from collab_server.settings import Settings

logger = logging.getLogger(__name__)

_RETAIN_EVERY: Final = 1_000  # messages of a room


class Chats:
    """What the chats of one relay ask of its log. Belongs to the event loop's thread."""

    def __init__(
        self,
        log: ChatLog,
        rooms: Rooms,
        settings: Settings,
        *,
        confirms: bool = False,
        by_members: bool = False,
    ) -> None:
        """``confirms``: somebody gives verdicts. ``by_members``: roles are rights."""
        self.log: Final = log
        self.confirms: Final = confirms
        self.by_members: Final = by_members
        self._rooms = rooms
        self._settings = settings
        self._retaining: dict[int, asyncio.Task[None]] = {}
        self._stop_listening: list[Callable[[], None]] = []

    async def __aenter__(self) -> Chats:
        self._stop_listening = [
            self.log.on_messages(self._committed),
            self.log.on_members(self._members_changed),
            self.log.on_verdicts(self._verdicts_given),
        ]
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        for stop in self._stop_listening:
            stop()
        tasks = list(self._retaining.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def state(self, loaded: Loaded, lane: LaneKey, frame: frames.Enter) -> ChatState:
        """How things stand for somebody who enters; from now on the marks of all are known."""
        room_id, chat = loaded.room.id, loaded.chat
        while not chat.is_loaded:
            moves = chat.member_moves
            receipts = await self.log.receipts(room_id, limits.MAX_MARKED_USERS)
            members = await self.log.members(room_id)
            if moves == chat.member_moves and not chat.is_loaded:  # else they are of before
                chat.load(receipts, members)
                self._retain(room_id, chat)
        return await self.log.enter(
            room_id,
            lane,
            generation=frame.generation,
            seq=frame.seq,
            read_upto=chat.read_upto(lane.sub),
        )

    def mark(self, loaded: Loaded, reader: ChatReader, frame: frames.Mark) -> None:
        """Take in how far a reader has come, and tell the others."""
        said = loaded.chat.mark(reader, frame.delivered_upto, frame.read_upto)
        if said is not None:
            self.log.mark(
                loaded.room.id,
                said.user,
                delivered_upto=said.delivered_upto,
                read_upto=said.read_upto,
            )

    async def read_behind(self, loaded: Loaded, reader: ChatReader) -> bytes | Unserved | None:
        """The next frame for a reader that memory does not reach."""
        page = await self.log.after(loaded.room.id, reader.seq)
        return loaded.chat.messages_of(reader, page)

    def _committed(self, room_id: int, head: int, added: Sequence[LoggedMessage]) -> None:
        loaded = self._rooms.loaded(room_id)
        if loaded is None:
            return
        chat = loaded.chat
        chat.committed(head, added)
        for reader in chat.readers:
            if chat.is_behind(reader):
                reader.wake()
        if chat.since_retention >= _RETAIN_EVERY:
            self._retain(room_id, chat)

    def _members_changed(self, room_id: int, rows: Sequence[MemberRow]) -> None:
        loaded = self._rooms.loaded(room_id)
        if loaded is not None:
            loaded.chat.members_changed(rows)

    def _verdicts_given(self, room_id: int, given: Sequence[tuple[int, GivenVerdict]]) -> None:
        loaded = self._rooms.loaded(room_id)
        if loaded is not None:
            loaded.chat.verdicts_given(given)

    def _retain(self, room_id: int, chat: Chat) -> None:
        """Delete what is too old or too much, unless that is under way."""
        if room_id in self._retaining:
            return
        chat.since_retention = 0
        task = asyncio.create_task(self._delete_old(room_id))
        self._retaining[room_id] = task
        task.add_done_callback(lambda _: self._retaining.pop(room_id))

    async def _delete_old(self, room_id: int) -> None:
        now_ms = time.time_ns() // 1_000_000
        oldest_ms = now_ms - round(self._settings.message_retention_s * 1000)
        try:
            await self.log.retain(
                room_id, newer_than_ms=oldest_ms, at_most=self._settings.max_messages_per_room
            )
        except Exception:  # the disk's, most likely; the next thousand messages try again
            logger.exception("old messages could not be deleted")
