"""Two devices and a relay, and all that can happen to them, drawn from a seed. Not a test.

The devices are the real machine on the real SQL; the relay is a model of the protocol. Each device
may have a second file: a copy of its own from some time, which takes its place now and then.
"""

from __future__ import annotations

import random
import sqlite3
from collections import Counter, deque
from functools import partial
from itertools import count

from collab.protocol import frames
from collab.protocol.chat_sync import ChatFrame
from collab.protocol.gaps import Gap
from collab.protocol.message_state import ENDED, MessageState
from collab.storage.message_rows import MessageRow
from tests.property.chat_device import DeviceModel, copy_of, new_file
from tests.property.chat_relay import History, Reader, RelayModel

IN_LOG = ("accepted", "delivered", "read")
BOTH = (0, 1)


class Wire:
    """A connection: frames on their way up; those on their way down are the reader's."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self.up: deque[frames.Frame] = deque()


class ChatWorld:
    """One history. ``run`` plays it, heals what is broken, and checks that all agree."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.log: list[str] = []  # what happened, for whoever reads a failure
        self.epochs = (number.to_bytes(16, "little") for number in count(1))
        self.ids = (number.to_bytes(16, "big") for number in count(1))
        self.relay = RelayModel()
        self.backups: list[History] = []
        self.spare: list[sqlite3.Connection | None] = [None, None]
        self.wires: list[Wire | None] = [None, None]
        self.devices = [DeviceModel(new_file(self.epoch()), self.epoch) for _ in BOTH]
        self.sent: list[dict[bytes, None]] = [{}, {}]  # what send() returned for, in order
        self.reordered = [False, False]  # a retry, or two files, may change the order
        self.replaced = False  # the relay lost what it had accepted
        self.pruned = False
        self.seen: Counter[str] = Counter()  # what the history met, to know what it tries

    def epoch(self) -> bytes:
        return next(self.epochs)

    def run(self, steps: int) -> None:
        weights = {
            self.send: 20, self.exchange: 25, self.whisper: 15, self.commit: 4, self.crash: 4,
            self.cut: 5, self.wait: 5, self.cancel: 4, self.retry: 3, self.read: 2, self.fetch: 5,
            self.refuse: 4, self.refuse_for_long: 4, self.restart_relay: 2, self.back_up: 3,
            self.restore: 2, self.prune: 1, self.copy_file: 4, self.swap_files: 5,
        }  # fmt: skip
        acts = list(weights)
        for _ in range(steps):
            act = self.dice.choices(acts, list(weights.values()))[0]
            at = self.dice.choice(BOTH)
            self.log.append(f"{act.__name__} {at}")
            act(at)
            self.check()
        self.log.append("heal")
        self.end()

    # The program

    def send(self, at: int) -> None:
        for _ in range(self.dice.choice((1, 2, 5, 20))):
            message_id = next(self.ids)
            ttl = self.dice.choice((None, None, 10_000_000, 100_000))
            told = partial(self.sent[at].setdefault, message_id)
            self.devices[at].send(message_id, f"{at}: {message_id.hex()[-4:]}", ttl, told)

    def cancel(self, at: int) -> None:
        open_states = ("queued", "sending", "stalled")
        rows = [row for row in self.devices[at].own() if row.state in open_states]
        if rows:
            self.devices[at].cancel(self.dice.choice(rows))

    def retry(self, at: int) -> None:
        for row in self.devices[at].own():
            if row.state is MessageState.STALLED:
                self.devices[at].retry(row)
                self.reordered[at] = True

    def read(self, at: int) -> None:
        self.devices[at].read()

    def fetch(self, at: int) -> None:
        device = self.devices[at]
        newest = self.dice.random() < 0.5
        seq = device.machine.reader.seq
        missing = [gap for gap in device.gaps() if not gap.lost and gap.high <= seq]
        if missing and device.machine.is_open:
            gap = missing[-1 if newest else 0]
            device.machine.reader.ask(gap.low, gap.high, newest=newest)
            self.exchange(at)

    # The disk and the clock

    def commit(self, at: int) -> None:
        self.devices[at].commit_once()

    def crash(self, at: int) -> None:
        self.wires[at] = None
        self.devices[at].load()

    def wait(self, _: int) -> None:
        ms = self.dice.choice((1, 100, 1_000, 60_000))
        for device in self.devices:
            device.tick(ms)

    # The network

    def connect(self, at: int) -> None:
        self.wires[at] = Wire(self.relay.connect(f"user{at}", f"device{at}"))
        machine = self.devices[at].machine
        machine.detach()
        machine.joined(0, self.relay.generation)

    def exchange(self, at: int) -> None:
        """Both or one speak for a while; what is on its way in the end may be lost."""
        those = self.dice.choice(((at,), BOTH))
        for one in those:
            if self.wires[one] is None:
                self.connect(one)
        for _ in range(self.dice.randrange(1, 12)):
            for one in those:
                for way in (self.speak, self.up, self.down):
                    if self.dice.random() < 0.9:
                        way(one, self.dice.choice((3, 20)))
                self.devices[one].tick(1)
                if self.dice.random() < 0.9:
                    self.devices[one].commit_once()
        if self.dice.random() < 0.3:
            self.dice.choice((self.cut, self.crash, self.connect))(at)

    def whisper(self, at: int) -> None:
        """A few frames one way."""
        way = self.dice.choice((self.speak, self.up, self.down))
        way(at, self.dice.randrange(1, 20))

    def cut(self, at: int) -> None:
        self.wires[at] = None
        self.devices[at].machine.detach()

    def speak(self, at: int, many: int) -> None:
        wire, device = self.wires[at], self.devices[at]
        for _ in range(many if wire is not None else 0):
            frame = device.machine.next_frame(device.now)
            if frame is None or wire is None:
                return
            check_disk(device, frame)
            wire.up.append(frame)

    def up(self, at: int, many: int) -> None:
        wire = self.wires[at]
        if wire is None or wire.reader not in self.relay.readers:
            return
        for _ in range(min(many, len(wire.up))):
            self.relay.receive(wire.reader, wire.up.popleft())

    def down(self, at: int, many: int) -> None:
        wire = self.wires[at]
        for _ in range(min(many, len(wire.reader.down)) if wire is not None else 0):
            assert wire is not None
            frame = wire.reader.down.popleft()
            assert isinstance(frame, ChatFrame)
            self.devices[at].receive(frame)

    # The relay

    def refuse(self, _: int) -> None:
        codes = ["busy", "rate_limited", "invalid", "own"]
        self.relay.refusals.extend(self.dice.choices(codes, k=self.dice.randrange(1, 4)))

    def refuse_for_long(self, _: int) -> None:
        self.relay.refusals.extend(["busy"] * 12)

    def restart_relay(self, _: int) -> None:
        self.relay.start()
        for at in BOTH:
            self.cut(at)

    def back_up(self, _: int) -> None:
        self.backups.append(self.relay.backup())

    def restore(self, at: int) -> None:
        if self.backups:
            self.relay.restore(self.dice.choice(self.backups))
            self.replaced = True
            for one in BOTH:
                self.cut(one)
            self.exchange(at)

    def prune(self, _: int) -> None:
        if self.relay.disk.head > 5:
            self.relay.retain(self.dice.randrange(20))
            self.pruned = True

    # The file

    def copy_file(self, at: int) -> None:
        old, device = self.spare[at], self.devices[at]
        self.spare[at] = copy_of(device.file)
        if old is not None:  # what was sent from the overwritten file alone only the log has
            kept = {row.id for row in device.own()}
            for message_id in [one for one in self.sent[at] if one not in kept]:
                del self.sent[at][message_id]

    def swap_files(self, at: int) -> None:
        if self.change_files(at) and self.dice.random() < 0.7:
            self.exchange(at)

    def change_files(self, at: int) -> bool:
        """The copy is used from now on, and what was used is the copy."""
        spare, device = self.spare[at], self.devices[at]
        if spare is None:
            return False
        self.wires[at] = None
        self.spare[at], device.file = device.file, spare
        device.load()
        self.reordered[at] = True
        return True

    # What always holds

    def check(self) -> None:
        for at, device in enumerate(self.devices):
            check_mark(device)
            (bound,) = device.file.execute(
                "SELECT count(*) FROM messages WHERE slot IS NOT NULL"
            ).fetchone()
            assert bound <= 16
            if not self.reordered[at]:
                assert [row.id for row in device.own()] == list(self.sent[at])
        self.check_log()

    def check_log(self) -> None:
        log = self.relay.disk.log
        if not self.pruned:  # else the relay may have forgotten the id
            assert len({message.id for message in log}) == len(log)
        if self.replaced:
            return
        for at, device in enumerate(self.devices):
            if not self.reordered[at]:
                mine = [message.id for message in log if message.sender == f"user{at}"]
                assert mine == sorted(mine)
            for row in device.own():
                if row.state in IN_LOG:
                    assert row.seq is not None
                    assert log[row.seq - 1].id == row.id

    # The end

    def end(self) -> None:
        """All is healed; then nothing waits, and all agree."""
        self.relay.refusals.clear()
        for _ in range(2):
            self.heal()
            for at in BOTH:
                self.check_quiet(self.devices[at])
                self.change_files(at)
        self.heal()
        self.check()
        log = {message.seq: message for message in self.relay.disk.log}
        self.check_nothing_is_gone({message.id for message in log.values()})
        for device in self.devices:
            self.check_quiet(device)
            self.count(device)
            for seq, row in device.log().items():
                if seq >= self.relay.disk.oldest:
                    assert (row.id, row.body) == (log[seq].id, log[seq].body)
                    assert not row.replaced

    def heal(self) -> None:
        for _ in range(2):  # the second time for what the first brought up: another history, say
            for at in BOTH:
                self.connect(at)
            for _ in range(600):
                for at, device in enumerate(self.devices):
                    device.tick(2_000)
                    device.commit()
                    self.speak(at, 100)
                    self.up(at, 100)
                    self.down(at, 100)
                    device.commit()
                if self.is_quiet():
                    break
            else:
                raise AssertionError("it never becomes quiet")
        for at in BOTH:
            self.fill(at)

    def fill(self, at: int) -> None:
        """Fetch all that is missing; every page brings something."""
        device = self.devices[at]
        while missing := [gap for gap in device.gaps() if not gap.lost]:
            gap = missing[self.dice.choice((0, -1))]
            device.machine.reader.ask(gap.low, gap.high, newest=self.dice.random() < 0.5)
            before = device.gaps()
            self.speak(at, 100)
            self.up(at, 100)
            self.down(at, 100)
            device.commit()
            assert device.gaps() != before

    def is_quiet(self) -> bool:
        return all(
            device.machine.is_level
            and wire is not None
            and not wire.up
            and not wire.reader.down
            and device.machine.next_frame(device.now + 10_000) is None
            for device, wire in zip(self.devices, self.wires, strict=True)
        )

    def check_quiet(self, device: DeviceModel) -> None:
        for row in device.own():
            assert row.state in {*ENDED, MessageState.STALLED, *IN_LOG}, row
            assert row.slot is None
        assert device.seq == self.relay.disk.head
        assert all(gap.lost for gap in device.gaps())
        (read,) = device.file.execute("SELECT read_upto FROM chats").fetchone()
        here = device.log().items()
        assert device.unread() == sum(not row.mine for seq, row in here if seq > read)

    def check_nothing_is_gone(self, ids: set[bytes]) -> None:
        for at, device in enumerate(self.devices):
            files = [device.file, self.spare[at]]
            own: dict[bytes, list[MessageRow]] = {}
            for file in files:
                for row in _own(file) if file is not None else ():
                    own.setdefault(row.id, []).append(row)
            for message_id in self.sent[at]:
                rows = own.get(message_id, [])
                assert rows or message_id in ids or self.pruned, message_id
                accepted = any(row.state in IN_LOG for row in rows)
                if accepted and not self.pruned:
                    assert message_id in ids
                if message_id in ids and not self.pruned:
                    # What is in the log is nowhere called anything else.
                    assert all(row.state in IN_LOG for row in rows), rows

    def count(self, device: DeviceModel) -> None:
        for change, stored in device.shown:
            self.seen[type(change).__name__] += 1
            self.seen["rolled back"] += getattr(change, "rolled_back", False)
            self.seen["reoffered"] += stored.reoffered
            self.seen["kept"] += stored.replaced
            self.seen["lost"] += len(stored.lost)
            self.seen["logged first"] += len(stored.logged)
        for row in device.own():
            self.seen[row.state.value] += 1


