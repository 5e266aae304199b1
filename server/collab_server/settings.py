"""How a relay is set up."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from collab import limits
from collab.errors import LocalError

DEFAULT_HOST: Final = "127.0.0.1"
DEFAULT_PORT: Final = 8765


@dataclass(frozen=True, slots=True)
class Settings:
    """Times are seconds, sizes bytes.

    ``data`` is the folder of the log. ``open`` lets everybody in, without tokens; only on a
    loopback ``host``. ``origins`` are the exact origins of web pages that may connect.
    """

    data: Path = Path("data")
    host: str = DEFAULT_HOST
    port: int = DEFAULT_PORT
    open: bool = False
    origins: Sequence[str] = ()
    hello_timeout_s: float = limits.HELLO_TIMEOUT_S
    idle_timeout_s: float = limits.IDLE_TIMEOUT_S
    room_idle_s: float = 60.0  # a room without readers stays loaded this long
    recheck_rights_s: float = 60.0
    difference_timeout_s: float = 60.0
    replica_memory_bytes: int = 512 * limits.MIB
    compact_from_bytes: int = limits.COMPACT_FROM_BYTES
    message_retention_s: float = 30 * 24 * 3600.0
    max_messages_per_room: int = 100_000
    hook_timeout_s: float = 5.0  # what on_message has for one message
    call_timeout_s: float = 25.0  # what a service has; a caller waits 30 s and so hears why
    max_calls: int = 256  # of services, at work at once
    confirm_timeout_s: float = 30.0  # what on_confirm has for one call
    confirm_retry_s: float = 1.0  # after the first call that failed; it doubles
    confirm_retry_cap_s: float = 300.0

    def __post_init__(self) -> None:
        if self.open and not is_loopback(self.host):
            raise LocalError(
                f"An open relay lets everybody read and write, so it listens on a loopback address "
                f"only, not on {self.host}. Nothing was started. Give it rights (authenticate and "
                f"authorize), or listen on 127.0.0.1."
            )

    @property
    def log_path(self) -> Path:
        """The file of the log."""
        return self.data / "relay.db"


def is_loopback(host: str) -> bool:
    """Whether ``host`` names this machine and nothing else."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
