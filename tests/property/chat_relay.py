"""A relay's chat as the protocol describes it, in memory: the model that devices are tried against.

It can be put back from an older copy, forget its lanes, refuse for a while or for good, and drop
its oldest messages. Not a test.
"""

from __future__ import annotations

import copy
from collections import deque
from dataclasses import dataclass, field

from collab import limits
from collab.protocol import frames
from collab.protocol.messages import (
    LoggedMessage,
    Receipt,
    SlotOutcome,
    pack_messages,
    pack_outcomes,
    pack_receipts,
)

CATCH_UP, NEWEST, PAGE = 10, 4, 7  # so small that a short history meets all of them


@dataclass
class Lane:
    """One lane: the last consumed slot, and what the newest of them hold."""

    last: int = 0
    outcomes: list[SlotOutcome] = field(default_factory=list)


@dataclass
class History:
    """What a relay's disk holds of one room."""

    log: list[LoggedMessage] = field(default_factory=list)
    written_in: list[int] = field(default_factory=list)
    generations: list[bytes] = field(default_factory=list)
    lanes: dict[tuple[str, bytes], Lane] = field(default_factory=dict)
    oldest: int = 1
    marks: dict[tuple[str, str], tuple[int, int]] = field(default_factory=dict)

    @property
    def head(self) -> int:
        return len(self.log)


@dataclass(eq=False)
class Reader:
    """One connection of a device to the room."""

    user: str
    device: str
    epoch: bytes = b""
    place: int | None = None
    dropping: bool = False  # EXPECTED was sent; frames beyond the slot are dropped
    down: deque[frames.Frame] = field(default_factory=deque)


