"""Somebody who speaks a chat's frames over a real socket, and checks what comes. Not a test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count

from collab.protocol import frames
from collab.protocol.members import unpack_members
from collab.protocol.messages import (
    LoggedMessage,
    Receipt,
    unpack_messages,
    unpack_outcomes,
    unpack_receipts,
)
from collab.protocol.verdicts import GivenVerdict, unpack_verdicts
from tests.e2e.support import Speaker, join, scripted_client

DEVICE = b"d" * 16
LANE = b"l" * 16
NOWHERE = (bytes(16), 0)

_numbers = count(1)


def id_of(number: int) -> bytes:
    return number.to_bytes(16, "big")


@dataclass
class Member:
    """One device in one room. Everything that it hears of the chat is kept, in its order."""

    speaker: Speaker
    generation: bytes = b""
    channel: int = -1
    entered: frames.Entered | None = None
    place: int = 0
    messages: list[LoggedMessage] = field(default_factory=list)
    outcomes: dict[int, frames.Outcome] = field(default_factory=dict)
    told: list[frames.Outcome | frames.Expected] = field(default_factory=list)
    pages: dict[int, frames.Page] = field(default_factory=dict)
    receipts: dict[str, Receipt] = field(default_factory=dict)
    left: frames.Left | None = None
    joined: frames.Joined | None = None
    runs: list[frames.Messages] = field(default_factory=list)
    members: dict[str, str] = field(default_factory=dict)  # "" of those who are gone
    changed: list[frames.Changed] = field(default_factory=list)
    verdicts: list[GivenVerdict] = field(default_factory=list)

    async def join(self, room: str) -> None:
        await self.speaker.send(join(room))
        await self.until(lambda: self.joined is not None)
        assert self.joined is not None
        self.channel = self.joined.channel

    async def enter(
        self,
        *,
        lane: bytes = LANE,
        bound: int = 0,
        place: tuple[bytes, int] = NOWHERE,
    ) -> frames.Entered:
        """Enter the chat, and what the relay says of it."""
        self.entered = None
        await self.speaker.send(frames.Enter(self.channel, lane, bound, *place))
        await self.until(lambda: self.entered is not None)
        return self.now

    @property
    def now(self) -> frames.Entered:
        assert self.entered is not None
        return self.entered

    def message(
        self,
        slot: int,
        *,
        number: int | None = None,
        body: str | None = None,
        meta: bytes = b"",
        ttl_ms: int | None = None,
        confirm: bool = False,
    ) -> frames.Send:
        """A SEND whose id and body are made of its slot, or of another number."""
        number = slot if number is None else number
        body = f"m{number}" if body is None else body
        return frames.Send(
            self.channel, slot, id_of(number), body, meta, 1_790_000_000_000, ttl_ms, confirm
        )

    async def send(self, *slots: int) -> None:
        await self.speaker.send(*(self.message(slot) for slot in slots))

    async def say(self, frame: frames.Send | frames.Skip) -> frames.Outcome:
        """Send one frame of the lane, and its outcome."""
        self.outcomes.pop(frame.lane_seq, None)
        await self.speaker.send(frame)
        await self.until(lambda: frame.lane_seq in self.outcomes)
        return self.outcomes[frame.lane_seq]

    async def fetch(self, after: int, before: int, *, newest: bool = False) -> frames.Page:
        request = next(_numbers)
        await self.speaker.send(frames.Fetch(self.channel, request, after, before, newest))
        await self.until(lambda: request in self.pages)
        return self.pages.pop(request)

    async def mark(self, delivered_upto: int, read_upto: int) -> None:
        await self.speaker.send(frames.Mark(self.channel, delivered_upto, read_upto))

    async def catch_up(self) -> list[LoggedMessage]:
        """All messages from ENTERED's place to its head."""
        await self.reach(self.now.head)
        return self.messages

    async def reach(self, seq: int) -> None:
        """Listen until the log up to ``seq`` has come."""
        await self.until(lambda: self.place >= seq)

    @property
    def bodies(self) -> list[str]:
        return [message.body for message in self.messages]

    async def until(self, condition: Callable[[], object]) -> None:
        """Listen until ``condition()`` is true."""
        while not condition():
            await self.hear()

    async def hear(self) -> None:
        """Take in one frame."""
        match await self.speaker.receive():
            case frames.Joined() as joined:
                self.joined = joined
            case frames.Entered() as entered:
                assert entered.oldest - 1 <= entered.after <= entered.head
                self.entered = entered
                self.place = entered.after
                unpack_outcomes(entered.outcomes)
            case frames.Messages(channel, after, upto, data) as run:
                messages = unpack_messages(data)
                assert (channel, after) == (self.channel, self.place)
                assert [message.seq for message in messages] == list(range(after + 1, upto + 1))
                self.messages += messages
                self.runs.append(run)
                self.place = upto
            case frames.Outcome() as outcome:
                self.told.append(outcome)
                self.outcomes[outcome.lane_seq] = outcome
            case frames.Expected() as expected:
                self.told.append(expected)
            case frames.Page() as page:
                messages = unpack_messages(page.data)
                seqs = [message.seq for message in messages]
                assert seqs == list(range(page.after + 1, page.upto + 1))
                self.pages[page.request] = page
            case frames.Receipts(_, data):
                self.receipts.update((receipt.user, receipt) for receipt in unpack_receipts(data))
            case frames.Members(_, whole, data):
                self.members = {**({} if whole else self.members), **dict(unpack_members(data))}
            case frames.Changed() as changed:
                self.changed.append(changed)
            case frames.Verdicts(_, data):
                self.verdicts += unpack_verdicts(data)
            case frames.Left() as left:
                self.left = left
            case _:
                pass


@asynccontextmanager
async def connected(
    url: str, *, device: bytes = DEVICE, token: str | None = None, number: int | None = None
) -> AsyncIterator[Speaker]:
    """A welcomed connection, newer than the last one."""
    number = next(_numbers) if number is None else number
    async with scripted_client(url, device=device, number=number, token=token) as speaker:
        yield speaker


@asynccontextmanager
async def joined(
    url: str, room: str = "talk", *, device: bytes = DEVICE, token: str | None = None
) -> AsyncIterator[Member]:
    """Somebody who has joined the room, and not entered its chat."""
    async with connected(url, device=device, token=token) as speaker:
        member = Member(speaker)
        await member.join(room)
        yield member


@asynccontextmanager
async def entered(
    url: str,
    room: str = "talk",
    *,
    device: bytes = DEVICE,
    token: str | None = None,
    lane: bytes = LANE,
    place: tuple[bytes, int] = NOWHERE,
) -> AsyncIterator[Member]:
    """Somebody in the room's chat."""
    async with joined(url, room, device=device, token=token) as member:
        await member.enter(lane=lane, place=place)
        yield member
