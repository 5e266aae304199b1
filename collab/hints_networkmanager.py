"""Hints from NetworkManager, over D-Bus: ``pip install 'collab-sync[networkmanager]'``.

async with collab.open("notes.db", relay=…, hints=NetworkManagerHints()) as client:
    ...

Interface: https://networkmanager.dev/docs/api/latest/gdbus-org.freedesktop.NetworkManager.html
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

try:
    from dbus_fast import BusType, Message, MessageType
    from dbus_fast.aio import MessageBus
except ImportError as error:  # pragma: no cover - depends on what is installed
    raise ImportError(
        "hints from NetworkManager need dbus-fast: pip install 'collab-sync[networkmanager]'"
    ) from error

__all__ = ["NetworkManagerHints"]

_NAME: Final = "org.freedesktop.NetworkManager"
_PATH: Final = "/org/freedesktop/NetworkManager"
_PROPERTIES: Final = "org.freedesktop.DBus.Properties"
_LOCAL: Final = 50  # NM_STATE_CONNECTED_LOCAL; SITE and GLOBAL are above it. A relay may be local
# Another of these and the way to the relay may be another, or open at last (a portal that let us
# through changes Connectivity alone).
_TELLING: Final = frozenset({"State", "Connectivity", "PrimaryConnection"})


class NetworkManagerHints:
    """A :class:`collab.hints.HintSource`. ``bus_address`` None is the system's bus."""

    def __init__(self, *, bus_address: str | None = None) -> None:
        self._bus_address = bus_address

    async def watch(self, hint: Callable[[bool], object]) -> None:
        """Tell the state now and at every change, until cancelled or the bus is gone.

        Raises OSError or a D-Bus error where there is no bus or no NetworkManager.
        """
        bus = await MessageBus(bus_address=self._bus_address, bus_type=BusType.SYSTEM).connect()
        changed = asyncio.Event()

        def on_message(message: Message) -> None:
            is_ours = message.message_type is MessageType.SIGNAL and message.path == _PATH
            if not is_ours or message.member != "PropertiesChanged":
                return
            interface, properties, *_ = message.body
            if interface == _NAME and _TELLING & set(properties):
                changed.set()

        bus.add_message_handler(on_message)
        try:
            rule = (
                f"type='signal',sender='{_NAME}',path='{_PATH}',"
                f"interface='{_PROPERTIES}',member='PropertiesChanged'"
            )
            await _call(bus, "org.freedesktop.DBus.AddMatch", "/org/freedesktop/DBus", rule)
            await self._tell(bus, hint, changed)
        finally:
            bus.disconnect()

    async def _tell(
        self, bus: MessageBus, hint: Callable[[bool], object], changed: asyncio.Event
    ) -> None:
        gone = asyncio.ensure_future(bus.wait_for_disconnect())
        try:
            while not gone.done():
                changed.clear()
                found = await _call(bus, f"{_PROPERTIES}.Get", _PATH, _NAME, "State", to=_NAME)
                hint(int(found.value) >= _LOCAL)
                turn = asyncio.ensure_future(changed.wait())
                await asyncio.wait({turn, gone}, return_when=asyncio.FIRST_COMPLETED)
                turn.cancel()
        finally:
            gone.cancel()
            await asyncio.gather(gone, return_exceptions=True)


async def _call(
    bus: MessageBus, method: str, path: str, *strings: str, to: str = "org.freedesktop.DBus"
) -> Any:
    """Call ``method`` with ``strings``; the first value of its answer."""
    interface, _, member = method.rpartition(".")
    signature, body = "s" * len(strings), list(strings)
    message = Message(
        destination=to, path=path, interface=interface, member=member,
        signature=signature, body=body,
    )  # fmt: skip
    reply = await bus.call(message)
    if reply is None or reply.message_type is MessageType.ERROR:
        detail = "no reply" if reply is None else f"{reply.error_name}: {reply.body[:1]}"
        raise ConnectionError(f"NetworkManager did not say how the network is ({detail})")
    return reply.body[0] if reply.body else None
