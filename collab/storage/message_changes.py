"""Carries out what a room's chat machine decided, as part of one transaction.

Invariants
1. A message changes its state only along a legal edge (``protocol/message_state``).
2. Two messages never have one number. What comes from the log takes its place in it; what stood
   there by another history is kept, and marked.
3. A message of the log that is here already, under its id and with its bytes, is the same one.
4. Nothing is ever deleted here, but the second row of what proves to be one message.
5. A room that was forgotten gets nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Final

from collab import limits
from collab.protocol import chat_changes as cc
from collab.protocol.gaps import Gaps, add, is_missing, lose, remove
from collab.protocol.members import MemberRow
from collab.protocol.message_state import PATH, MessageState, advance
from collab.protocol.messages import LoggedMessage, Receipt, Verdict
from collab.protocol.verdicts import DECIDED
from collab.storage.chat_rows import (
    ChatRow,
    chat,
    cut_receipts,
    farthest,
    gaps,
    members,
    merge_receipts,
    receipts,
    set_chat,
    set_gaps,
    set_members,
    unread,
)
from collab.storage.database import Connection
from collab.storage.message_rows import (
    TAIL,
    MessageRow,
    at_seq,
    awaited,
    by_row,
    digest,
    own,
    select,
    seqs_here,
    slots,
    update,
    waiting,
    with_id,
)

__all__ = ["Stored", "carry_out"]

OTHER_USER: Final = "other_user"
"""Why a message is stalled that somebody else wrote on this device."""

_IN_LOG = PATH[2:]
_NOT_READ = (
    "WHERE room_id = ? AND mine AND state IN ('accepted', 'delivered') AND seq <= ?"
    " AND NOT replaced"
)
_NOT_DELIVERED = "WHERE room_id = ? AND mine AND state = 'accepted' AND seq <= ? AND NOT replaced"
_SENT_HERE = "WHERE room_id = ? AND position IS NOT NULL AND"


@dataclass(slots=True)
class Stored:
    """What a change came to.

    ``gaps``, ``unread``, ``receipts`` and ``members`` are None if they are as before.
    ``slots`` and ``waiting``: what of ours is bound, or queued, by this change. ``logged``: ids of
    what was sent from here and is found in the log. ``merged``: rows that are no more, and which
    row has their message. ``lost``: what is lost since this change. ``awaited``: ids of messages
    about whose verdict the relay is to be asked; ``decided``: those that got one. ``reoffered``,
    ``replaced``: how many messages.
    """

    added: list[MessageRow] = field(default_factory=list)
    changed: list[MessageRow] = field(default_factory=list)
    slots: list[cc.Bound] = field(default_factory=list)
    waiting: list[cc.Waiting] = field(default_factory=list)
    logged: list[bytes] = field(default_factory=list)
    merged: dict[int, MessageRow] = field(default_factory=dict)
    gaps: Gaps | None = None
    lost: Gaps = ()
    unread: int | None = None
    receipts: list[Receipt] | None = None
    members: list[MemberRow] | None = None
    awaited: list[bytes] = field(default_factory=list)
    decided: list[MessageRow] = field(default_factory=list)
    reoffered: int = 0
    replaced: int = 0


def carry_out(connection: Connection, room_id: int, change: cc.Change) -> Stored:
    """Store ``change`` of a room."""
    row = chat(connection, room_id)
    if row is None:
        return Stored()
    work = _Work(connection, room_id, row)
    match change:
        case cc.Bind():
            work.bind(change)
        case cc.Decide():
            work.decide(change)
        case cc.CountRefusal():
            work.update_own(change.id, refusals=change.refusals)
        case cc.GiveUp():
            work.update_own(change.id, giving_up=change.state)
        case cc.Expire():
            work.expire(change)
        case cc.NewLane():
            work.new_lane(change.lane_epoch)
        case cc.NewUser():
            work.new_user(change)
        case cc.Place():
            work.place(change)
        case cc.Replace():
            work.replace(change)
        case cc.Receive():
            work.receive(change)
        case cc.Fill():
            work.fill(change)
        case cc.TakeReceipts():
            work.take_receipts(change)
        case cc.TakeMembers():
            work.take_members(change)
        case cc.TakeVerdicts():
            work.take_verdicts(change)
        case cc.Answered():
            pass
    return work.stored


class _Work:
    """One change of one room in one transaction."""

    def __init__(self, connection: Connection, room_id: int, row: ChatRow) -> None:
        self.connection = connection
        self.room_id = room_id
        self.chat = row
        self.stored = Stored()

    # The outbox

    def bind(self, change: cc.Bind) -> None:
        for number, message_id in enumerate(change.ids, change.first_slot):
            row = own(self.connection, self.room_id, message_id)
            assert row is not None
            if row.state in _IN_LOG:  # the log was faster; the slot is used all the same
                update(self.connection, row.row, slot=number)
            else:
                columns = {"slot": number, "offered": 1, "sender": self.chat.user}
                self._change(row, MessageState.SENDING, **columns)
        set_chat(self.connection, self.room_id, bound=change.first_slot + len(change.ids) - 1)
        self.stored.slots = slots(self.connection, self.room_id, first=change.first_slot)

    def decide(self, change: cc.Decide) -> None:
        row = own(self.connection, self.room_id, change.id)
        if row is None:
            return
        settled = {"slot": None, "giving_up": None}
        if row.state in _IN_LOG:  # the log was faster
            update(self.connection, row.row, **settled)
        elif change.state is MessageState.ACCEPTED:
            self._into_log(row, change.seq, sender=self.chat.user, **settled)
            if row.verdict == Verdict.AWAITED and change.seq <= self.chat.seq:
                self.stored.awaited.append(row.id)  # what was said of it before was not for us
        else:
            place = TAIL if change.state is MessageState.STALLED else row.written_after
            self._change(
                row, change.state, place=place, code=change.code, reason=change.reason, **settled
            )

    def update_own(self, message_id: bytes, **columns: object) -> None:
        row = own(self.connection, self.room_id, message_id)
        if row is not None and row.slot is not None:
            update(self.connection, row.row, **columns)

    def expire(self, change: cc.Expire) -> None:
        for message_id in change.ids:
            row = own(self.connection, self.room_id, message_id)
            if row is not None and row.state is MessageState.QUEUED:  # the log may be faster
                self._change(row, MessageState.EXPIRED, place=row.written_after)

    def new_lane(self, lane_epoch: bytes) -> None:
        set_chat(self.connection, self.room_id, lane_epoch=lane_epoch, bound=0)
        settled = {"slot": None, "giving_up": None}
        for slot in slots(self.connection, self.room_id):
            row = own(self.connection, self.room_id, slot.id)
            assert row is not None
            if row.state in _IN_LOG:
                update(self.connection, row.row, **settled)
            elif slot.giving_up is MessageState.CANCELLED:
                # Whether the relay took it nobody can say; the log will. It is not sent again.
                self._change(row, MessageState.CANCELLED, place=row.written_after, **settled)
            else:
                self._change(row, MessageState.QUEUED, refusals=0, **settled)
        self.stored.waiting = waiting(self.connection, self.room_id)

    def new_user(self, change: cc.NewUser) -> None:
        """``chats.user`` is "" after the device took another id: then it is the same person."""
        self.new_lane(change.lane_epoch)
        before, self.chat = self.chat.user, replace(self.chat, user=change.user)
        set_chat(self.connection, self.room_id, user=change.user)
        if before not in ("", change.user):
            others = select(
                self.connection,
                f"{_SENT_HERE} state = 'queued' AND sender NOT IN ('', ?)",
                (self.room_id, change.user),
            )
            for row in others:
                self._stall_for_another(row)
            self._see_as_another()
        self.stored.waiting = waiting(self.connection, self.room_id)

    def _see_as_another(self) -> None:
        """What is whose, and what was read, is another matter for another user."""
        user = self.chat.user
        self.connection.execute("DELETE FROM receipts WHERE room_id = ?", (self.room_id,))
        self.stored.receipts = []
        set_chat(self.connection, self.room_id, read_upto=0, relay_read=0, relay_unread=0)
        seen_wrong = select(
            self.connection,
            "WHERE room_id = ? AND state IN ('accepted', 'delivered', 'read')"
            " AND (mine <> (sender = ?) OR state <> 'accepted')",
            (self.room_id, user),
        )
        for row in seen_wrong:
            mine = row.sender == user
            self.stored.changed.append(
                update(self.connection, row.row, mine=mine, state=MessageState.ACCEPTED)
            )
        self._count()

    # The log

    def place(self, change: cc.Place) -> None:
        if change.after > self.chat.seq:
            # What is here above the mark is ours, by outcomes alone: they do not say what the log
            # has of it, and may be of a history that is gone. It is asked for all the same.
            self._set_gaps(add(self._gaps(), self.chat.seq + 1, change.after))
            self._set_mark(change.generation, change.after)
        self._offer_beyond(change.head)
        gone = self._leave_beyond(change.head)
        self.stored.replaced = len(gone)
        self.stored.changed += by_row(self.connection, gone)
        if cut_receipts(self.connection, self.room_id, change.head):
            self.stored.receipts = receipts(self.connection, self.room_id)
        self._lose(change.oldest)
        read_upto = min(max(self.chat.read_upto, change.read_upto), change.head)
        self._set_relay(change, read_upto)
        self._ask_for_verdicts()

    def replace(self, change: cc.Replace) -> None:
        place = change.place
        gone = self._leave_beyond(place.head)
        replaced = gone - self._reoffer(change.since)
        self.stored.replaced = len(replaced)
        self.stored.changed += by_row(self.connection, replaced)
        self.connection.execute("DELETE FROM receipts WHERE room_id = ?", (self.room_id,))
        self.stored.receipts = []
        # What is here of the range is shown, and asked for all the same: it may be another now.
        missing = add((), place.oldest, place.after)
        older = seqs_here(self.connection, self.room_id, 1, place.oldest - 1)
        self._set_gaps(add(missing, 1, place.oldest - 1, here=older, lost=True))
        self._doubt_verdicts(place.oldest)
        self._set_mark(place.generation, place.after)
        self._set_relay(place, place.read_upto)
        self._ask_for_verdicts()
        self.stored.waiting = waiting(self.connection, self.room_id)

    def _reoffer(self, since: int) -> set[int]:
        """Queue again what the relay had accepted of ours since then; their row ids."""
        accepted = select(
            self.connection,
            f"{_SENT_HERE} state IN ('accepted', 'delivered', 'read') AND written_ms >= ?",
            (self.room_id, since),
        )
        for row in accepted:
            self._offer_again(row)
        return {row.row for row in accepted}

    def _leave_beyond(self, head: int) -> set[int]:
        """Keep, and mark, what is beyond the log's end; its row ids."""
        beyond = "WHERE room_id = ? AND place > ? AND place < ? AND tie = 0"
        gone = select(self.connection, beyond, (self.room_id, head, TAIL))
        for row in gone:
            update(self.connection, row.row, replaced=1, tie=-row.row)
        return {row.row for row in gone}

    def _offer_beyond(self, head: int) -> None:
        """What was accepted of ours and is beyond the log's end is offered again."""
        beyond = select(
            self.connection,
            f"{_SENT_HERE} state IN ('accepted', 'delivered', 'read') AND seq > ? AND NOT replaced",
            (self.room_id, head),
        )
        for row in beyond:
            self._offer_again(row)

    def _offer_again(self, row: MessageRow) -> None:
        """The log does not have it under the number with which it was accepted."""
        queued = advance(row.state, MessageState.QUEUED)
        if row.slot is not None:  # it is sent again anyhow
            self._off_log(row, advance(queued, MessageState.SENDING))
            bound = slots(self.connection, self.room_id, first=row.slot)
            self.stored.slots += [slot for slot in bound if slot.id == row.id]
        else:
            # It was taken in time once; it must not expire now.
            self._off_log(row, queued, expires_ms=None)
            if not row.mine:
                self._stall_for_another(by_row(self.connection, [row.row])[0])
                return
            self.stored.waiting.append(cc.Waiting(row.id, row.position or 0, None, offered=True))
        self.stored.reoffered += 1
        self.stored.changed += by_row(self.connection, [row.row])

    def _stall_for_another(self, row: MessageRow) -> None:
        """It is not this user's: it waits for its writer, or for the program's word."""
        reason = f"{row.sender} wrote it, and this device speaks for {self.chat.user} now"
        self._change(row, MessageState.STALLED, code=OTHER_USER, reason=reason, mine=1)

    def _off_log(self, row: MessageRow, state: MessageState, **columns: object) -> None:
        update(
            self.connection, row.row, state=state, seq=None, place=TAIL, tie=row.position,
            replaced=0, accepted_at=None, refusals=0, offered=1, verdict_reason="",
            verdict=Verdict.AWAITED if row.verdict else Verdict.NOT_ASKED, **columns,
        )  # fmt: skip

    def receive(self, change: cc.Receive) -> None:
        for message in change.messages:
            self._take(message)
        self._set_mark(change.generation, change.upto)
        self._count()

    def fill(self, change: cc.Fill) -> None:
        for message in change.messages:
            self._take(message)
            if message.verdict == Verdict.AWAITED:
                self.stored.awaited.append(message.id)  # a page may be older than what we were told
        self._set_gaps(remove(self._gaps(), change.low, change.high))
        self._lose(change.oldest)
        self._count()

    def take_receipts(self, change: cc.TakeReceipts) -> None:
        merge_receipts(self.connection, self.room_id, change.receipts)
        self.stored.receipts = receipts(self.connection, self.room_id)
        delivered, read = farthest(self.connection, self.room_id)
        self._advance_through(MessageState.READ, _NOT_READ, read)
        self._advance_through(MessageState.DELIVERED, _NOT_DELIVERED, delivered)
        if change.read_upto > self.chat.read_upto:
            set_chat(self.connection, self.room_id, read_upto=change.read_upto)
            self._count()

    def take_members(self, change: cc.TakeMembers) -> None:
        before = members(self.connection, self.room_id)
        set_members(self.connection, self.room_id, change.rows, whole=change.whole)
        now = members(self.connection, self.room_id)
        self.stored.members = now if now != before else None

    # Verdicts

    def take_verdicts(self, change: cc.TakeVerdicts) -> None:
        for given in change.verdicts:
            for row in with_id(self.connection, self.room_id, given.message_id):
                if row.is_in_log and row.verdict == Verdict.AWAITED:
                    columns = {"verdict": given.verdict, "verdict_reason": given.reason}
                    self._was_decided(update(self.connection, row.row, **columns))

    def _verdict(self, known: int, message: LoggedMessage) -> int:
        """The verdict to store for what the log has; ``known`` is what is stored.

        The first one stays. A refusal counts once its reason is here, which the log's messages do
        not carry: until then it is awaited, and asked for.
        """
        if known in DECIDED:
            return known
        if message.verdict == Verdict.REFUSED:
            self.stored.awaited.append(message.id)
            return Verdict.AWAITED
        return message.verdict

    def _was_decided(self, row: MessageRow) -> None:
        self.stored.decided.append(row)
        self.stored.changed.append(row)

    def _doubt_verdicts(self, oldest: int) -> None:
        """In another history a verdict may not have fallen, or be another one: ask anew."""
        doubted = select(
            self.connection,
            "WHERE room_id = ? AND verdict IN (2, 3) AND place >= ? AND place < ? AND tie = 0",
            (self.room_id, oldest, TAIL),
        )
        for row in doubted:
            columns = {"verdict": Verdict.AWAITED, "verdict_reason": ""}
            self.stored.changed.append(update(self.connection, row.row, **columns))

    def _ask_for_verdicts(self) -> None:
        self.stored.awaited += awaited(self.connection, self.room_id, limits.MAX_INQUIRED)

    def _advance_through(self, state: MessageState, those: str, upto: int) -> None:
        for row in select(self.connection, those, (self.room_id, upto)):
            self._change(row, state)

    # One message

    def _take(self, message: LoggedMessage) -> None:
        """A message of the log."""
        there = at_seq(self.connection, self.room_id, message.seq)
        if there is not None and there.id == message.id and self._is_same(there, message):
            now = update(self.connection, there.row, **self._of_log(there, message))
            self._set_logged(there, now, message)
            return
        if there is not None and self._was_rewritten(there, message):
            log = self._of_log(there, message)
            rewritten = self._rewrite(there, message.body, message.meta, **log)
            self.stored.changed.append(rewritten)
            self._set_logged(there, rewritten, message)
            return
        if there is not None and there.position is not None and there.id != message.id:
            self._offer_again(there)
        elif there is not None:
            self.stored.changed.append(
                update(self.connection, there.row, replaced=1, tie=-there.row)
            )
        known = self._known(message)
        if known is None:
            self.stored.added.append(self._add(message))
        else:
            in_log = self._into_log(known, message.seq, **self._of_log(known, message))
            self._set_logged(known, in_log, message)
            if known.position is not None:
                self.stored.logged.append(known.id)

    def _of_log(self, row: MessageRow, message: LoggedMessage) -> dict[str, object]:
        """What the log says of a message that is here as ``row``.

        What was this user's under an earlier name of the device stays so. Between two names of
        the device nobody knows the user, and all that was sent from here is theirs.
        """
        if self.chat.user:
            was_mine = row.state in _IN_LOG and row.mine and row.sender in ("", message.sender)
        else:
            was_mine = row.mine and row.code != OTHER_USER
        return {
            "sender": message.sender, "sent_at": message.sent_at,
            "accepted_at": message.accepted_at, "kind": message.kind,
            "mine": was_mine or message.sender == self.chat.user,
        }  # fmt: skip

    def _set_logged(self, before: MessageRow, row: MessageRow, message: LoggedMessage) -> None:
        """Store the verdict of a message that is here and, as it says now, in the log."""
        verdict = self._verdict(before.verdict, message)
        if verdict == before.verdict:
            return
        now = update(self.connection, row.row, verdict=verdict)
        if verdict in DECIDED:
            self._was_decided(now)

    def _known(self, message: LoggedMessage) -> MessageRow | None:
        """The message that is here already, and has no certain place in the log."""
        for row in with_id(self.connection, self.room_id, message.id):
            certain = row.is_in_log and not is_missing(self._gaps(), row.place)
            if not certain and self._is_same(row, message):
                return row
        return None

    def _is_same(self, row: MessageRow, message: LoggedMessage) -> bool:
        """Whether a message of the same id is the same message."""
        if row.position is not None and not row.is_in_log and row.code != OTHER_USER:
            sender = self.chat.user or message.sender  # ours; before ENTERED nobody can say
        else:
            sender = row.sender or message.sender
        asked = row.verdict != Verdict.NOT_ASKED, message.verdict != Verdict.NOT_ASKED
        content = (message.body, message.meta, message.sender)
        return (row.body, row.meta, sender) == content and asked[0] == asked[1]

    def _was_rewritten(self, row: MessageRow, message: LoggedMessage) -> bool:
        """Whether what was sent here was accepted, and the relay keeps something else of it.

        The outcome said that its number holds what was sent; this is the first that is seen of it.
        """
        accepted = row.position is not None and row.accepted_at is None
        return accepted and row.id == message.id and row.sender in ("", message.sender)

    def _rewrite(self, row: MessageRow, body: str, meta: bytes, **columns: object) -> MessageRow:
        as_sent = row.as_sent or digest(row.body, row.meta)
        columns |= {"body": body, "meta": meta, "as_sent": as_sent}
        return update(self.connection, row.row, **columns)

    def _is_made_of(self, there: MessageRow, row: MessageRow) -> bool:
        """Whether ``there`` is what the relay made of ``row``, and was seen before its outcome."""
        ours = there.position is None and there.sender == self.chat.user
        return ours and there.id == row.id

    def _merge(self, row: MessageRow, there: MessageRow, columns: dict[str, object]) -> MessageRow:
        self.connection.execute("DELETE FROM messages WHERE id = ?", (there.row,))
        log = {
            "seq": there.seq, "place": there.place, "tie": 0, "replaced": 0,
            "sender": there.sender, "sent_at": there.sent_at, "accepted_at": there.accepted_at,
            "kind": there.kind, "verdict": there.verdict, "verdict_reason": there.verdict_reason,
        }  # fmt: skip
        merged = self._rewrite(row, there.body, there.meta, **(columns | log))
        self.stored.merged[there.row] = merged
        self.stored.changed.append(merged)
        if merged.verdict in DECIDED:
            self.stored.decided.append(merged)
        return merged

    def _add(self, message: LoggedMessage) -> MessageRow:
        mine = message.sender == self.chat.user
        cursor = self.connection.execute(
            "INSERT INTO messages (room_id, message_id, place, tie, seq, state, mine, sender, body,"
            " meta, sent_at, accepted_at, kind, verdict, size)"
            " VALUES (?, ?, ?, 0, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                self.room_id, message.id, message.seq, message.seq,
                self._state_in_log(message.seq) if mine else MessageState.ACCEPTED,
                mine, message.sender, message.body, message.meta, message.sent_at,
                message.accepted_at, message.kind,
                self._verdict(Verdict.NOT_ASKED, message), 0,
            ),
        )  # fmt: skip
        assert cursor.lastrowid is not None
        return by_row(self.connection, [cursor.lastrowid])[0]

    def _into_log(self, row: MessageRow, seq: int, **columns: object) -> MessageRow:
        """A message that is here has this number, unless another has it; the row as it is then."""
        if row.state not in _IN_LOG:
            state = advance(row.state, MessageState.ACCEPTED)
            if columns.get("mine", True):
                state = self._state_in_log(seq)
            columns |= {"state": state, "code": "", "reason": ""}
        there = at_seq(self.connection, self.room_id, seq)
        if there is None or there.row == row.row:
            columns |= {"seq": seq, "place": seq, "tie": 0, "replaced": 0}
        elif self._is_made_of(there, row):
            return self._merge(row, there, columns)
        else:
            columns |= {"place": row.written_after}  # a relay that gives one number twice
        now = update(self.connection, row.row, **columns)
        self.stored.changed.append(now)
        return now

    def _state_in_log(self, seq: int) -> MessageState:
        delivered, read = farthest(self.connection, self.room_id)
        if seq <= read:
            return advance(MessageState.ACCEPTED, MessageState.READ)
        if seq <= delivered:
            return advance(MessageState.ACCEPTED, MessageState.DELIVERED)
        return MessageState.ACCEPTED

    def _change(self, row: MessageRow, state: MessageState, **columns: object) -> None:
        self.stored.changed.append(
            update(self.connection, row.row, state=advance(row.state, state), **columns)
        )

    # Mark, gaps, unread

    def _set_mark(self, generation: bytes, seq: int) -> None:
        set_chat(self.connection, self.room_id, generation=generation, seq=seq)

    def _set_relay(self, place: cc.Place, read_upto: int) -> None:
        if not self.chat.user:
            self._know_own(place.user)
        set_chat(
            self.connection, self.room_id, user=place.user, read_upto=read_upto,
            relay_read=place.read_upto, relay_head=place.head, relay_unread=place.unread,
        )  # fmt: skip
        self._count()

    def _know_own(self, user: str) -> None:
        """What came of this user while nobody knew who it is."""
        unknown = "WHERE room_id = ? AND NOT mine AND sender = ?"
        for row in select(self.connection, unknown, (self.room_id, user)):
            self.stored.changed.append(update(self.connection, row.row, mine=1))

    def _gaps(self) -> Gaps:
        if self.stored.gaps is not None:
            return self.stored.gaps
        return gaps(self.connection, self.room_id)

    def _set_gaps(self, new: Gaps) -> None:
        if new != self._gaps():
            self.stored.gaps = new
            set_gaps(self.connection, self.room_id, new)

    def _lose(self, oldest: int) -> None:
        missing = [gap for gap in self._gaps() if not gap.lost and gap.low < oldest]
        if missing:
            here = seqs_here(self.connection, self.room_id, missing[0].low, oldest - 1)
            left, self.stored.lost = lose(self._gaps(), oldest, here=here)
            self._set_gaps(left)

    def _count(self) -> None:
        self.stored.unread = unread(self.connection, self.room_id)
