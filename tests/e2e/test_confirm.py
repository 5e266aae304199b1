"""An order is done when the application says so: not when it is sent, and not when it is taken."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import sqlite3
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

import collab
from collab import limits
from collab.protocol import frames
from collab.protocol.messages import LoggedMessage, Verdict, pack_messages
from collab.protocol.verdicts import GivenVerdict, pack_inquiry, pack_verdicts, unpack_inquiry
from collab_server.confirming import Confirm, ConfirmRequest, Refuse, VerdictRuling
from collab_server.settings import Settings
from tests.e2e.chat_member import entered, id_of
from tests.e2e.chat_support import stored, watch
from tests.e2e.support import (
    QUICK,
    Child,
    ScriptedRelay,
    Speaker,
    joined,
    run,
    running,
    until,
)
from tests.e2e.support import entered as answer_to
from tests.e2e.test_members import everything

Y, N = Verdict.CONFIRMED, Verdict.REFUSED


class Shop:
    """Confirms what begins with "yes", refuses what begins with "no", once its gate is open."""

    def __init__(self, *, is_open: bool = True) -> None:
        self.asked: list[ConfirmRequest] = []
        self.gate = asyncio.Event()
        if is_open:
            self.gate.set()

    async def __call__(self, request: ConfirmRequest) -> VerdictRuling:
        self.asked.append(request)
        await self.gate.wait()
        return Refuse("sold out") if request.body.startswith("no") else Confirm()


@asynccontextmanager
async def client(url: str | None, path: Path | str = ":memory:") -> AsyncIterator[collab.Room]:
    async with collab.open(path, relay=url, settings=QUICK) as opened:
        yield await opened.room("notes")


async def find(room: collab.Room, body: str) -> collab.Message:
    """The message with this body, once it is here."""
    found: list[collab.Message] = []

    async def look() -> bool:
        found[:] = [one for one in await room.chat.history() if one.body == body]
        return bool(found)

    async with asyncio.timeout(20):
        while not await look():
            await asyncio.sleep(0.005)
    return found[0]


# --- states ---


def test_an_order_is_confirmed_or_refused_by_the_application_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.db"

    async def main() -> None:
        shop = Shop(is_open=False)
        async with client(None, path) as room:
            for body in ("yes", "no"):
                order = await room.chat.send(body, confirm=True)
                assert (order.verdict, order.state) == (None, "queued")
        async with running(tmp_path, on_confirm=shop) as (url, _), client(url, path) as room:
            seen = watch(room)
            yes, no = await find(room, "yes"), await find(room, "no")
            plain = await room.chat.send("plain")
            for order in (yes, no):
                await order.wait("confirming", 20)
                assert order.verdict is collab.MessageVerdict.CONFIRMING
                assert order.state in ("accepted", "delivered", "read")
            await plain.wait("accepted", 20)
            assert plain.verdict is None
            waits = [asyncio.create_task(one.wait("confirmed", 20)) for one in (yes, no)]
            shop.gate.set()
            await waits[0]
            with pytest.raises(collab.Rejected, match="sold out") as refused:
                await waits[1]
            assert (refused.value.code, refused.value.retryable) == ("refused", False)
            assert (yes.verdict, yes.verdict_reason) == ("confirmed", "")
            assert (no.verdict, no.verdict_reason) == ("refused", "sold out")
            assert (await seen.saw(collab.MessageConfirmed)).message is yes
            assert (await seen.saw(collab.MessageRefused)) == collab.MessageRefused(no, "sold out")
            await no.wait("accepted", 1)  # in the log it is, all the same
            await no.wait("refused", 1)
            with pytest.raises(collab.WrongState, match="confirmed"):
                await yes.wait("refused", 1)
            with pytest.raises(collab.WrongState, match="asks nobody"):
                await plain.wait("confirmed", 1)
            with pytest.raises(ValueError, match="done"):
                await yes.wait("done", 1)
        async with client(None, path) as room:  # and after a start without a network
            yes, no = await find(room, "yes"), await find(room, "no")
            await yes.wait("confirmed", 1)
            with pytest.raises(collab.Rejected, match="sold out"):
                await no.wait("confirmed", 1)

    run(main())


def test_others_see_what_became_of_an_order_also_those_who_come_later(tmp_path: Path) -> None:
    async def main() -> None:
        shop = Shop(is_open=False)
        path = tmp_path / "b.db"
        async with running(tmp_path, on_confirm=shop) as (url, _), client(url) as ana:
            async with client(url, path) as ben, client(url) as cleo:
                await ana.chat.send("no", confirm=True)
                await ana.chat.send("yes", confirm=True)
                theirs = await find(ben, "no"), await find(ben, "yes")
                assert [one.verdict for one in theirs] == ["confirming"] * 2
                hers = await find(cleo, "no")
                await ben.close()
                shop.gate.set()
                await (await find(ana, "yes")).wait("confirmed", 20)
                with pytest.raises(collab.Rejected, match="sold out"):
                    await hers.wait("confirmed", 20)
            async with client(url, path) as ben, client(url) as late:
                for room in (ben, late):  # one was away, the other never there
                    no, yes = await find(room, "no"), await find(room, "yes")
                    await yes.wait("confirmed", 20)
                    with pytest.raises(collab.Rejected, match="sold out"):
                        await no.wait("confirmed", 20)

    run(main())


def test_a_device_that_was_away_when_the_verdict_fell_learns_it_when_it_returns(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        shop, path = Shop(is_open=False), tmp_path / "a.db"
        async with running(tmp_path, on_confirm=shop) as (url, _), client(url) as other:
            async with client(url, path) as room:
                order = await room.chat.send("no", confirm=True)
                await order.wait("confirming", 20)
                await (await find(other, "no")).wait("accepted", 20)
            shop.gate.set()
            with pytest.raises(collab.Rejected):
                await (await find(other, "no")).wait("confirmed", 20)
            async with client(None, path) as room:
                assert (await find(room, "no")).verdict == "confirming"  # it cannot know
            async with client(url, path) as room:
                seen = watch(room)
                with pytest.raises(collab.Rejected, match="sold out"):
                    await (await find(room, "no")).wait("confirmed", 20)
                assert (await seen.saw(collab.MessageRefused)).reason == "sold out"
        assert [request.body for request in shop.asked] == ["no"]

    run(main())


def test_where_nobody_gives_verdicts_an_order_is_rejected_and_never_confirming(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        async with running(tmp_path) as (url, _), client(url) as room:
            order = await room.chat.send("yes", confirm=True)
            for goal in ("confirmed", "confirming", "accepted"):
                with pytest.raises(collab.Rejected) as refused:
                    await order.wait(goal, 20)
                assert refused.value.code == "invalid"
            assert order.verdict is None
            gone = await room.chat.send("no", confirm=True)
            with pytest.raises(collab.Rejected):
                await gone.wait("confirmed", 20)

    run(main())


def test_the_same_id_is_the_same_order_and_another_with_or_without_a_question(
    tmp_path: Path,
) -> None:
    path, number = tmp_path / "a.db", uuid.UUID(int=7)

    async def main() -> None:
        shop = Shop()
        async with running(tmp_path, on_confirm=shop) as (url, _), client(url, path) as room:
            order = await room.chat.send("yes", id=number, confirm=True)
            await order.wait("confirmed", 20)
            before = stored(path), everything(Settings(data=tmp_path).log_path, "messages", "lanes")
            assert await room.chat.send("yes", id=number, confirm=True) is order
            with pytest.raises(collab.IdConflict, match="asks to be confirmed"):
                await room.chat.send("yes", id=number)
            after = stored(path), everything(Settings(data=tmp_path).log_path, "messages", "lanes")
            assert before == after
            async with entered(url, "notes") as ben:
                said = ben.message(1, number=7, body="yes", confirm=True)
                assert (await ben.say(said)).code == "conflict"  # it is somebody else's
        assert len(shop.asked) == 1

    run(main())


# --- over the wire ---


def test_a_verdict_goes_down_after_its_message_and_an_inquiry_gets_what_is_decided(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        shop = Shop(is_open=False)
        async with running(tmp_path, on_confirm=shop) as (url, _), entered(url) as ana:
            assert (await ana.say(ana.message(1, body="no", confirm=True))).code == "accepted"
            await ana.say(ana.message(2))
            ask = frames.Inquire(ana.channel, pack_inquiry([id_of(1), id_of(2), id_of(9)]))
            await ana.speaker.send(ask)
            await ana.fetch(0, 9)  # what was asked before is answered before
            assert ana.verdicts == []
            shop.gate.set()
            await ana.until(lambda: ana.verdicts)
            assert ana.verdicts == [GivenVerdict(id_of(1), N, "sold out")]
            ana.verdicts.clear()
            await ana.speaker.send(ask)
            await ana.until(lambda: ana.verdicts)
            assert ana.verdicts == [GivenVerdict(id_of(1), N, "sold out")]
            async with entered(url, device=b"b" * 16) as ben:
                await ben.reach(2)
                assert [one.verdict for one in ben.messages] == [N, 0]

    run(main())


@pytest.mark.parametrize(
    "bad",
    [
        frames.Inquire(0, b"\x91\x91\xc4\x01a"),
        frames.Inquire(0, b"junk"),
        frames.Inquire(0, pack_inquiry([bytes(16)] * (limits.PAGE_MESSAGES + 1))),
    ],
    ids=["a short id", "no rows", "too many"],
)
def test_an_inquiry_that_is_none_ends_the_connection(tmp_path: Path, bad: frames.Inquire) -> None:
    async def main() -> None:
        async with running(tmp_path) as (url, _), entered(url) as ana:
            await ana.speaker.send(frames.Inquire(ana.channel, bad.data))
            assert (await ana.speaker.closed())[0] == 4400

    run(main())


async def scripted(relay: ScriptedRelay, **fields: Any) -> tuple[Speaker, frames.Enter]:
    """The next visit, joined and entered."""
    visit = await relay.welcomed()
    visit.chats = True
    await visit.send(joined(await visit.expect(frames.Join)))
    await visit.send(frames.Difference(7, 0, b"\0\0"))
    enter = await visit.expect(frames.Enter)
    await visit.send(answer_to(enter, **fields))
    return visit, enter


def logged(seq: int, message_id: bytes, body: str, verdict: int) -> LoggedMessage:
    return LoggedMessage(seq, message_id, "me", body, b"", 1, 2, 0, verdict)


def test_the_first_verdict_stays_whatever_a_relay_says_later(tmp_path: Path) -> None:
    async def main() -> None:
        async with ScriptedRelay() as relay, client(relay.url, tmp_path / "a.db") as room:
            visit, _ = await scripted(relay)
            order = await room.chat.send("yes", confirm=True)
            sent = await visit.expect(frames.Send)
            assert sent.confirm
            number = sent.message_id
            page = pack_messages([logged(1, number, "yes", Verdict.AWAITED)])
            seen = watch(room)
            await visit.send(
                frames.Outcome(7, 1, number, "accepted", 1, 0, ""),
                frames.Messages(7, 0, 1, page),
                frames.Verdicts(7, pack_verdicts([GivenVerdict(number, Y, "")])),
                frames.Verdicts(7, pack_verdicts([GivenVerdict(number, N, "no")])),
                frames.Verdicts(7, pack_verdicts([GivenVerdict(number, Y, "")])),
                frames.Verdicts(7, pack_verdicts([GivenVerdict(bytes(16), Y, "")])),
            )
            await order.wait("confirmed", 20)
            last = frames.Messages(7, 1, 2, pack_messages([logged(2, b"2" * 16, "end", 0)]))
            await visit.send(last)
            await find(room, "end")
            assert order.verdict == "confirmed"
            assert len(seen.of(collab.MessageConfirmed)) == 1
            assert seen.of(collab.MessageRefused) == []

    run(main())


def test_in_another_history_a_verdict_is_asked_for_anew(tmp_path: Path) -> None:
    """The relay was put back to before it had the order, or before its verdict fell."""

    async def main() -> None:
        async with ScriptedRelay() as relay, client(relay.url, tmp_path / "a.db") as room:
            visit, _ = await scripted(relay)
            order = await room.chat.send("yes", confirm=True)
            number = (await visit.expect(frames.Send)).message_id
            others = b"o" * 16
            theirs = LoggedMessage(1, others, "ben", "theirs", b"", 1, 2, 0, Verdict.CONFIRMED)
            page = pack_messages([theirs, logged(2, number, "yes", Verdict.AWAITED)])
            await visit.send(
                frames.Outcome(7, 1, number, "accepted", 2, 0, ""),
                frames.Messages(7, 0, 2, page),
                frames.Verdicts(7, pack_verdicts([GivenVerdict(number, Y, "")])),
            )
            await order.wait("confirmed", 20)
            visit.socket.transport.abort()
            visit, _ = await scripted(relay, good=False, after=0, head=1, lane_seq=1)
            kept = await find(room, "theirs")
            sent = await visit.expect(frames.Send)
            assert (sent.message_id, sent.confirm) == (number, True)
            assert order.verdict is None  # it is with nobody
            assert kept.verdict == "confirming"
            asked = [frame for frame in visit.passed if isinstance(frame, frames.Inquire)]
            if not asked:
                asked = [await visit.expect(frames.Inquire)]
            assert unpack_inquiry(asked[0].data) == [others]
            await visit.send(
                frames.Verdicts(7, pack_verdicts([GivenVerdict(others, N, "changed")])),
                frames.Outcome(7, sent.lane_seq, number, "accepted", 2, 0, ""),
            )
            await order.wait("confirming", 20)
            await until(lambda: kept.verdict == "refused")

    run(main())


# --- a relay that dies ---


def test_a_relay_that_is_killed_before_the_verdict_asks_again_and_it_comes_once(
    tmp_path: Path,
) -> None:
    gate, path = tmp_path / "gate", tmp_path / "a.db"

    async def started(child: Child) -> str:
        while not (line := await child.line()).startswith("relay:"):
            pass
        return line.split()[1]

    async def asked(child: Child, *bodies: str) -> None:
        """Each was asked about, whatever else is printed."""
        due = set(bodies)
        while due:
            line = await child.line()
            due.discard(line.removeprefix("asked "))

    async def main() -> None:
        program = ("tests.e2e.confirming_relay", tmp_path / "data", gate)
        async with Child(*program) as child, client(await started(child), path) as room:
            orders = [await room.chat.send(body, confirm=True) for body in ("yes", "no", "no2")]
            for order in orders:
                await order.wait("confirming", 20)
            await asked(child, "yes")
            await child.kill()
            assert [order.verdict for order in orders] == ["confirming"] * 3
        shutil.copytree(tmp_path / "data", tmp_path / "as killed")
        verdicts = "SELECT verdict, verdict_reason FROM messages ORDER BY seq"
        assert rows_of(tmp_path / "as killed", verdicts) == [(1, "")] * 3
        async with Child(*program) as child:
            url = await started(child)
            await asked(child, "yes")  # nobody is connected, and no room loaded
            async with client(url, path) as room:
                seen = watch(room)
                gate.touch()
                yes, no, no2 = [await find(room, body) for body in ("yes", "no", "no2")]
                await yes.wait("confirmed", 20)
                for order in (no, no2):
                    with pytest.raises(collab.Rejected, match="sold out"):
                        await order.wait("confirmed", 20)
                await until(lambda: len(seen.of(collab.MessageRefused)) == 2)
            await child.kill()
        after = [(2, ""), (3, "sold out"), (3, "sold out")]
        assert rows_of(tmp_path / "data", verdicts) == after
        async with (
            Child(*program) as child,  # nothing is asked again
            client(await started(child), path) as room,
        ):
            marker = await room.chat.send("yes, last", confirm=True)
            await marker.wait("confirmed", 20)
            assert await child.line() == "asked yes, last"
        assert rows_of(tmp_path / "data", verdicts) == [*after, (2, "")]

    run(main())


def rows_of(data: Path, query: str) -> list[Any]:
    with contextlib.closing(sqlite3.connect(Settings(data=data).log_path)) as log:
        return log.execute(query).fetchall()