def _own(file: sqlite3.Connection) -> list[MessageRow]:
    from collab.storage.message_rows import select

    return select(file, "WHERE position IS NOT NULL", ())


def check_disk(device: DeviceModel, frame: frames.Frame) -> None:
    """What goes up says nothing that a crash could take back."""
    epoch, seq = device.file.execute("SELECT lane_epoch, seq FROM chats").fetchone()
    match frame:
        case frames.Enter():
            assert frame.lane_epoch == epoch
        case frames.Send() | frames.Skip():
            assert device.machine.outbox.lane_epoch == epoch
            row = device.file.execute(
                "SELECT message_id, body, giving_up FROM messages WHERE slot = ?",
                (frame.lane_seq,),
            ).fetchone()
            assert row is not None
            assert row[0] == frame.message_id
            if isinstance(frame, frames.Send):
                assert row[1] == frame.body
            else:
                assert row[2] is not None
        case frames.Mark():
            assert frame.delivered_upto <= seq


def check_mark(device: DeviceModel) -> None:
    """Every number up to the mark is here or in a gap, and what is lost is not here."""
    here, gaps = device.log(), device.gaps()
    for seq in range(1, device.seq + 1):
        assert seq in here or covered(gaps, seq, lost=True) or covered(gaps, seq, lost=False), seq
    for gap in gaps:
        assert gap.high <= device.seq
        if gap.lost:
            assert not any(gap.low <= seq <= gap.high for seq in here)


def covered(gaps: tuple[Gap, ...], seq: int, *, lost: bool) -> bool:
    """Whether ``seq`` lies in a gap of this kind."""
    return any(gap.low <= seq <= gap.high and gap.lost is lost for gap in gaps)
