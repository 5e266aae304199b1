"""A relay whose application gives verdicts: ``confirming_relay DATA GATE``. Not a test.

It prints ``asked ID`` for each call, and answers once the file GATE exists.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from collab_server.app import Relay
from collab_server.confirming import Confirm, ConfirmRequest, Refuse, VerdictRuling
from collab_server.serving import run
from collab_server.settings import Settings
from tests.e2e.client_process import say


def main(data: str, gate: str) -> None:
    async def on_confirm(request: ConfirmRequest) -> VerdictRuling:
        say("asked", request.body)
        while not Path(gate).exists():
            await asyncio.sleep(0.005)
        return Refuse("sold out") if request.body.startswith("no") else Confirm()

    settings = Settings(data=Path(data), open=True, port=0, confirm_retry_s=0.01)
    relay = Relay(settings, on_confirm=on_confirm)
    run(relay, settings, on_ready=lambda url: say("relay:", url))


if __name__ == "__main__":
    main(*sys.argv[1:])
