"""What waits for the disk, and what is on its way to it."""

from __future__ import annotations

import asyncio
from pathlib import Path

from collab.protocol.document_sync import Row
from collab.storage.saver import RoomQueue, Saver
from tests.unit.storage.files import documents


def test_what_is_not_on_the_disk_yet_is_known_also_while_it_is_on_its_way(tmp_path: Path) -> None:
    async def main() -> None:
        async with documents(tmp_path / "a.db") as (_, store):
            saver = Saver(store, on_error=lambda error: None)
            rows: list[Row] = []
            queue = RoomQueue(
                saver,
                (await store.create("notes")).id,
                merge=b"".join,
                on_saved=lambda saved, _: rows.extend(saved),
                last_local=0,
            )
            assert queue.unsaved == []
            queue.add_local(b"a")
            queue.add_local(b"b")
            queue.add_remote(b"remote", None)
            mark = queue.mark()
            queue.add_local(b"c")
            assert queue.unsaved == [b"a", b"b", b"c"]
            taken = queue.take()
            assert queue.unsaved == [b"ab", b"c"]
            queue.add_local(b"d")
            assert queue.unsaved == [b"ab", b"c", b"d"]
            [ids] = await store.append([taken.batch])
            queue.committed(taken, ids)
            assert queue.unsaved == [b"d"]
            assert [row.data for row in rows] == [b"ab", b"c"]
            assert await mark == rows[0].id

    asyncio.run(main())
