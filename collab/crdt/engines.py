"""Which engine a device runs."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from collab.crdt.pycrdt_engine import PycrdtReplica
from collab.crdt.replica import CallSoon, Replica
from collab.errors import Unsupported

if TYPE_CHECKING:
    import pycrdt

__all__ = ["check_engine", "make_awareness", "make_replica"]

_FIRST_WITHOUT_YPY: Final = (3, 13)


def check_engine(engine: str) -> None:
    """Raise :class:`Unsupported` for an engine that does not exist here."""
    if engine == "pycrdt":
        return
    if engine != "y-py":
        raise Unsupported(
            f"there is no engine named {engine!r}; nothing was opened. Use 'pycrdt' or 'y-py'"
        )
    if sys.version_info >= _FIRST_WITHOUT_YPY:
        raise Unsupported(
            "the engine 'y-py' exists for Python 3.11 and 3.12 alone, and this is "
            f"{sys.version_info.major}.{sys.version_info.minor}; nothing was opened. Use 'pycrdt', "
            "the default: it reads the same files"
        )
    try:
        import y_py  # noqa: F401
    except ImportError as error:
        raise Unsupported(
            "the engine 'y-py' is not installed; nothing was opened. Install it (Python 3.11 or "
            "3.12) with: pip install 'collab-sync[y-py]'. Or use 'pycrdt', the default"
        ) from error


def make_replica(
    client_id: int,
    *,
    engine: str = "pycrdt",
    call_soon: CallSoon,
    on_local: Callable[[bytes], None],
) -> Replica:
    """An empty replica. Raises :class:`Unsupported` like ``check_engine``."""
    if engine == "pycrdt":
        return PycrdtReplica(client_id=client_id, call_soon=call_soon, on_local=on_local)
    check_engine(engine)
    from collab.crdt.ypy_engine import YpyReplica

    return YpyReplica(client_id=client_id, call_soon=call_soon, on_local=on_local)


def make_awareness(document: pycrdt.Doc[Any]) -> pycrdt.Awareness:
    """The awareness of ``document``, of which it takes the client id, so y-py's do as well.

    Its timers are ours to drive.
    """
    from collab.crdt.awareness import Awareness

    return Awareness(document)
