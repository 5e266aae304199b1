"""The table of what works when: README prints it, and features keep to it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

import collab
from collab.capabilities import FEATURES, Availability, Capability, Feature, capabilities, markdown
from collab.protocol.connection_state import State
from collab.testing import Portal, proxy, relay
from tests.e2e.support import QUICK, ScriptedRelay, run, until

README = Path(__file__).parent.parent.parent / "README.md"
AWAY = [
    State.OFFLINE,
    State.CONNECTING,
    State.PROBING,
    State.CAPTIVE,
    State.SUSPENDED,
    State.FAILED,
]


def test_the_readmes_table_is_the_codes() -> None:
    found = re.search(r"<!-- capabilities -->\n\n(.*?)\n\n", README.read_text(), re.DOTALL)
    assert found is not None
    assert found[1] == markdown()


@pytest.mark.parametrize("state", [None, *State], ids=str)
def test_in_every_state_each_feature_is_what_the_readmes_column_says(state: State | None) -> None:
    """Read from README itself, cell by cell, and compared with what a client answers."""
    lines = markdown().splitlines()
    assert "\n".join(lines) in README.read_text()
    columns = [set(re.findall(r"`(\w+)`", cell)) for cell in lines[0].split("|")[2:-1]]
    index = next(
        (number for number, states in enumerate(columns) if state is not None and state in states),
        len(columns) - 1,
    )
    answered = capabilities(state)
    for line in lines[2:]:
        name, *cells = (cell.strip() for cell in line.strip("|").split("|"))
        availability, _, why = cells[index].partition(": ")
        assert answered[name].availability == availability.strip("*")
        assert answered[name].why.startswith(why)
    assert len(answered) == len(lines) - 2


def test_the_outcomes_that_the_browser_shares_are_the_tables() -> None:
    """``browser/test/capabilities.test.ts`` holds the npm package to what is available."""
    shared = json.loads((Path(__file__).parent / "capabilities.json").read_text())
    assert shared == {
        "without a relay" if state is None else str(state): {
            name: [str(one.availability), one.why] for name, one in capabilities(state).items()
        }
        for state in (None, *State)
    }


def test_the_columns_name_every_state_once() -> None:
    named = re.findall(r"`(\w+)`", markdown().splitlines()[0])
    assert sorted(named) == sorted(State)


@pytest.mark.parametrize("state", AWAY)
def test_what_is_not_there_says_why(state: State) -> None:
    for name, capability in capabilities(state).items():
        feature = next(feature for feature in FEATURES if feature.name == name)
        if feature.away != feature.live:  # else no connection would change it
            plain = feature.away.why
            assert len(capability.why) > len(plain) + 10  # the state's own sentence follows
            assert capability.availability is not Availability.AVAILABLE


def test_the_rows_are_those_of_the_design() -> None:
    assert {
        "documents", "messages", "history", "receipts", "membership", "files", "calls to services",
        "audio and video",
    } <= {feature.name for feature in FEATURES}  # fmt: skip
    assert len({feature.name for feature in FEATURES}) == len(FEATURES)


def test_another_modules_feature_is_one_more_row_of_data() -> None:
    there = Capability(Availability.AVAILABLE, "a")
    votes = Feature(
        "votes", live=there, syncing=there, alone=there,
        away=Capability(Availability.QUEUED, "votes are in the box"),
    )  # fmt: skip
    table = capabilities(State.CAPTIVE, (*FEATURES, votes))
    assert table["votes"].availability is Availability.QUEUED
    assert "somebody else answers" in table["votes"].why
    assert markdown((*FEATURES, votes)).splitlines()[-1].startswith("| votes | **available**")


def of(client: collab.Client, feature: str) -> str:
    return str(client.capabilities()[feature].availability)


def test_the_features_do_what_the_table_says_while_live_and_away() -> None:
    async def main() -> None:
        async with (
            relay() as server,
            proxy(server.url) as wire,
            collab.open(":memory:", relay=wire.url, settings=QUICK) as client,
            collab.open(":memory:", relay=server.url, settings=QUICK) as other,
        ):
            room, there = await client.room("notes"), await other.room("notes")
            there.presence.set({"name": "Ben"})
            await there.wait_synced(20)
            await until(lambda: of(client, "presence") == "available" and room.presence.others())
            await until(lambda: client.connection.state is State.LIVE)  # type: ignore[union-attr]
            room.text("body").insert(0, "live ")
            await room.wait_synced(20)
            for feature in ("messages", "history", "receipts"):
                assert of(client, feature) == "available"
            first = await there.chat.send("read this")
            await until(lambda: room.chat.unread == 1)
            await (await room.chat.send("sent")).wait("accepted")
            for away in (State.SUSPENDED, State.CAPTIVE):
                if away is State.SUSPENDED:
                    await client.suspend()
                else:
                    wire.portal = Portal.HTML
                    client.resume()
                await until(lambda away=away: client.connection.state is away)  # type: ignore[misc, union-attr]
                # documents: queued, on this disk
                assert of(client, "documents") == "queued"
                room.text("body").append("away ")
                await room.wait_saved()
                assert room.status.pending_updates >= 1
                # others' edits: cached
                assert of(client, "others' edits") == "cached"
                assert "live " in str(room.text("body"))
                # messages: queued, on this disk
                assert of(client, "messages") == "queued"
                waiting = room.status.pending_messages
                message = await room.chat.send("away")
                assert (str(message.state), room.status.pending_messages) == ("queued", waiting + 1)
                # history: cached
                assert of(client, "history") == "cached"
                history = await room.chat.history()
                assert [one.body for one in list(history)[:2]] == ["read this", "sent"]
                # receipts: queued, on this disk
                assert of(client, "receipts") == "queued"
                await room.chat.mark_read()
                assert room.chat.unread == 0
                # broadcasts and calls: unavailable, and never queued
                assert of(client, "broadcasts") == of(client, "calls to services") == "unavailable"
                with pytest.raises(collab.OfflineError):
                    await room.broadcast("hello?")
                with pytest.raises(collab.OfflineError):
                    await room.call("captions")
                # presence: unavailable
                assert of(client, "presence") == "unavailable"
                assert not room.presence.others()
                # undo: available
                assert of(client, "undo") == "available"
                undo = room.undo(room.text("body"))
                room.text("body").append("oops")
                assert undo.undo()
            wire.portal = None
            await room.wait_synced(20)
            await until(lambda: str(there.text("body")) == str(room.text("body")))
            await until(lambda: str(first.state) == "read")
            await message.wait("accepted")
            await until(lambda: client.connection.state is State.LIVE)  # type: ignore[union-attr]
            assert of(client, "others' edits") == "available"

    run(main())


def test_without_a_relay_the_table_says_so() -> None:
    async def main() -> None:
        async with collab.open(":memory:") as client:
            assert client.capabilities() == capabilities(None)
            assert of(client, "documents") == "available"
            assert of(client, "presence") == "unavailable"
            room = await client.room("notes")
            assert of(client, "messages") == "queued"
            assert str((await room.chat.send("kept")).state) == "queued"
            assert of(client, "history") == "cached"
            assert [one.body for one in await room.chat.history()] == ["kept"]

    run(main())


def test_while_it_catches_up_the_table_says_that() -> None:
    async def main() -> None:
        async with (
            ScriptedRelay() as slow,
            collab.open(":memory:", relay=slow.url, settings=QUICK) as client,
        ):
            await client.room("notes")
            await slow.welcomed()
            await until(lambda: client.connection.state is State.SYNCING)  # type: ignore[union-attr]
            assert client.capabilities() == capabilities(State.SYNCING)
            assert of(client, "others' edits") == "cached"

    run(main())
