"""PROTOCOL.md is true: its examples decode, its tables are the code's, its conversation happens."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from collab import limits
from collab.crdt.engines import make_replica
from collab.crdt.replica import Replica
from collab.link import ConnectionSettings
from collab.protocol import frames
from collab.protocol.backoff import BackoffSettings
from collab.protocol.codec import decode_from_client, decode_from_relay, encode
from collab.protocol.document_sync import Apply, Differ, DocumentSync, Row, Store
from collab.protocol.frames import Access, Close, Code, Frame
from collab.protocol.position import NOWHERE, Position
from collab.protocol.update import (
    Coverage,
    decode_awareness,
    decode_state_vector,
    encode_awareness,
    encode_state_vector,
    walk,
)
from collab_server.room import Appended, Reader, Room

TEXT = (Path(__file__).parents[3] / "PROTOCOL.md").read_text()
CLIENTS: list[type[Frame]] = list(frames.FROM_CLIENT)
RELAYS: list[type[Frame]] = list(frames.FROM_RELAY)
KINDS = sorted({*CLIENTS, *RELAYS}, key=lambda kind: kind.TAG)
SECTIONS = dict(re.findall(r"^### (\d+ \w+), .*?$\n(.*?)(?=^##)", TEXT, re.M | re.S))
EXAMPLES = re.findall(r"^```hex (\w+)\n(.*?)\n\n(.*?)^```$", TEXT, re.M | re.S)


def rows_after(heading: str) -> list[list[str]]:
    """The cells of the first table below a heading, without its first two lines."""
    table = re.search(rf"^{re.escape(heading)}$.*?\n\n(\|.*?)\n\n", TEXT, re.M | re.S)
    assert table is not None, heading
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table[1].split("\n")][
        2:
    ]


def unhex(digits: str) -> bytes:
    return bytes.fromhex("".join(digits.split()))


def value_of(written: str) -> Any:
    quoted = re.fullmatch(r"h'([0-9a-f]*)'", written)
    return bytes.fromhex(quoted[1]) if quoted else json.loads(written)


# Frames


def test_every_frame_has_a_section_under_its_tag_and_no_section_is_of_no_frame() -> None:
    assert list(SECTIONS) == [f"{kind.TAG} {kind.__name__.upper()}" for kind in KINDS]


def test_every_section_says_who_sends_the_frame() -> None:
    for kind in KINDS:
        sender = "both" if kind in CLIENTS and kind in RELAYS else "device"
        if kind not in CLIENTS:
            sender = "relay"
        assert f"### {kind.TAG} {kind.__name__.upper()}, {sender}\n" in TEXT


@pytest.mark.parametrize("kind", KINDS)
def test_every_section_names_the_fields_in_their_order(kind: type[Frame]) -> None:
    section = SECTIONS[f"{kind.TAG} {kind.__name__.upper()}"]
    named = re.findall(r"^\| `(\w+)` \|", section, re.M)
    assert named == [field.name for field in fields(kind)]


def test_every_frame_has_an_example() -> None:
    assert {name for name, _, _ in EXAMPLES} == {kind.__name__.upper() for kind in KINDS}


@pytest.mark.parametrize(("name", "digits", "written"), EXAMPLES)
def test_an_example_is_the_frame_that_is_written_beside_it(
    name: str, digits: str, written: str
) -> None:
    (kind,) = [kind for kind in KINDS if kind.__name__.upper() == name]
    data = unhex(digits)
    frame = (decode_from_client if kind in CLIENTS else decode_from_relay)(data)
    assert type(frame) is kind
    values = [line.split(" = ", 1) for line in written.splitlines()]
    assert [name for name, _ in values] == [field.name for field in fields(kind)]
    for field, value in values:
        assert getattr(frame, field) == value_of(value)
    assert encode(frame) == data


def test_the_text_says_which_frames_may_come_in_parts() -> None:
    sentence = re.search(r"([A-Z, ]+ and RESYNC) may come in parts; no other frame may", TEXT)
    assert sentence is not None
    named = set(re.findall(r"[A-Z]{4,}", sentence[1]))
    assert named == {kind.__name__.upper() for kind in frames.IN_PARTS}


# Tables


def test_every_limit_is_the_codes() -> None:
    homes = {
        "limits": limits,
        "ConnectionSettings": ConnectionSettings(),
        "BackoffSettings": BackoffSettings(),
    }
    table = {name.strip("`"): value for name, value, _ in rows_after("## Limits")}
    for name, value in table.items():
        home, _, attribute = name.partition(".")
        assert getattr(homes[home], attribute) == float(value.replace(",", "")), name
    quoted = set(re.findall(r"`([A-Z_]{6,}|[a-z]+_s)`", TEXT))
    assert quoted <= {name.partition(".")[2] for name in table}
    assert len(table) > 20


def test_every_close_code_is_the_codes_with_its_permanence() -> None:
    table = {int(code): (name, said) for code, name, said, _ in rows_after("## Close codes")}
    assert table == {
        code: (code.name, "yes" if frames.is_permanent(code) else "no") for code in Close
    }
    assert set(map(int, re.findall(r"\b4[45]\d\d\b", TEXT))) <= {*Close, 4499}


def test_every_code_of_a_refusal_is_the_codes_with_its_permanence() -> None:
    table = {code.strip("`"): said for code, said, _ in rows_after("## Codes of refusals")}
    assert table == {code: "no" if frames.is_transient(code) else "yes" for code in Code}


def test_the_version_the_subprotocol_and_the_levels_of_access_are_the_codes() -> None:
    assert f"The version in HELLO and WELCOME is {frames.VERSION}." in TEXT
    assert f"The subprotocol `{frames.SUBPROTOCOL}` must be offered" in TEXT
    levels = ", ".join(f"{level:d} ({level.name.lower()})" for level in list(Access)[:-1])
    assert f"{levels} or {Access.ADMIN:d} (admin)" in TEXT


def test_the_example_of_a_state_vector_is_one() -> None:
    found = re.search(r"^```state-vector\n(.*?)\n(.*?)\n```$", TEXT, re.M)
    assert found is not None
    clocks = {int(client): clock for client, clock in json.loads(found[2]).items()}
    assert decode_state_vector(unhex(found[1])) == clocks
    assert encode_state_vector(clocks) == unhex(found[1])


def test_the_example_of_an_awareness_update_is_one() -> None:
    found = re.search(r"^```awareness\n(.*?)\n(.*?)\n```$", TEXT, re.M)
    assert found is not None
    states = decode_awareness(unhex(found[1]))
    assert [[one.client_id, one.clock, one.state] for one in states] == json.loads(found[2])
    assert encode_awareness(states) == unhex(found[1])


# The conversation

EPOCH, GENERATION, RELAY = b"e" * 16, b"g" * 16, b"r" * 16
DEVICE, NONCE = b"d" * 16, b"n" * 16


def replica_of(client_id: int, local: list[bytes]) -> Replica:
    return make_replica(client_id, call_soon=lambda fn: fn(), on_local=local.append)


def conversation() -> list[str]:
    """What the device's and the relay's own machines say, line for line."""
    lines: list[str] = []

    def up(frame: Frame | None) -> Any:
        assert frame is not None
        lines.append(f"> {encode(frame).hex()}")
        return decode_from_client(encode(frame))

    def down(data: bytes | None) -> Any:
        assert data is not None
        lines.append(f"< {data.hex()}")
        return decode_from_relay(data)

    edits: list[bytes] = []
    device = replica_of(1, edits)
    device.text("t").insert(0, "hi")
    sync = DocumentSync(epoch=EPOCH, position=Position(b"o" * 16, 40), unacked=())
    sync.prepare(Coverage())
    sync.saved([Row(1, edits[0])])

    others: list[bytes] = []
    other = replica_of(2, others)
    other.text("t").insert(0, "yo")
    log = replica_of(9, [])
    log.apply(others[0])
    room = Room(
        room_id=1, channel=3, name="design", epoch=EPOCH, base=0, head=6,
        coverage=Coverage.from_update(others[0]),
    )  # fmt: skip
    reader, writer = (Reader(Access.WRITE, lambda: None) for _ in range(2))
    room.join(writer, good=True, offset=6)

    # The handshake
    hello = up(frames.Hello(frames.VERSION, NONCE, DEVICE, 12, None))
    down(encode(frames.Welcome(frames.VERSION, hello.nonce, RELAY, GENERATION)))

    # Joining: the old generation is not known
    join = up(sync.join(1, "design"))
    assert not room.join(reader, good=False, offset=join.offset)
    answer = frames.Joined(
        join.request, room.channel, room.epoch, False, room.head,
        room.coverage.state_vector(), Access.WRITE,
    )  # fmt: skip
    lost, _, differ = sync.joined(down(encode(answer)), GENERATION)
    assert lost == Store(NOWHERE, None)
    assert isinstance(differ, Differ)
    assert sync.next_frame() is None

    # Both differences
    offer = device.difference(differ.state_vector)
    sync.offer(offer, 1, differ.turn)
    offered = up(sync.next_frame())
    appended = room.receive(reader, offered, walk(offered.update), lambda: 7)
    assert appended == Appended(7, offer)
    found = frames.Difference(room.channel, 6, log.difference(join.state_vector))
    room.place(reader, 6)
    came = down(encode(found))
    (applied,) = sync.difference(came.offset, came.update, walk(came.update))
    assert applied == Apply(came.update, None)  # no position before the ack of the offer
    device.apply(came.update)
    assert not sync.is_level

    # The ack, after the commit
    assert room.next_run(reader) is None
    assert room.next_ack(reader, 6) is None
    ack = down(room.next_ack(reader, 7))
    assert sync.ack(ack.number, ack.offset) == [Store(Position(GENERATION, 7), 1)]
    assert sync.is_level

    # Live: an edit of the device, then one of the other
    device.text("t").insert(0, "!")
    sync.saved([Row(2, edits[1])])
    update = up(sync.next_frame())
    room.receive(reader, update, walk(update.update), lambda: 8)
    assert room.next_run(reader) is None
    ack = down(room.next_ack(reader, 8))
    sync.ack(ack.number, ack.offset)
    other.text("t").insert(2, "?")
    room.receive(writer, frames.Update(3, 1, others[1]), walk(others[1]), lambda: 9)
    run = room.next_run(reader)
    assert isinstance(run, bytes)
    came = down(run)
    sync.updates(came.offset, came.update, walk(came.update))
    device.apply(came.update)
    assert sync.is_level

    # Equal content
    for part in (edits[0], edits[1]):
        other.apply(part)
    assert str(device.text("t")) == str(other.text("t"))
    return lines


def test_the_conversation_is_what_the_machines_say() -> None:
    block = re.search(r"^```conversation\n(.*?)^```$", TEXT, re.M | re.S)
    assert block is not None
    said = [line for line in block[1].splitlines() if line[:1] in ("<", ">")]
    assert said == conversation()


def test_every_line_of_the_conversation_is_announced_by_its_frames_name() -> None:
    block = re.search(r"^```conversation\n(.*?)^```$", TEXT, re.M | re.S)
    assert block is not None
    lines = block[1].splitlines()
    for comment, line in zip(lines[::2], lines[1::2], strict=True):
        decode = decode_from_client if line[0] == ">" else decode_from_relay
        frame = decode(unhex(line[2:]))
        assert comment.startswith(f"# {type(frame).__name__.upper()}: ")
