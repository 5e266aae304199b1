"""Does the relay serve stock y-websocket providers, 3.x and 1.5.x, beside clients of our own?"""

from __future__ import annotations

import asyncio
import random
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from concurrent.futures import Future
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pycrdt
import pytest

import collab
from collab.protocol.frames import Access, Close
from collab_server.app import Relay
from collab_server.serving import listen, served
from collab_server.settings import Settings
from tests.e2e.support import QUICK, TIMEOUT_S, rows, run, running, until
from tests.e2e.test_rights import House
from tests.interop.documents import canonical, contents
from tests.interop.node import Node, running_node
from tests.property import guard_documents

VERSIONS = pytest.mark.parametrize("version", [3, 1], ids=["3.x", "1.5.x"])
NAME = "notes/über 你好"


async def eventually(
    ask: Callable[[], Awaitable[Any]], expected: Callable[[Any], object], *, within_s: float = 20
) -> Any:
    """The first answer that is as ``expected``."""
    answer: Any = None
    try:
        async with asyncio.timeout(within_s):
            while True:
                answer = await ask()
                if expected(answer):
                    return answer
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise AssertionError(f"still {str(answer)[:2000]}") from None


class Peer:
    """One stock provider."""

    def __init__(self, node: Node, name: str) -> None:
        self._node = node
        self.name = name

    async def do(self, command: str, **details: Any) -> Any:
        return await self._node.do(command, self.name, **details)

    async def status(self) -> dict[str, Any]:
        answer: dict[str, Any] = await self.do("status")
        return answer

    async def is_synced(self) -> None:
        await eventually(self.status, lambda status: status["synced"])

    async def contents(self) -> str:
        return canonical(await self.do("contents"))

    async def reads(self, text: str) -> None:
        """Return when the root text is ``text``."""
        expected = ["text", [[text, {}]] if text else []]
        await eventually(lambda: self.do("contents"), lambda found: found[0] == expected)

    async def is_closed(self, code: int) -> None:
        await eventually(self.status, lambda status: code in status["closes"])


@asynccontextmanager
async def peer(
    node: Node, url: str, version: int, *, room: str = NAME, **options: Any
) -> AsyncIterator[Peer]:
    """A stock provider of ``url``'s relay, until the block ends."""
    one = Peer(node, f"{version} {random.random()}")
    await one.do("open", version=version, url=url + "/y", room=room, **options)
    try:
        yield one
    finally:
        await one.do("close")


def read_by(room: collab.Room) -> str:
    return canonical(contents(room.document))


def with_node(main: Callable[[Node], Coroutine[Any, Any, None]]) -> None:
    async def whole() -> None:
        async with running_node("providers.mjs") as node:
            await main(node)

    run(whole())


async def converge(room: collab.Room, *peers: Peer) -> None:
    """Return when all have the same content; it is not empty."""

    async def found() -> list[str]:
        return [read_by(room), *[await one.contents() for one in peers]]

    answer = await eventually(found, lambda found: len(set(found)) == 1)
    assert len(answer[0]) > 100


async def edit_at_random(room: collab.Room, seed: int, steps: int) -> None:
    """Edits of all kinds by a Python program."""
    rng = random.Random(seed)
    for _ in range(steps):
        with room.transaction():
            guard_documents._edit(rng, room.document)
        if rng.random() < 0.3:
            await asyncio.sleep(0.001)


@pytest.mark.parametrize("seed", range(4))
def test_two_stock_providers_and_a_python_client_come_to_the_same_content(
    seed: int, tmp_path: Path
) -> None:
    async def main(node: Node) -> None:
        async with (
            running(tmp_path) as (url, _),
            collab.open(":memory:", relay=url, settings=QUICK) as client,
            peer(node, url, 3) as three,
            peer(node, url, 1) as one,
        ):
            room = await client.room(NAME)
            for turn in range(3):
                await asyncio.gather(
                    three.do("edit", seed=seed * 100 + turn, steps=40),
                    one.do("edit", seed=seed * 100 + 50 + turn, steps=40),
                    edit_at_random(room, seed * 100 + turn, 40),
                )
                await converge(room, three, one)
            await room.wait_synced(TIMEOUT_S)
            for each in (three, one):
                assert (await each.status())["closes"] == []
            async with (
                peer(node, url, 3) as late,
                collab.open(":memory:", relay=url, settings=QUICK) as other,
            ):
                await converge(await other.room(NAME), late, one)

    with_node(main)


