"""Cuts, kills and restarts at random while three devices write; then all heal and are the same."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

import collab
from tests.e2e.client_process import SCRIPTS, tokens
from tests.e2e.support import QUICK, Child, Wire, run, soon, until

DEVICES = 3
STEPS = 120


class Device:
    """One device with a wire of its own; it is closed and opened, never forgotten."""

    def __init__(self, path: Path, name: str) -> None:
        self.path = path
        self.name = name
        self.wire = Wire("")
        self.written = 0
        self.client: collab.Client
        self.room: collab.Room

    async def open(self) -> None:
        self.client = collab.open(self.path, relay=self.wire.url, settings=QUICK)
        await self.client.start()
        self.room = await self.client.room("notes")

    def write(self, dice: random.Random) -> None:
        text = self.room.text("body")
        for _ in range(dice.randrange(1, 6)):
            at = text.relative_position(dice.choice((0, len(text)))).index
            assert at is not None
            text.insert(at, f"[{self.name}-{self.written}]")
            self.written += 1
            filler = dice.choice(SCRIPTS)
            text.insert(len(text), filler)
            if dice.random() < 0.7:
                text.delete(len(text) - len(filler), len(filler))


@pytest.mark.parametrize("seed", [1, 2])
def test_after_any_history_of_faults_all_devices_converge(tmp_path: Path, seed: int) -> None:
    print(f"seed {seed}")
    dice = random.Random(seed)
    data = tmp_path / "relay"
    devices = [Device(tmp_path / f"{n}.db", f"d{n}") for n in range(DEVICES)]
    relays: list[Child] = []

    async def start_relay() -> None:
        relay = await Child("collab_server", "--open", "--port", 0, "--data", data).__aenter__()
        relays.append(relay)
        url = (await relay.line()).split()[1]
        for device in devices:
            device.wire.target = url

    async def step() -> None:
        device = dice.choice(devices)
        match dice.choices(
            ("write", "cut", "part", "join", "reopen", "rejoin", "kill", "pause"),
            (60, 8, 5, 8, 5, 5, 1, 10),
        )[0]:
            case "write":
                device.write(dice)
            case "cut":
                await device.wire.cut()
            case "part":  # alone for a while
                device.wire.target = ""
                await device.wire.cut()
            case "join":
                device.wire.target = next((d.wire.target for d in devices if d.wire.target), "")
            case "reopen":
                await device.client.close()
                await device.open()
            case "rejoin":
                await device.room.close()
                device.room = await device.client.room("notes")
            case "kill":
                await relays[-1].kill()
                await start_relay()
            case "pause":
                await device.room.wait_saved()
        for _ in range(dice.randrange(4)):
            await asyncio.sleep(0)

    async def main() -> None:
        try:
            for device in devices:
                await device.wire.__aenter__()
            await start_relay()
            for device in devices:
                await device.open()
            for _ in range(STEPS):
                await soon(step())
            await relays[-1].kill()
            await start_relay()
            for device in devices:
                await soon(device.room.wait_synced())
            texts = [device.room.text("body") for device in devices]
            await until(lambda: len({str(text) for text in texts}) == 1)
            expected = [f"{d.name}-{n}" for d in devices for n in range(d.written)]
            assert tokens(str(texts[0])) == sorted(expected), f"seed {seed}"
            async with collab.open(":memory:", relay=devices[0].wire.url, settings=QUICK) as fresh:
                room = await fresh.room("notes")
                await soon(room.wait_synced())
                assert str(room.text("body")) == str(texts[0]), f"seed {seed}"
        finally:
            for device in devices:
                if hasattr(device, "client"):
                    await device.client.close()
                await device.wire.__aexit__()
            for relay in relays:
                await relay.kill()

    run(main())
