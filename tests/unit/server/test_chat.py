"""What each reader of a room's chat gets next."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from collab import limits
from collab.protocol import frames
from collab.protocol.codec import decode_from_relay
from collab.protocol.members import unpack_members
from collab.protocol.messages import (
    LoggedMessage,
    Receipt,
    Verdict,
    unpack_messages,
    unpack_receipts,
)
from collab.protocol.verdicts import GivenVerdict, unpack_verdicts
from collab_server.chat import BEHIND, OVERTAKEN, Chat, ChatReader, catch_up_from
from collab_server.lanes import NEW_LANE
from collab_server.log.chat_port import ChatState, Page

CHANNEL = 5


def message(seq: int, body: str = "x") -> LoggedMessage:
    return LoggedMessage(seq, seq.to_bytes(16, "big"), "ana", body, b"", 1, 2, 0, 0)


def run(first: int, last: int, body: str = "x") -> list[LoggedMessage]:
    return [message(seq, body) for seq in range(first, last + 1)]


def state(head: int = 0, oldest: int = 1, *, good: bool = True) -> ChatState:
    return ChatState(NEW_LANE, good, head, oldest, 0, 0)


def chat_of(*receipts: Receipt) -> Chat:
    chat = Chat(CHANNEL)
    chat.load(receipts)
    return chat


def enter(
    chat: Chat, user: str = "ana", *, at: ChatState | None = None, seq: int = 0
) -> ChatReader:
    woken: list[int] = []
    reader = ChatReader(user, lambda: woken.append(1))
    chat.enter(reader, at or state(chat.head), seq, 0)
    return reader


def next_run(chat: Chat, reader: ChatReader) -> tuple[int, int, list[int]]:
    """The next MESSAGES of a reader: after, upto, and the seqs in it."""
    encoded = chat.next_messages(reader)
    assert isinstance(encoded, bytes)
    frame = decode_from_relay(encoded)
    assert isinstance(frame, frames.Messages)
    assert frame.channel == CHANNEL
    return frame.after, frame.upto, [m.seq for m in unpack_messages(frame.data)]


def receipts_for(chat: Chat, reader: ChatReader) -> list[Receipt]:
    encoded = chat.next_receipts(reader)
    if encoded is None:
        return []
    frame = decode_from_relay(encoded)
    assert isinstance(frame, frames.Receipts)
    return unpack_receipts(frame.data)


# --- where a reader begins ---


@pytest.mark.parametrize(
    ("head", "oldest", "good", "seq", "granted", "after"),
    [
        (0, 1, True, 0, 0, 0),
        (500, 1, True, 500, 0, 500),
        (500, 1, True, 200, 0, 200),  # 300 are missed
        (500, 1, True, 199, 0, 450),  # and one more
        (500, 1, True, 480, 5_000, 480),  # never below what it has
        (500, 1, True, 400, 1_900, 400),
        (500, 1, True, 400, 1_901, 450),  # all rooms together would be above their bound
        (500, 491, True, 300, 0, 490),  # what it missed is gone but for ten
        (500, 501, True, 300, 0, 500),  # and here all of it
        (500, 1, False, 499, 0, 450),
        (200, 1, False, 199, 0, 0),
        (500, 491, False, 499, 0, 490),
    ],
)
def test_a_reader_begins_where_the_limits_say(
    head: int, oldest: int, good: bool, seq: int, granted: int, after: int
) -> None:
    assert catch_up_from(state(head, oldest, good=good), seq, granted) == after


def test_who_enters_is_told_its_state_and_who_it_is() -> None:
    chat = chat_of()
    reader = ChatReader("ana", lambda: None)
    told = chat.enter(reader, ChatState(NEW_LANE, True, 9, 3, 4, 2), 7, 0)
    assert told == frames.Entered(CHANNEL, 0, b"\x90", True, 7, 9, 3, 4, 2, "ana")


# --- reading ---


def test_a_run_is_encoded_once_for_all_readers_at_the_same_place() -> None:
    chat = chat_of()
    readers = [enter(chat) for _ in range(3)]
    chat.committed(2, run(1, 2))
    encoded = {id(chat.next_messages(reader)) for reader in readers}
    assert len(encoded) == 1
    assert all(chat.next_messages(reader) is None for reader in readers)


def test_a_run_has_a_hundred_messages_and_a_frames_bytes_at_most() -> None:
    chat = chat_of()
    reader = enter(chat)
    chat.committed(250, run(1, 250))
    assert [next_run(chat, reader)[:2] for _ in range(3)] == [(0, 100), (100, 200), (200, 250)]
    chat.committed(260, run(251, 260, "x" * limits.MAX_BODY_BYTES))
    assert next_run(chat, reader)[:2] == (250, 255)


def test_a_reader_below_the_tail_reads_the_log_and_then_goes_on_from_memory() -> None:
    chat = chat_of()
    reader = enter(chat, at=state(10), seq=7)
    assert chat.next_messages(reader) is BEHIND
    chat.committed(11, run(11, 11))
    assert chat.next_messages(reader) is BEHIND
    assert chat.messages_of(reader, Page(run(8, 10), 1)) is not None
    assert next_run(chat, reader) == (10, 11, [11])


def test_a_commit_that_nobody_saw_sends_readers_to_the_log() -> None:
    chat = chat_of()
    reader = enter(chat)
    chat.committed(3, run(1, 3))
    chat.committed(7, run(6, 7))  # 4 and 5 were committed, and nobody was told
    assert chat.next_messages(reader) is BEHIND
    assert chat.messages_of(reader, Page(run(1, 5), 1)) is not None
    assert next_run(chat, reader) == (5, 7, [6, 7])
    chat.committed(9, [])
    assert chat.next_messages(reader) is BEHIND


def test_the_log_may_be_ahead_of_what_memory_was_told() -> None:
    chat = chat_of()
    reader = enter(chat, at=state(5), seq=3)
    assert chat.messages_of(reader, Page(run(4, 8), 1)) is not None
    assert chat.next_messages(reader) is None
    chat.committed(8, run(6, 8))
    assert chat.next_messages(reader) is None
    other = enter(chat, at=state(9), seq=9)  # it heard of the head before the commit was told
    chat.committed(9, run(9, 9))
    assert chat.next_messages(other) is None
    assert chat.next_messages(reader) is BEHIND


@pytest.mark.parametrize("rest", [[], run(9, 10)])
def test_a_reader_is_never_sent_a_run_with_a_hole(rest: list[LoggedMessage]) -> None:
    chat = chat_of()
    reader = enter(chat, at=state(10), seq=3)
    assert chat.messages_of(reader, Page(rest, 9)) is OVERTAKEN
    assert reader.seq == 3


def test_the_tail_keeps_what_somebody_lacks_within_its_bounds_and_nothing_else() -> None:
    chat = chat_of()
    quick, slow = enter(chat), enter(chat)
    for seq in range(1, 3 * limits.MAX_TAIL_MESSAGES):
        chat.committed(seq, [message(seq)])
        next_run(chat, quick)
        assert len(chat._tail) <= limits.MAX_TAIL_MESSAGES
    assert len(chat._tail) == limits.MAX_TAIL_MESSAGES
    for seq in range(chat.head + 1, chat.head + 100):
        chat.committed(seq, [message(seq, "x" * limits.MAX_BODY_BYTES)])
        next_run(chat, quick)
    assert chat._tail_bytes <= limits.MAX_TAIL_MESSAGE_BYTES
    chat.leave(slow)
    chat.committed(chat.head + 1, [message(chat.head + 1)])
    assert len(chat._tail) <= 1
    assert chat._tail_bytes == sum(97 + len(m.body) + 2 for m in chat._tail)


@pytest.mark.parametrize("seed", range(20))
def test_every_reader_gets_every_message_once_and_in_order(seed: int) -> None:
    dice = random.Random(seed)
    chat, log = chat_of(), [message(0)]
    readers: dict[ChatReader, list[int]] = {}
    announced = 0
    for _ in range(600):
        match dice.choice(["write", "announce", "enter", "read", "read", "leave"]):
            case "write":
                log += run(len(log), len(log) + dice.randrange(1, 40))
            case "announce" if announced < len(log) - 1:
                unseen = dice.random() < 0.1
                first = dice.randrange(announced + 1, len(log)) if unseen else announced + 1
                chat.committed(len(log) - 1, log[first:] if dice.random() < 0.9 else [])
                announced = len(log) - 1
            case "enter":
                seq = dice.randrange(len(log))
                reader = enter(chat, at=state(len(log) - 1), seq=seq)
                readers[reader] = [reader.seq]
            case "read" if readers:
                reader = dice.choice(list(readers))
                got = chat.next_messages(reader)
                if got is BEHIND:
                    page = log[reader.seq + 1 : reader.seq + 1 + dice.randrange(1, 100)]
                    got = chat.messages_of(reader, Page(page, 1))
                if got is not None:
                    assert isinstance(got, bytes)
                    frame = decode_from_relay(got)
                    assert isinstance(frame, frames.Messages)
                    assert frame.after == readers[reader][-1]
                    readers[reader] += [m.seq for m in unpack_messages(frame.data)]
                    assert frame.upto == readers[reader][-1] == reader.seq
            case "leave" if len(readers) > 5:
                reader = dice.choice(list(readers))
                chat.leave(reader)
                del readers[reader]
    for got_seqs in readers.values():
        assert got_seqs == list(range(got_seqs[0], got_seqs[-1] + 1))


# --- marks ---


def test_marks_are_told_to_all_but_the_connection_that_made_them() -> None:
    chat = chat_of()
    ana, anas_laptop, ben = enter(chat, "ana"), enter(chat, "ana"), enter(chat, "ben")
    chat.committed(9, run(1, 9))
    assert chat.mark(ana, 5, 3) == Receipt("ana", 5, 3)
    assert chat.mark(ana, 4, 4) == Receipt("ana", 4, 4)
    assert chat.mark(ana, 5, 4) is None
    assert chat.mark(ana, 3, 1) is None
    told = [receipts_for(chat, reader) for reader in (ana, anas_laptop, ben)]
    assert told == [[], [Receipt("ana", 5, 4)], [Receipt("ana", 5, 4)]]
    assert receipts_for(chat, ben) == []
    assert chat.read_upto("ana") == 4
    assert chat.read_upto("nobody") == 0


def test_marks_end_at_the_head() -> None:
    chat = chat_of()
    ana = enter(chat)
    chat.committed(3, run(1, 3))
    assert chat.mark(ana, 2**62, 2**62) == Receipt("ana", 3, 3)


def test_a_mark_of_what_was_read_from_the_log_stands_before_its_commit_is_told() -> None:
    chat = chat_of()
    ana, ben = enter(chat, "ana", at=state(2)), enter(chat, "ben", at=state(2))
    assert chat.messages_of(ana, Page(run(1, 3), 1)) is not None  # 3 is durable, and not told yet
    assert chat.mark(ana, 3, 0) == Receipt("ana", 3, 0)
    chat.committed(3, run(3, 3))
    assert chat.mark(ana, 3, 0) is None
    assert receipts_for(chat, ben) == [Receipt("ana", 3, 0)]
    assert chat.next_messages(ben) is BEHIND
    assert chat.messages_of(ben, Page(run(1, 3), 1)) is not None


def test_who_enters_is_due_the_marks_of_all_others() -> None:
    chat = chat_of(Receipt("ana", 1, 1), Receipt("ben", 2, 2), Receipt("cat", 3, 3))
    ben = enter(chat, "ben", at=replace(state(), read_upto=2))
    assert receipts_for(chat, ben) == [Receipt("ana", 1, 1), Receipt("cat", 3, 3)]


def test_who_enters_is_due_what_its_user_read_elsewhere_since_its_state_was_read() -> None:
    chat = chat_of(Receipt("ana", 1, 1))
    laptop = enter(chat, at=state(3))
    before = state(3)  # of the log, for another device of hers, which enters now
    assert chat.mark(laptop, 3, 2) == Receipt("ana", 3, 2)
    assert receipts_for(chat, enter(chat, at=before, seq=3)) == [Receipt("ana", 3, 2)]
    assert receipts_for(chat, enter(chat, at=replace(before, read_upto=2), seq=3)) == []


def test_many_marks_go_in_pages_of_a_frames_size() -> None:
    names = [f"{n:04}" + "é" * 125 for n in range(2_500)]
    chat = chat_of(*(Receipt(name, 1, 1) for name in names))
    reader = enter(chat)
    pages: list[list[Receipt]] = []
    while page := receipts_for(chat, reader):
        pages.append(page)
    assert [receipt.user for page in pages for receipt in page] == names
    assert all(len(page) <= limits.MAX_RECEIPTS for page in pages)


def test_beyond_a_bound_of_users_marks_are_kept_and_not_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "MAX_MARKED_USERS", 2)
    chat = chat_of(Receipt("ana", 1, 1), Receipt("ben", 1, 1))
    ana, cat = enter(chat, "ana"), enter(chat, "cat")
    receipts_for(chat, ana)
    chat.committed(9, run(1, 9))
    assert chat.mark(cat, 5, 5) == Receipt("cat", 5, 5)  # for the log
    assert receipts_for(chat, ana) == []


# Members and verdicts


def members_for(chat: Chat, reader: ChatReader) -> tuple[bool, dict[str, str]] | None:
    encoded = chat.next_members(reader)
    if encoded is None:
        return None
    frame = decode_from_relay(encoded)
    assert isinstance(frame, frames.Members)
    return frame.whole, dict(unpack_members(frame.data))


def verdicts_for(chat: Chat, reader: ChatReader) -> list[bytes]:
    encoded = chat.next_verdicts(reader)
    if encoded is None:
        return []
    frame = decode_from_relay(encoded)
    assert isinstance(frame, frames.Verdicts)
    return [one.message_id for one in unpack_verdicts(frame.data)]


def given(seq: int, verdict: int = Verdict.CONFIRMED) -> tuple[int, GivenVerdict]:
    return seq, GivenVerdict(message(seq).id, verdict, "")


def test_who_enters_is_told_all_members_and_then_what_changes_as_it_is_now() -> None:
    chat = Chat(CHANNEL)
    chat.members_changed([("ana", "admin")])  # before it is loaded; the log has it
    chat.load([], [("ana", "admin")])
    assert members_for(chat, ChatReader("x", lambda: None)) is None  # it has not entered
    reader = enter(chat)
    assert members_for(chat, reader) == (True, {"ana": "admin"})
    assert members_for(chat, reader) is None
    chat.members_changed([("ben", "reader"), ("ana", "admin")])
    chat.members_changed([("ben", "writer"), ("eve", "reader")])
    chat.members_changed([("eve", "")])
    assert members_for(chat, reader) == (False, {"ben": "writer", "eve": ""})
    empty = chat_of()
    assert members_for(empty, enter(empty)) == (True, {})  # also that there is nobody


def test_a_slow_reader_of_many_changes_is_told_the_whole_list(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "MAX_MEMBERS", 3)
    chat = chat_of()
    reader = enter(chat)
    members_for(chat, reader)
    for number in range(9):
        chat.members_changed([(f"u{number}", "reader")])
        chat.members_changed([(f"u{number}", "")])
    assert reader.due_members is None
    chat.members_changed([("ana", "admin")])
    assert members_for(chat, reader) == (True, {"ana": "admin"})


def test_a_verdict_goes_to_a_reader_after_its_message_and_changes_what_is_in_memory() -> None:
    chat = chat_of()
    quick, slow = enter(chat), enter(chat)
    chat.committed(2, [replace(one, verdict=Verdict.AWAITED) for one in run(1, 2)])
    next_run(chat, quick)
    chat.verdicts_given([given(2), given(1, Verdict.REFUSED)])
    assert verdicts_for(chat, quick) == [message(2).id, message(1).id]
    assert verdicts_for(chat, quick) == []
    assert verdicts_for(chat, slow) == []
    encoded = chat.next_messages(slow)
    assert isinstance(encoded, bytes)
    frame = decode_from_relay(encoded)
    assert isinstance(frame, frames.Messages)
    assert [one.verdict for one in unpack_messages(frame.data)] == [3, 2]
    assert verdicts_for(chat, slow) == [message(2).id, message(1).id]


def test_a_verdict_in_a_room_that_nobody_has_entered_harms_nobody() -> None:
    chat = Chat(CHANNEL)
    chat.verdicts_given([given(3)])
    chat.load([])
    chat.verdicts_given([given(3)])
    reader = enter(chat, at=state(5), seq=5)
    chat.verdicts_given([given(3)])  # below what is in memory
    assert verdicts_for(chat, reader) == [message(3).id]


def test_a_reader_that_too_many_verdicts_wait_for_enters_again() -> None:
    chat = chat_of()
    reader = enter(chat)
    chat.verdicts_given([given(seq) for seq in range(1, limits.MAX_DUE_VERDICTS + 1)])
    assert not reader.is_overrun
    chat.verdicts_given([given(limits.MAX_DUE_VERDICTS + 1)])
    assert reader.is_overrun
    assert len(reader.due_verdicts) == limits.MAX_DUE_VERDICTS
    chat.enter(reader, state(), 0, 0)
    assert not reader.is_overrun
    assert not reader.due_verdicts
