"""Edits that were refused for want of a right go up when the right comes; other refusals stay."""

from __future__ import annotations

from pathlib import Path

import pytest

import collab
from collab import limits
from collab.protocol.frames import Access
from tests.e2e.support import QUICK, Wire, reads, run, running, until
from tests.e2e.test_rights import House


@pytest.mark.parametrize("looks_again", [True, False], ids=["while joined", "at the next joining"])
def test_what_waited_for_the_right_to_write_goes_up_by_itself(
    tmp_path: Path, looks_again: bool
) -> None:
    house = House()

    async def main() -> None:
        async with (
            running(
                tmp_path, authenticate=house.authenticate, authorize=house.authorize,
                recheck_rights_s=0.05 if looks_again else 60.0,
            ) as (url, _),
            Wire(url) as wire,
            collab.open(":memory:", relay=wire.url, token="ada", settings=QUICK) as ada,
            collab.open(":memory:", relay=url, token="ben", settings=QUICK) as ben,
        ):  # fmt: skip
            ours, theirs = await ada.room("notes"), await ben.room("notes")
            ours.text("body").insert(0, "one ")
            await ours.wait_synced(20)
            for turn in range(2):
                house.rights["ada", "notes"] = Access.READ
                if not looks_again:
                    await wire.cut()
                await until(lambda: ours._sync.machine.access is Access.READ)
                ours.text("body").insert(0, f"waits{turn} ")
                await until(lambda: ours.status.refused)
                assert ours.status.refused is not None
                assert ours.status.refused.startswith("forbidden: ")
                with pytest.raises(collab.Rejected):
                    await ours.wait_synced(20)
                refused: list[str | None] = []
                watching = ours.observe(
                    lambda event, refused=refused: (
                        refused.append(ours.status.refused)  # type: ignore[misc]
                        if isinstance(event, collab.StatusChanged)
                        else None
                    )
                )
                house.rights["ada", "notes"] = Access.WRITE
                if not looks_again:
                    await wire.cut()
                await until(lambda refused=refused: refused and refused[-1] is None)  # type: ignore[misc]
                watching.close()
                await ours.wait_synced(20)
                assert ours.status.refused is None
                assert ours.status.error is None
                await reads(theirs, str(ours.text("body")))
            assert str(theirs.text("body")) == "waits1 waits0 one "

    run(main())


def test_a_refusal_for_another_reason_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MAX_DOCUMENT_BYTES", 1000)

    async def main() -> None:
        async with (
            running(tmp_path) as (url, _),
            Wire(url) as wire,
            collab.open(":memory:", relay=wire.url, settings=QUICK) as client,
        ):
            room = await client.room("notes")
            room.text("body").insert(0, "x" * 2000)
            await until(lambda: room.status.refused)
            accepted = wire.accepted
            await wire.cut()
            await until(lambda: wire.accepted > accepted and room._sync.machine.is_caught_up)
            assert room.status.refused is not None
            assert room.status.refused.startswith("too_large: ")
            assert room.status.pending_updates

    run(main())
