"""Who may do what: a refusal is told to whom it concerns, costs nothing, and is not asked again."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import HTTPConnection

import collab
from collab.protocol import frames
from collab.protocol.frames import Access
from collab_server.auth import User
from tests.e2e.support import QUICK, reads, run, running, scripted_client, until


class House:
    """Everybody whose token is not "bad"; rights by (user, room), WRITE where nothing is said."""

    def __init__(self) -> None:
        self.rights: dict[tuple[str, str], Access] = {}
        self.asked: Counter[str | None] = Counter()

    async def authenticate(self, token: str | None, _request: HTTPConnection) -> User | None:
        self.asked[token] += 1
        return None if token in ("bad", None) else User(str(token))

    async def authorize(self, user: User, room: str) -> Access:
        return self.rights.get((user.sub, room), Access.WRITE)


def test_a_refused_token_ends_in_failed_and_is_not_tried_again_until_asked(tmp_path: Path) -> None:
    house, tokens = House(), ["bad"]

    async def main() -> None:
        async with (
            running(
                tmp_path, authenticate=house.authenticate, authorize=house.authorize
            ) as (url, _),
            collab.open(
                ":memory:", relay=url, token=lambda: tokens[-1], settings=QUICK
            ) as client,
        ):  # fmt: skip
            room = await client.room("notes")
            room.text("body").insert(0, "kept")
            with pytest.raises(collab.Rejected) as refused:
                await room.wait_synced(20)
            assert (refused.value.code, refused.value.retryable) == ("unauthenticated", False)
            assert client.connection is not None
            assert client.connection.state is collab.State.FAILED
            assert client.connection.next_attempt is None
            await room.wait_saved()
            assert house.asked["bad"] == 2  # the second time in case the first had expired
            client.connect()
            with pytest.raises(collab.Rejected):
                await room.wait_synced(20)
            assert house.asked["bad"] == 3
            tokens.append("ada")
            client.connect()
            await room.wait_synced(20)

    run(main())


def test_a_token_function_that_fails_is_asked_again(tmp_path: Path) -> None:
    house, calls = House(), Counter[str]()

    async def token() -> str:
        calls["token"] += 1
        if calls["token"] < 4:
            raise RuntimeError("the identity service is down")
        return "ada"

    async def main() -> None:
        async with (
            running(
                tmp_path, authenticate=house.authenticate, authorize=house.authorize
            ) as (url, _),
            collab.open(":memory:", relay=url, token=token, settings=QUICK) as client,
        ):  # fmt: skip
            reasons: list[str] = []
            client.observe(lambda status: reasons.append(status.reason))
            room = await client.room("notes")
            await room.wait_synced(20)
            assert any("identity service is down" in reason for reason in reasons)

    run(main())


@pytest.mark.parametrize("token", [b"bytes", 5, "x" * 9000, "\ud800"], ids=ascii)
def test_a_token_that_is_none_ends_in_failed_with_the_reason(tmp_path: Path, token: Any) -> None:
    house = House()

    async def main() -> None:
        async with (
            running(
                tmp_path, authenticate=house.authenticate, authorize=house.authorize
            ) as (url, _),
            collab.open(":memory:", relay=url, token=lambda: token, settings=QUICK) as client,
        ):  # fmt: skip
            room = await client.room("notes")
            with pytest.raises(collab.Rejected, match="A token is a string"):
                await room.wait_synced(20)
            assert not house.asked

    run(main())


def test_rights_that_fail_end_that_connection_alone_and_are_asked_again(tmp_path: Path) -> None:
    house, calls = House(), Counter[str]()

    async def authenticate(token: str | None, request: HTTPConnection) -> User | None:
        calls["authenticate"] += 1
        if calls["authenticate"] == 2:
            raise RuntimeError("the database of users is down")
        return await house.authenticate(token, request)

    async def authorize(user: User, room: str) -> Access:
        calls[room] += 1
        if room == "flaky" and calls[room] < 3:
            raise RuntimeError("the database of rights is down")
        return Access.WRITE

    async def main() -> None:
        async with (
            running(tmp_path, authenticate=authenticate, authorize=authorize) as (url, _),
            collab.open(":memory:", relay=url, token="ada", settings=QUICK) as steady,
        ):
            well = await steady.room("notes")
            await well.wait_synced(20)
            states: list[collab.ConnectionStatus] = []
            async with collab.open(":memory:", relay=url, token="bob", settings=QUICK) as client:
                room = await client.room("flaky")
                room.text("body").insert(0, "x")
                await until(lambda: steady.connection.state is collab.State.LIVE)  # type: ignore[union-attr]
                steady.observe(states.append)
                await room.wait_synced(20)
            assert states == []

    run(main())


def test_a_forbidden_room_is_denied_and_the_others_are_not(tmp_path: Path) -> None:
    house = House()
    house.rights["ada", "secret"] = Access.NONE

    async def main() -> None:
        async with (
            running(
                tmp_path, authenticate=house.authenticate, authorize=house.authorize
            ) as (url, _),
            collab.open(":memory:", relay=url, token="ada", settings=QUICK) as client,
        ):  # fmt: skip
            denied, allowed = await client.room("secret"), await client.room("notes")
            denied.text("body").insert(0, "kept")
            with pytest.raises(collab.Rejected) as refused:
                await denied.wait_synced(20)
            assert (refused.value.code, refused.value.retryable) == ("forbidden", False)
            assert isinstance(denied.status.error, collab.Rejected)
            await denied.wait_saved()
            allowed.text("body").insert(0, "fine")
            await allowed.wait_synced(20)
            assert allowed.status.error is None
            await until(lambda: client.connection.state is collab.State.LIVE)  # type: ignore[union-attr]

    run(main())


@pytest.mark.parametrize("when", ["before", "while"])
def test_a_readers_edits_are_kept_here_and_remote_edits_still_arrive(
    tmp_path: Path, when: str
) -> None:
    house = House()
    house.rights["eve", "notes"] = Access.READ

    async def main() -> None:
        async with (
            running(
                tmp_path / "relay", authenticate=house.authenticate, authorize=house.authorize
            ) as (url, _),
            collab.open(":memory:", relay=url, token="ada", settings=QUICK) as writer,
            collab.open(tmp_path / "eve.db", relay=url, token="eve", settings=QUICK) as reader,
        ):
            room, theirs = await writer.room("notes"), await reader.room("notes")
            if when == "before":
                theirs.text("mine").insert(0, "kept")
                await theirs.wait_saved()
            else:
                await theirs.wait_synced(20)
                theirs.text("mine").insert(0, "kept")
            with pytest.raises(collab.Rejected) as refused:
                await theirs.wait_synced(20)
            assert refused.value.code == "forbidden"
            assert theirs.status.refused is not None
            assert theirs.status.refused.startswith("forbidden")
            assert theirs.status.saved
            assert theirs.status.pending_updates
            for text in ("one ", "two "):
                room.text("body").insert(len(room.text("body")), text)
                await room.wait_synced(20)
                await reads(theirs, str(room.text("body")))
            assert str(theirs.text("mine")) == "kept"
            assert str(room.text("mine")) == ""
        async with collab.open(tmp_path / "eve.db") as reader:
            theirs = await reader.room("notes")
            assert str(theirs.text("mine")) == "kept"
            assert str(theirs.text("body")) == "one two "

    run(main())


def test_rights_that_are_withdrawn_take_effect_on_open_connections(tmp_path: Path) -> None:
    house = House()

    async def main() -> None:
        async with (
            running(
                tmp_path,
                authenticate=house.authenticate,
                authorize=house.authorize,
                recheck_rights_s=0.05,
            ) as (url, relay),
            collab.open(":memory:", relay=url, token="ada", settings=QUICK) as client,
            collab.open(":memory:", relay=url, token="bob", settings=QUICK) as other,
        ):
            room, gone = await client.room("notes"), await client.room("gone")
            theirs = await other.room("notes")
            for each in (room, gone, theirs):
                each.text("body").insert(0, "x")
                await each.wait_synced(20)
            await until(lambda: str(room.text("body")) == str(theirs.text("body")) == "xx")
            house.rights["ada", "notes"] = Access.READ
            house.rights["ada", "gone"] = Access.NONE
            await until(lambda: isinstance(gone.status.error, collab.Rejected))
            shared = relay._shared
            assert shared is not None
            loaded = shared.rooms._loaded["notes"]
            await until(lambda: Access.READ in {r.access for r in loaded.room.readers})
            room.text("body").insert(0, "refused ")
            with pytest.raises(collab.Rejected, match="forbidden"):
                await room.wait_synced(20)
            theirs.text("body").insert(0, "y")
            await until(lambda: "y" in str(room.text("body")))
            assert "refused" not in str(theirs.text("body"))

    run(main())


def test_a_user_cannot_fence_anothers_device(tmp_path: Path) -> None:
    house = House()

    async def main() -> None:
        async with (
            running(
                tmp_path, authenticate=house.authenticate, authorize=house.authorize
            ) as (url, _),
            scripted_client(url, device=b"d" * 16, number=1, token="ada") as ada,
            scripted_client(url, device=b"d" * 16, number=9, token="eve") as eve,
        ):  # fmt: skip
            for speaker in (ada, eve):
                await speaker.send(frames.Ping(1))
                await speaker.expect(frames.Pong)

    run(main())