@VERSIONS
def test_edits_made_apart_from_the_relay_come_together_when_it_is_back(
    version: int, tmp_path: Path
) -> None:
    async def main(node: Node) -> None:
        probe = listen(Settings(data=tmp_path, open=True, port=0))
        settings = Settings(data=tmp_path, open=True, port=probe.getsockname()[1])
        probe.close()
        url = f"ws://127.0.0.1:{settings.port}"
        async with (
            collab.open(":memory:", relay=url, settings=QUICK) as client,
            peer(node, url, version) as one,
        ):
            room = await client.room(NAME)
            for turn in range(3):
                async with served(Relay(settings), settings):
                    await one.is_synced()
                    await one.do("edit", seed=turn, steps=20)
                    await edit_at_random(room, turn, 20)
                    await converge(room, one)
                await eventually(one.status, lambda status: not status["connected"])
                await one.do("edit", seed=turn + 10, steps=20)
                await edit_at_random(room, turn + 10, 20)
                assert await one.contents() != read_by(room)
            async with served(Relay(settings), settings):
                await converge(room, one)
                assert (await one.status())["opened"] == 4

    with_node(main)


def states(room: collab.Room) -> list[dict[str, Any]]:
    return sorted((s for s in room.presence.others().values() if s), key=repr)


def test_all_see_each_other_in_any_script_until_they_go(tmp_path: Path) -> None:
    ada, bob, eve = ({"user": {"name": name}} for name in ("Ada 📊", "小波", "שלום\u2028"))

    async def main(node: Node) -> None:
        async with (
            running(tmp_path) as (url, _),
            collab.open(":memory:", relay=url, user=ada["user"], settings=QUICK) as client,
            peer(node, url, 1) as one,
        ):
            room = await client.room(NAME)
            await one.do("say", state=bob)
            await until(lambda: states(room) == [bob])
            await eventually(lambda: one.do("heard"), lambda heard: heard == [ada])
            async with peer(node, url, 3) as three:
                await three.do("say", state=eve)
                await until(lambda: states(room) == sorted([bob, eve], key=repr))

                def has(*expected: dict[str, Any]) -> Callable[[Any], object]:
                    return lambda heard: sorted(heard, key=repr) == sorted(expected, key=repr)

                await eventually(lambda: one.do("heard"), has(ada, eve))
                await eventually(lambda: three.do("heard"), has(ada, bob))
                room.presence.set({"caret": {"文": [1, None, "é"]}})
                moved = ada | {"caret": {"文": [1, None, "é"]}}
                await eventually(lambda: three.do("heard"), has(moved, bob))
                await three.do("say", state=None)
                await until(lambda: states(room) == [bob])
                await three.do("say", state=eve)
                await eventually(lambda: one.do("heard"), has(moved, eve))
            await until(lambda: states(room) == [bob])
            await eventually(lambda: one.do("heard"), lambda heard: heard == [moved])
            await one.do("disconnect")
            await until(lambda: states(room) == [])
            await one.do("connect")
            await one.do("say", state=bob)
            await until(lambda: states(room) == [bob])

    with_node(main)


@VERSIONS
def test_a_peer_that_kept_something_back_is_asked_for_it_and_heals(
    version: int, tmp_path: Path
) -> None:
    async def main(node: Node) -> None:
        elsewhere: pycrdt.Doc[Any] = pycrdt.Doc()
        elsewhere.get("text", type=pycrdt.Text).insert(0, "never sent, ")
        missing = b64encode(elsewhere.get_update()).decode()
        async with (
            running(tmp_path) as (url, _),
            peer(node, url, 3) as other,
            peer(node, url, version) as one,
        ):
            await one.is_synced()
            await one.do("learn", updates=[missing])
            await one.do("type", index=12, text="typed")
            await other.reads("never sent, typed")
            await one.do("type", index=17, text=" and more")
            await other.reads("never sent, typed and more")
            assert (await one.status())["closes"] == []

    with_node(main)


