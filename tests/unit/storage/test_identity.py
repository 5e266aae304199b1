"""What a file calls itself: one device id until it is renewed, and numbers that never repeat."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from collab.errors import StoreCorrupt
from collab.storage.identity import Identity
from collab.storage.schema import migrations
from tests.unit.storage.files import documents


async def device_id(path: Path) -> bytes:
    async with documents(path) as (database, _):
        return await Identity(database).device_id()


def test_the_device_id_is_made_once(tmp_path: Path) -> None:
    async def main() -> None:
        seen = {await device_id(tmp_path / "a.db") for _ in range(3)}
        assert [len(each) for each in seen] == [16]
        assert await device_id(tmp_path / "b.db") not in seen

    asyncio.run(main())
    with pytest.raises(ValueError, match="16 bytes"):
        migrations(b"short")


def test_a_renewed_device_id_stays(tmp_path: Path) -> None:
    async def main() -> None:
        async with documents(tmp_path / "a.db") as (database, _):
            identity = Identity(database)
            await identity.renew(b"n" * 16)
            assert await identity.device_id() == b"n" * 16
            with pytest.raises(ValueError, match="16 bytes"):
                await identity.renew(b"short")
        assert await device_id(tmp_path / "a.db") == b"n" * 16

    asyncio.run(main())


def test_connection_numbers_rise_strictly_also_across_restarts(tmp_path: Path) -> None:
    numbers: list[int] = []

    async def main() -> None:
        for _ in range(2):
            async with documents(tmp_path / "a.db") as (database, _store):
                identity = Identity(database)
                numbers.extend([await identity.next_connection_number(1) for _ in range(3)])
                numbers.append(await identity.next_connection_number(numbers[-1] + 100))
                numbers.append(await identity.next_connection_number(0))

    asyncio.run(main())
    assert numbers == [1, 2, 3, 103, 104, 105, 106, 107, 207, 208]


@pytest.mark.parametrize(
    "damage",
    [
        "DELETE FROM meta WHERE key = 'device_id'",
        "UPDATE meta SET value = x'00' WHERE key = 'device_id'",
        "DELETE FROM meta WHERE key = 'connection_number'",
    ],
)
def test_an_identity_that_cannot_be_ours_is_damage(tmp_path: Path, damage: str) -> None:
    async def main() -> None:
        async with documents(tmp_path / "a.db") as (database, _):
            await database.write(lambda connection: connection.execute(damage))
            identity = Identity(database)
            with pytest.raises(StoreCorrupt):
                await asyncio.gather(identity.device_id(), identity.next_connection_number(0))

    asyncio.run(main())
