"""A network that comes and goes all the time: nothing is lost, nothing is hammered."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from typing import Any

import pytest

import collab
from collab.connection import Connection
from collab.protocol.backoff import BackoffSettings
from collab.testing import Direction, FaultProxy, Portal, proxy, relay
from tests.e2e.chat_support import until_true
from tests.e2e.client_process import tokens
from tests.e2e.support import run, until

CUTS = 200
BUDGET = 1200  # an hour; half of it may be used at once
SETTINGS = collab.ClientSettings(
    connection=collab.ConnectionSettings(
        connect_timeout_s=0.3,
        probe_timeout_s=0.3,
        ping_s=0.05,
        silence_s=0.05,
        captive_first_s=0.05,
        captive_cap_s=0.05,
        backoff=BackoffSettings(base_s=0.01, cap_s=0.02, attempts_per_hour=BUDGET),
    ),
    retry_pauses_s=(0.01,),
)


class Watch:
    """Counts attempts, and that no client ever makes two at a time or has two reconnect tasks."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.attempts: Counter[int] = Counter()
        self._under_way: Counter[int] = Counter()
        attempt = Connection._attempt

        async def watched(connection: Connection) -> None:
            me = id(connection)
            self.attempts[me] += 1
            self._under_way[me] += 1
            assert self._under_way[me] == 1
            try:
                await attempt(connection)
            finally:
                self._under_way[me] -= 1

        monkeypatch.setattr(Connection, "_attempt", watched)

    @staticmethod
    def reconnect_tasks() -> int:
        """How many tasks run a connection now."""
        coroutines: list[Any] = [task.get_coro() for task in asyncio.all_tasks()]
        return sum(one.__qualname__ == "Connection.run" for one in coroutines)


async def until_all_are_here(room: collab.Room, total: int) -> None:
    """Return when the room has no gap and all messages."""

    async def look() -> bool:
        history = await room.chat.history(total + 1)
        return history.is_complete and len(history) == total

    await until_true(look)


def cut(wire: FaultProxy, dice: random.Random) -> None:
    """Lose the network in one way or another."""
    match dice.choices(("cut", "half-open", "corrupt"), (70, 25, 5))[0]:
        case "cut":
            wire.cut()
        case "half-open":
            wire.freeze(*dice.choice([(), (Direction.UP,), (Direction.DOWN,)]))
        case "corrupt":
            wire.corrupt(dice.choice([*Direction]))
            wire.cut()


@pytest.mark.parametrize("seed", [7, 8])
def test_two_hundred_losses_while_two_devices_edit_and_chat_lose_and_double_nothing(
    monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    print(f"seed {seed}")
    dice = random.Random(seed)
    watch = Watch(monkeypatch)

    async def main() -> None:
        async with (
            relay() as server,
            proxy(server.url, seed=seed) as wire,
            collab.open(":memory:", relay=wire.url, settings=SETTINGS) as a,
            collab.open(":memory:", relay=wire.url, settings=SETTINGS) as b,
        ):
            rooms = [await client.room("notes") for client in (a, b)]
            written: Counter[str] = Counter()
            said: dict[str, list[str]] = {"a": [], "b": []}
            for _ in range(CUTS):
                for room, who in zip(rooms, "ab", strict=True):
                    if dice.random() < 0.7:
                        room.text("body").append(f"[{who}-{written[who]}]")
                        written[who] += 1
                    if dice.random() < 0.5:
                        said[who].append(f"{who}-{len(said[who])}")
                        await room.chat.send(said[who][-1])
                cut(wire, dice)
                assert watch.reconnect_tasks() == 2
                await asyncio.sleep(dice.choice((0.0, 0.002, 0.01, 0.03)) * dice.random() * 2)
            wire.cut()  # what is half-open ends at last
            for room in rooms:
                await room.wait_synced(20)
            texts = [room.text("body") for room in rooms]
            await until(lambda: str(texts[0]) == str(texts[1]))
            expected = [f"{who}-{number}" for who in "ab" for number in range(written[who])]
            assert tokens(str(texts[0])) == sorted(expected)
            # One log, with numbers without a hole, the same for both, each one's in its order.
            total = sum(map(len, said.values()))
            histories = []
            for room in rooms:
                await until_all_are_here(room, total)
                messages = list(await room.chat.history(total + 1))
                assert [message.seq for message in messages] == list(range(1, total + 1))
                histories.append([(message.id, message.body) for message in messages])
            assert histories[0] == histories[1]
            for who, bodies in said.items():
                assert [body for _, body in histories[0] if body.startswith(who)] == bodies
            assert len(watch.attempts) == 2
            assert max(watch.attempts.values()) <= BUDGET // 2 + 5
            assert a.connection is not None
            assert a.connection.state is not collab.State.FAILED

    run(main())


def cpu_of(seconds: float) -> Any:
    async def measure() -> float:
        before = time.process_time()
        await asyncio.sleep(seconds)
        return time.process_time() - before

    return measure()


@pytest.mark.parametrize("state", ["offline", "captive", "suspended", "live"])
def test_between_attempts_a_client_does_nothing(state: str) -> None:
    settings = collab.ClientSettings(
        connection=collab.ConnectionSettings(
            captive_first_s=600, backoff=BackoffSettings(base_s=600, cap_s=600)
        )
    )

    async def main() -> None:
        async with relay() as server, proxy(server.url) as wire:
            if state == "offline":
                wire.refusing = True
            elif state == "captive":
                wire.portal = Portal.HTML
            async with collab.open(":memory:", relay=wire.url, settings=settings) as client:
                room = await client.room("notes")
                room.text("body").insert(0, "waits, unless it is live")
                await room.chat.send("so does this", ttl=3600)
                if state == "suspended":
                    await client.suspend()
                await until(lambda: client.connection and client.connection.state == state)
                await asyncio.sleep(0.1)
                asked = wire.accepted
                assert await cpu_of(0.5) < 0.03
                assert wire.accepted == asked

    run(main())


def test_a_client_on_a_flapping_network_with_its_budget_used_up_waits_a_share_and_says_so() -> None:
    settings = collab.ClientSettings(
        connection=collab.ConnectionSettings(
            backoff=BackoffSettings(base_s=0.001, cap_s=0.001, attempts_per_hour=8)
        )
    )

    async def main() -> None:
        async with relay() as server, proxy(server.url) as wire:
            wire.refusing = True
            async with collab.open(":memory:", relay=wire.url, settings=settings) as client:
                await until(
                    lambda: client.connection and "too many attempts" in client.connection.reason
                )
                assert client.connection is not None
                assert client.connection.next_attempt is not None
                assert 0 < client.connection.next_attempt - time.time() <= 3600 / 4
                accepted = wire.accepted
                assert accepted == 2 * 4  # four attempts, and a probe after each
                for _ in range(50):  # neither the user nor the system can make it hammer
                    client.connect()
                    client.network_hint(up=True)
                    client.resume()
                    await asyncio.sleep(0)
                await asyncio.sleep(0.1)
                assert wire.accepted == accepted

    run(main())