@VERSIONS
def test_a_document_of_megabytes_goes_up_and_down_in_one_message(
    version: int, tmp_path: Path
) -> None:
    text = "你好 hello " * 150_000

    async def main(node: Node) -> None:
        async with running(tmp_path) as (url, _):
            async with peer(node, url, version, connect=False) as one:
                await one.do("type", index=0, text=text)
                await one.do("connect")
                await until(lambda: sum(len(data) for _, data in rows(tmp_path)) > len(text))
                assert (await one.status())["closes"] == []
            async with peer(node, url, version) as other:
                await other.reads(text)

    with_node(main)


# Rights


@pytest.mark.parametrize(
    ("version", "shown"),
    [(1, lambda who: {"params": {"token": who}}), (3, lambda who: {"params": {"token": who}}),
     (3, lambda who: {"protocols": ["y", f"token.{who}"]}),
     (3, lambda who: {"protocols": [f"token.{who}"]})],
    ids=["1.5.x in the query", "3.x in the query", "3.x beside a subprotocol", "3.x as the only"],
)  # fmt: skip
def test_a_token_is_taken_from_where_a_stock_provider_can_put_it(
    version: int, shown: Callable[[str], dict[str, Any]], tmp_path: Path
) -> None:
    house = House()

    async def main(node: Node) -> None:
        async with (
            running(
                tmp_path, authenticate=house.authenticate, authorize=house.authorize
            ) as (url, _),
            peer(node, url, version, **shown("ada")) as ada,
        ):  # fmt: skip
            await ada.is_synced()
            assert house.asked == {"ada": 1}
            async with peer(node, url, version, **shown("bad")) as bad:
                await bad.is_closed(Close.UNAUTHENTICATED)

    with_node(main)


@VERSIONS
def test_a_room_that_is_forbidden_is_closed_for_good_with_the_reason(
    version: int, tmp_path: Path
) -> None:
    house = House()
    house.rights["eve", NAME] = Access.NONE

    async def main(node: Node) -> None:
        async with (
            running(
                tmp_path, authenticate=house.authenticate, authorize=house.authorize
            ) as (url, _),
            peer(node, url, version, params={"token": "eve"}) as eve,
        ):  # fmt: skip
            await eve.is_closed(Close.FORBIDDEN)
            status = await eve.status()
            assert "no such room" in "".join(status["warnings"])
            if version == 3:
                assert not status["tries"]
                assert status["opened"] == 1
        assert rows(tmp_path) == []

    with_node(main)


@VERSIONS
def test_who_may_only_read_reads_and_is_told_that_edits_stay_here(
    version: int, tmp_path: Path
) -> None:
    house = House()
    house.rights["bob", NAME] = Access.READ

    async def main(node: Node) -> None:
        async with (
            running(
                tmp_path, authenticate=house.authenticate, authorize=house.authorize,
                recheck_rights_s=0.05,
            ) as (url, _),
            peer(node, url, 3, params={"token": "ada"}) as ada,
            peer(node, url, version, params={"token": "bob"}) as bob,
        ):  # fmt: skip
            await ada.is_synced()
            await bob.is_synced()
            await ada.do("type", index=0, text="hello")
            await bob.reads("hello")
            assert (await bob.status())["warnings"] == []
            await bob.do("type", index=5, text=" from bob")
            told = await eventually(bob.status, lambda status: status["warnings"])
            assert "may read the room, not write it" in told["warnings"][0]
            await ada.do("type", index=0, text="oh ")
            await bob.reads("oh hello from bob")
            await ada.reads("oh hello")
            house.rights["bob", NAME] = Access.WRITE  # he comes again, with what was refused
            await ada.reads("oh hello from bob")
            house.rights["bob", NAME] = Access.NONE
            await bob.is_closed(Close.FORBIDDEN)
            await ada.do("type", index=0, text="and ")
            await ada.reads("and oh hello from bob")

    with_node(main)


@pytest.mark.timeout(90)
def test_a_client_that_is_alone_stays_connected(
    lone_clients: Future[dict[str, dict[str, Any]]],
) -> None:
    for name, status in lone_clients.result().items():
        assert status["connected"], name
        assert status["synced"], name
        assert (status["opened"], status["closes"]) == (1, []), name
