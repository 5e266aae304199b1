"""A damaged file is read as far as it can be, or refused; never written, never another error."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from collab.errors import StoreCorrupt, Unsupported
from collab.storage import inspection
from collab.storage.documents import Batch, Position
from collab.storage.identity import Identity
from tests.unit.storage.files import documents

SEED = 4114
PAGE = 4096
VERSION_BYTES = range(60, 64)  # of the header; a higher one cannot be told from a newer program's


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A file with rooms, snapshots, overflow pages and a free list."""
    path = tmp_path_factory.mktemp("sound") / "notes.db"
    rng = random.Random(SEED)

    async def main() -> None:
        async with documents(path) as (_, store):
            for name in ("one", "two", "drei"):
                room = (await store.create(name)).id
                sizes = [rng.choice((20, 50, 300, 9000)) for _ in range(40)]
                rows = [(n % 3 == 0, rng.randbytes(size)) for n, size in enumerate(sizes)]
                position = Position(rng.randbytes(16), 5)
                await store.append([Batch(room, rows, position=position, epoch=bytes(16))])
                if name == "two":
                    await store.compact(room, rng.randbytes(7000), await store.last_row(room) - 9)

    asyncio.run(main())
    return path.read_bytes()


async def use(path: Path) -> str:
    try:
        async with documents(path) as (database, store):
            await Identity(database).device_id()
            for room in await store.rooms():
                await store.load(room.id)
                await store.last_row(room.id)
                await store.sizes(room.id)
    except StoreCorrupt:
        return "refused"
    except Unsupported:
        return "newer"
    return "read"


def outcomes(path: Path, variants: Iterator[bytes]) -> dict[str, int]:
    """What came of opening and reading each variant. Any other error passes through."""

    async def main() -> dict[str, int]:
        counted = {"read": 0, "refused": 0, "newer": 0}
        for variant in variants:
            path.write_bytes(variant)
            counted[await use(path)] += 1
            assert path.read_bytes() == variant
            assert [entry.name for entry in path.parent.iterdir()] == [path.name]
        return counted

    return asyncio.run(main())


def flipped(sound: bytes, rounds: int) -> Iterator[bytes]:
    rng = random.Random(SEED)
    for start in range(0, len(sound), PAGE):
        for round_ in range(rounds):
            variant = bytearray(sound)
            # Every other time near the page's start, where its structure is.
            reach = PAGE if round_ % 2 else 64
            for _ in range(rng.choice((1, 1, 4, 60))):
                variant[start + rng.randrange(reach)] ^= rng.randrange(1, 256)
            if all(variant[at] == sound[at] for at in VERSION_BYTES):
                yield bytes(variant)


@pytest.mark.parametrize("checked", [True, False], ids=["checked", "too-large-to-check"])
def test_flipped_bytes_in_any_page_are_refused_or_harmless(
    tmp_path: Path, sound: bytes, monkeypatch: pytest.MonkeyPatch, *, checked: bool
) -> None:
    if not checked:
        monkeypatch.setattr(inspection, "ALWAYS_CHECKED_BYTES", 0)
    seen = outcomes(tmp_path / "notes.db", flipped(sound, 4 if checked else 5))
    assert seen["newer"] == 0
    assert seen["refused"] > 50
    assert seen["read"] > 50


def test_any_flipped_byte_of_the_header_is_refused_or_harmless(
    tmp_path: Path, sound: bytes
) -> None:
    def variants() -> Iterator[bytes]:
        for at in range(100):
            for bits in (0x01, 0x02, 0xFF):
                yield sound[:at] + bytes([sound[at] ^ bits]) + sound[at + 1 :]

    seen = outcomes(tmp_path / "notes.db", variants())
    assert 0 < seen["newer"] <= 3 * len(VERSION_BYTES)
    assert seen["refused"] > 100


def test_a_file_cut_anywhere_is_refused(tmp_path: Path, sound: bytes) -> None:
    cuts = (sound[:length] for length in range(1, len(sound), len(sound) // 60))
    seen = outcomes(tmp_path / "notes.db", cuts)
    assert seen["read"] == seen["newer"] == 0


def test_a_torn_wal_loses_only_what_was_torn(tmp_path: Path) -> None:
    """What a power cut leaves of the last commit: half a frame. SQLite's checksums drop it."""
    path = tmp_path / "notes.db"

    async def write() -> tuple[bytes, bytes]:
        async with documents(path) as (_, store):
            room = (await store.create("room")).id
            await store.append([Batch(room, [(True, b"first")])])
            await store.append([Batch(room, [(True, b"second")])])
            return path.read_bytes(), path.with_name("notes.db-wal").read_bytes()

    async def read() -> list[bytes]:
        async with documents(path) as (_, store):
            [room] = await store.rooms()
            return (await store.load(room.id)).updates

    main, wal = asyncio.run(write())
    path.write_bytes(main)
    path.with_name("notes.db-wal").write_bytes(wal[:-1000])
    assert asyncio.run(read()) == [b"first"]
