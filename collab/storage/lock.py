"""Who owns a file: one process, one opener, for as long as it has the file open.

Invariants
1. At most one ``FileLock`` of a path is held on this machine, in whatever process.
2. The kernel holds it, not the file's existence: a holder that dies, by SIGKILL too, holds nothing.
3. A path, a relative path and a symbolic link to one file are one lock.

SQLite's own locks cannot do this: they are let go between transactions, and POSIX gives them to the
process, so that two openers in one process would not see each other.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
import weakref
from typing import Final

from collab.errors import LocalError, StoreLocked
from collab.storage.faults import OUT_OF_SPACE, no_room

__all__ = ["FileLock"]

SUFFIX: Final = ".lock"
_LOOKED_AT_S: Final = (0.001, 0.01, 0.05)  # ``owner`` holds it for microseconds
_PID_BYTES: Final = 20  # the digits of any number of 64 bits

if sys.platform == "win32":
    import msvcrt

    # Windows locks are mandatory: lock a byte far behind the pid, or nobody could read the pid.
    _LOCKED_BYTE: Final = 1 << 30

    def _try_lock(descriptor: int, *, shared: bool = False) -> bool:
        os.lseek(descriptor, _LOCKED_BYTE, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        finally:
            os.lseek(descriptor, 0, os.SEEK_SET)
        return True

else:
    import fcntl

    def _try_lock(descriptor: int, *, shared: bool = False) -> bool:
        kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


class FileLock:
    """The exclusive lock on ``path``, kept in ``<path>.lock`` beside it until ``release()``."""

    def __init__(self, path: str, descriptor: int) -> None:
        self.path = path
        self._descriptor: int | None = descriptor
        _held.add(self)

    @classmethod
    def acquire(cls, path: str | os.PathLike[str], *, what: str = "store") -> FileLock:
        """Take the lock of the file at ``path`` at once; the file itself need not exist.

        Raises ``StoreLocked`` if somebody has it, ``LocalError`` if the folder does not exist or
        cannot be written, ``DiskFull`` if there is no room for an empty file.
        """
        real = os.path.realpath(path)
        while True:
            descriptor = _open(real + SUFFIX, what)
            try:
                _take(real, descriptor, what)
                if _is_still_at(real + SUFFIX, descriptor):
                    _refuse_if_not_ours(real + SUFFIX, descriptor)
                    _record_pid(descriptor)
                    return cls(real, descriptor)
            except OSError as error:
                os.close(descriptor)
                raise LocalError(
                    f"The {what} at {real} cannot be locked ({error}), so it was not opened and"
                    " nothing was changed. Keep it on a file system that has locks."
                ) from error
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)  # its last holder removed it between our open and our lock

    @staticmethod
    def owner(path: str | os.PathLike[str]) -> str | None:
        """Who owns the file at ``path``, as a clause; None: nobody. Makes and writes nothing.

        The lock is tried for a moment, shared, and given back; who wants it then waits for that
        (``acquire``). A pid in the file alone would prove nothing: its process may be gone.
        """
        real = os.path.realpath(path)
        try:
            descriptor = os.open(real + SUFFIX, os.O_RDONLY)
        except OSError:  # it is not there, or this user may not see it
            return None
        try:
            return None if _try_lock(descriptor, shared=True) else _owner(descriptor)
        except OSError:
            return None
        finally:
            os.close(descriptor)

    def release(self) -> None:
        """Let the lock go. Doing it again does nothing."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is None:
            return
        # Removed while still held: whoever opened it meanwhile finds that it is no longer there.
        # (Windows refuses to remove an open file; there it stays, and means nothing.)
        with contextlib.suppress(OSError):
            os.unlink(self.path + SUFFIX)
        os.close(descriptor)

    def _drop_in_child(self) -> None:
        """A forked child shares the descriptor and would keep the lock when its parent dies."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)


_held: weakref.WeakSet[FileLock] = weakref.WeakSet()


def _drop_all_in_child() -> None:
    for lock in list(_held):
        lock._drop_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_drop_all_in_child)


def _open(path: str, what: str) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        if error.errno in OUT_OF_SPACE:
            raise no_room(str(error), what=what, path=path) from error
        raise LocalError(
            f"The {what} cannot be kept in {os.path.dirname(path)!r}: {error.strerror}. Nothing"
            " was read or written. Create the folder, or give one that this user may write."
        ) from error


def _take(path: str, descriptor: int, what: str) -> None:
    for pause_s in (*_LOOKED_AT_S, None):
        if _try_lock(descriptor):
            return
        if pause_s is not None:
            time.sleep(pause_s)
    raise StoreLocked(_who_has_it(path, descriptor, what))


def _is_still_at(path: str, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _refuse_if_not_ours(path: str, descriptor: int) -> None:
    """Somebody's ``poetry.lock`` beside a store named ``poetry`` must not be taken for ours."""
    content = os.read(descriptor, _PID_BYTES + 1)
    if content and not (content.isdigit() and len(content) <= _PID_BYTES):
        raise LocalError(
            f"{path} is needed as a lock, but it is another program's file. It was left as it is,"
            " and nothing was opened. Choose another name for one of them."
        )


def _record_pid(descriptor: int) -> None:
    with contextlib.suppress(OSError):  # on a full disk; the pid is a courtesy, the lock is held
        os.lseek(descriptor, 0, os.SEEK_SET)
        os.ftruncate(descriptor, 0)
        os.write(descriptor, str(os.getpid()).encode("ascii"))


def _who_has_it(path: str, descriptor: int, what: str) -> str:
    return (
        f"The {what} at {path} is in use: {_owner(descriptor)}. Nothing was read or written. Close"
        " it there, or use another file."
    )


def _owner(descriptor: int) -> str:
    recorded = b""
    with contextlib.suppress(OSError):
        recorded = os.read(descriptor, _PID_BYTES)
    if recorded == str(os.getpid()).encode("ascii"):
        return "this process itself has it open"
    if recorded.isdigit():
        return f"process {recorded.decode('ascii')} has it open"
    return "another process has it open"