class RelayModel:
    """One room of a relay, and who is connected to it."""

    def __init__(self) -> None:
        self.disk = History()
        self.readers: list[Reader] = []
        self.refusals: deque[str] = deque()  # codes for the next SENDs
        self.now = 0
        self._starts = 0
        self.start()

    def start(self) -> None:
        """A new run on the log: nobody is connected."""
        self._starts += 1
        self.disk.generations.append(self._starts.to_bytes(16, "big"))
        self.readers.clear()

    def backup(self) -> History:
        return copy.deepcopy(self.disk)

    def restore(self, backup: History) -> None:
        self.disk = copy.deepcopy(backup)
        self.start()

    @property
    def generation(self) -> bytes:
        return self.disk.generations[-1]

    def retain(self, count: int) -> None:
        """Keep only the newest ``count`` messages."""
        self.disk.oldest = max(self.disk.oldest, self.disk.head - count + 1)

    def connect(self, user: str, device: str) -> Reader:
        for reader in [one for one in self.readers if one.device == device]:
            self.readers.remove(reader)  # fenced
        reader = Reader(user, device)
        self.readers.append(reader)
        return reader

    # What a device sends

    def receive(self, reader: Reader, frame: frames.Frame) -> None:
        match frame:
            case frames.Enter():
                self._enter(reader, frame)
            case frames.Send() | frames.Skip():
                self._slot(reader, frame)
            case frames.Fetch():
                self._fetch(reader, frame)
            case frames.Mark():
                self._mark(reader, frame)
            case _:
                raise AssertionError(frame)
        self._serve()

    def _lane(self, reader: Reader) -> Lane:
        return self.disk.lanes.setdefault((reader.device, reader.epoch), Lane())

    def _enter(self, reader: Reader, frame: frames.Enter) -> None:
        disk = self.disk
        reader.epoch, reader.dropping = frame.lane_epoch, False
        lane = self._lane(reader)
        good = frame.seq == 0 or (
            frame.generation in disk.generations
            and frame.seq <= disk.head
            and disk.written_in[frame.seq - 1] <= disk.generations.index(frame.generation)
        )
        after = frame.seq
        if not good or disk.head - frame.seq > CATCH_UP:
            after = max(disk.head - NEWEST, disk.oldest - 1)
            after = max(after, frame.seq) if good else after
        after = max(after, disk.oldest - 1)
        reader.place = after
        _, read = disk.marks.get((reader.user, ""), (0, 0))
        unread = [one for one in self._retained(read) if one.sender != reader.user]
        reader.down.append(
            frames.Entered(
                channel=frame.channel, lane_seq=lane.last, outcomes=pack_outcomes(lane.outcomes),
                good=good, after=after, head=disk.head, oldest=disk.oldest, read_upto=read,
                unread=min(len(unread), limits.MAX_UNREAD_COUNTED), user=reader.user,
            )
        )  # fmt: skip
        reader.down.append(frames.Receipts(0, pack_receipts(self._receipts(reader.user))))

    def _retained(self, after: int) -> list[LoggedMessage]:
        return [one for one in self.disk.log[after:] if one.seq >= self.disk.oldest]

    def _slot(self, reader: Reader, frame: frames.Send | frames.Skip) -> None:
        lane = self._lane(reader)
        number = frame.lane_seq
        if number <= lane.last:
            known = next((one for one in lane.outcomes if one.lane_seq == number), None)
            answer = known or SlotOutcome(number, frame.message_id, "forgotten", 0)
            self._answer(reader, answer)
            return
        if number > lane.last + 1:
            if not reader.dropping:
                reader.dropping = True
                reader.down.append(frames.Expected(0, lane.last + 1))
            return
        reader.dropping = False
        code, seq = self._judge(reader, frame)
        if code in ("busy", "rate_limited"):
            reader.down.append(frames.Outcome(0, number, frame.message_id, code, 0, 7, "later"))
            return
        outcome = SlotOutcome(number, frame.message_id, code, seq)
        lane.last = number
        lane.outcomes = [*lane.outcomes, outcome][-limits.LANE_WINDOW :]
        self._answer(reader, outcome)

    def _judge(self, reader: Reader, frame: frames.Send | frames.Skip) -> tuple[str, int]:
        if isinstance(frame, frames.Skip):
            return "skipped", 0
        known = next((one for one in self._retained(0) if one.id == frame.message_id), None)
        if known is not None:
            same = (known.sender, known.body, known.meta) == (reader.user, frame.body, frame.meta)
            return ("accepted", known.seq) if same else ("conflict", 0)
        if frame.ttl_ms == 0:
            return "expired", 0
        if self.refusals:
            return self.refusals.popleft(), 0
        disk = self.disk
        seq = disk.head + 1
        disk.log.append(
            LoggedMessage(
                seq, frame.message_id, reader.user, frame.body, frame.meta, frame.sent_at,
                self.now, 0, 0,
            )
        )  # fmt: skip
        disk.written_in.append(len(disk.generations) - 1)
        return "accepted", seq

    def _answer(self, reader: Reader, outcome: SlotOutcome) -> None:
        reader.down.append(
            frames.Outcome(
                0, outcome.lane_seq, outcome.message_id, outcome.code, outcome.seq, 0, ""
            )
        )

    def _fetch(self, reader: Reader, frame: frames.Fetch) -> None:
        disk = self.disk
        low, high = max(frame.after + 1, disk.oldest), min(frame.before - 1, disk.head)
        found = disk.log[low - 1 : high] if low <= high else []
        size = PAGE
        found = found[-size:] if frame.newest else found[:size]
        after, upto = (found[0].seq - 1, found[-1].seq) if found else (frame.after, frame.after)
        reader.down.append(
            frames.Page(0, frame.request, after, upto, disk.oldest, pack_messages(found))
        )

    def _mark(self, reader: Reader, frame: frames.Mark) -> None:
        marks = self.disk.marks
        for key, news in (
            ((reader.user, reader.device), (frame.delivered_upto, 0)),
            ((reader.user, ""), (0, frame.read_upto)),
        ):
            old = marks.get(key, (0, 0))
            marks[key] = (max(old[0], news[0]), max(old[1], news[1]))
        for other in self.readers:
            if other is not reader and other.place is not None:
                mine = [one for one in self._receipts("") if one.user == reader.user]
                other.down.append(frames.Receipts(0, pack_receipts(mine)))

    def _receipts(self, but: str) -> list[Receipt]:
        found: dict[str, tuple[int, int]] = {}
        for (user, _), (delivered, read) in self.disk.marks.items():
            old = found.get(user, (0, 0))
            found[user] = (max(old[0], delivered), max(old[1], read))
        return [Receipt(user, *values) for user, values in found.items() if user != but]

    # What readers get

    def _serve(self) -> None:
        for reader in self.readers:
            while reader.place is not None and reader.place < self.disk.head:
                run = self.disk.log[reader.place : reader.place + PAGE]
                reader.down.append(
                    frames.Messages(0, reader.place, run[-1].seq, pack_messages(run))
                )
                reader.place = run[-1].seq
