"""Messages, gaps, the unread mark and notices stand where they belong, whatever changes."""

from __future__ import annotations

from collab.protocol.gaps import Gap
from collab.protocol.message_state import MessageState
from collab.storage.message_rows import TAIL
from collab.terminal.transcript import Transcript
from tests.unit.terminal.messages import Fake, mine, theirs


def shown(transcript: Transcript) -> list[str]:
    """The bodies of all rows, the oldest first."""
    return [row.body for row in transcript.rows_backwards()][::-1]


def filled(*seqs: int) -> Transcript:
    transcript = Transcript()
    for seq in seqs:
        transcript.put(theirs(seq), (seq, 0))
    return transcript


def test_messages_stand_in_the_order_of_the_room_however_they_come() -> None:
    transcript = filled(3, 1, 2)
    waiting = mine(MessageState.QUEUED, body="waits")
    transcript.put(waiting, (TAIL, 1))
    transcript.put(theirs(4), (4, 0))
    assert shown(transcript) == ["number 1", "number 2", "number 3", "number 4", "waits"]
    waiting.state, waiting.seq = MessageState.ACCEPTED, 5
    transcript.put(waiting, (5, 0))
    transcript.put(theirs(6), (6, 0))
    assert shown(transcript)[-2:] == ["waits", "number 6"]


def test_a_number_stays_with_its_message() -> None:
    transcript = Transcript()
    first, second = mine(MessageState.QUEUED), mine(MessageState.QUEUED)
    transcript.put(first, (TAIL, 1))
    transcript.put(second, (TAIL, 2))
    first.state, first.seq = MessageState.ACCEPTED, 1
    transcript.put(first, (1, 0))
    transcript.put(mine(MessageState.QUEUED), (TAIL, 3))
    assert (transcript.number(first), transcript.number(second)) == (1, 2)
    assert transcript.numbered(2) is second
    assert transcript.numbered(4) is None
    assert transcript.newest(MessageState.ACCEPTED) is first


def test_gaps_are_lines_between_the_messages_that_are_here() -> None:
    transcript = filled(1, 5, 9)
    transcript.gaps = (Gap(2, 4), Gap(6, 8, lost=True), Gap(10, 10))
    assert shown(transcript) == [
        "number 1",
        "… 3 messages not here; /more to fetch",
        "number 5",
        "… 3 messages never came here, and the relay keeps them no more",
        "number 9",
        "… 1 message not here; /more to fetch",
    ]
    assert transcript.next_gap() == Gap(10, 10)


def test_a_gap_before_all_that_is_here_is_shown_unless_this_disk_has_older_ones() -> None:
    transcript = filled(51, 52)
    transcript.gaps = (Gap(1, 50),)
    assert shown(transcript)[0].startswith("… 50 messages not here")
    transcript.has_older = True
    assert shown(transcript)[0].startswith("… older messages are on this disk")
    assert transcript.next_gap() is None
    assert not transcript.is_in_reach(theirs(7), (7, 0))
    assert transcript.is_in_reach(theirs(53), (53, 0))


def test_gaps_alone_are_shown_too() -> None:
    transcript = Transcript()
    transcript.gaps = (Gap(1, 10),)
    assert shown(transcript) == ["… 10 messages not here; /more to fetch"]


def test_the_unread_begin_at_a_mark_and_own_messages_do_not_count() -> None:
    transcript = filled(1, 2, 3)
    transcript.put(mine(MessageState.ACCEPTED, 4, "ours"), (4, 0))
    transcript.put(theirs(5), (5, 0))
    transcript.mark_unread(2)
    assert shown(transcript) == ["number 1", "number 2", "new", "number 3", "ours", "number 5"]
    transcript.mark_unread(0)
    assert "new" not in shown(transcript)


def test_a_notice_stays_where_it_was_said() -> None:
    transcript = filled(1)
    waiting = mine(MessageState.QUEUED, body="waits")
    transcript.put(waiting, (TAIL, 1))
    transcript.notice("first")
    transcript.notice("second")
    waiting.state, waiting.seq = MessageState.ACCEPTED, 2
    transcript.put(waiting, (2, 0))
    transcript.put(theirs(3), (3, 0))
    assert shown(transcript) == ["number 1", "waits", "first", "second", "number 3"]


def test_the_oldest_are_let_go_and_that_is_said() -> None:
    transcript = Transcript(kept=10)
    for seq in range(1, 200):
        transcript.put(theirs(seq), (seq, 0))
        transcript.trim()
    assert len(transcript.messages) <= 110
    assert shown(transcript)[0].startswith("… older messages are on this disk")
    assert shown(transcript)[-1] == "number 199"
    assert transcript.lowest == (transcript.messages[0].seq, 0)


def test_what_others_wrote_is_harmless_in_a_row() -> None:
    transcript = Transcript()
    evil = Fake("\x1b[2J\nsecond", meta={"name": "\x07"}, sender="\x1b]0;x\x07")
    transcript.put(evil, (1, 0))
    (row,) = transcript.rows_backwards()
    assert row.body == "\\x1b[2J\nsecond"
    assert "\x1b" not in row.lead + row.tail
    assert "\x07" not in row.lead + row.tail
