"""The awareness that bindings made for pycrdt expect; what a binding raises stays with it."""

from __future__ import annotations

import asyncio
from typing import Any, Literal

import pycrdt

__all__ = ["Awareness"]


class Awareness(pycrdt.Awareness):
    """pycrdt's, whose callbacks may raise, and come and go while they are called.

    One that raises is reported to the loop's exception handler and harms no other. pycrdt lets it
    through to whoever changed a state, which is the task that reads from the relay, or the one that
    has just lost it.
    """

    def _emit(
        self,
        topic: Literal["change", "update"],
        added: list[int],
        updated: list[int],
        removed: list[int],
        origin: Any,
    ) -> None:
        for callback in tuple(self._subscriptions.values()):
            try:
                callback(topic, ({"added": added, "updated": updated, "removed": removed}, origin))
            except Exception as error:  # noqa: BLE001 - the program's own; we have our task to do
                asyncio.get_running_loop().call_exception_handler(
                    {"message": "an observer of a room's awareness failed", "exception": error}
                )
