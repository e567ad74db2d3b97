"""One lock per folder that a process writes: run folders, mask stores, caches.

The lock is an advisory lock of the operating system on ``FOLDER/.lock``: it goes with its process,
however that ends, so a killed run never leaves a folder locked.
"""

from __future__ import annotations

import calendar
import contextlib
import json
import os
import socket
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from medsgssl.errors import ConfigError
from medsgssl.utils.interrupts import check
from medsgssl.utils.io import sweep_temporary

_LOCK, _OWNER = ".lock", ".lock-owner.json"
_POLL_SECONDS = 0.5
_SINCE = "%Y-%m-%d %H:%M:%S UTC"


@dataclass(frozen=True, slots=True)
class LockOwner:
    """The process that holds a lock.

    Attributes:
        pid: Its number.
        host: The machine it runs on.
        since: When it took the lock, UTC.
    """

    pid: int
    host: str
    since: str

    @property
    def since_seconds(self) -> float:
        """When it took the lock, in seconds since the epoch."""
        return calendar.timegm(time.strptime(self.since, _SINCE))

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host} (since {self.since})"


def lock_owner(folder: Path) -> LockOwner | None:
    """Return who last took the lock of a folder, or None where that is not known."""
    try:
        return LockOwner(**json.loads((folder / _OWNER).read_text()))
    except (OSError, ValueError, TypeError):
        return None


def lock_holder(folder: Path) -> LockOwner | None:
    """Return the process that holds the lock of a folder, without touching the lock.

    A process of another machine is believed: whether it still lives cannot be seen from here.
    """
    owner = lock_owner(folder)
    if owner is None or owner.host != socket.gethostname():
        return owner
    try:
        os.kill(owner.pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:  # it lives, and is someone else's
        pass
    return owner


@contextlib.contextmanager
def exclusive(folder: Path, what: str) -> Iterator[None]:
    """Hold the lock of a folder, or refuse at once where another process has it.

    Temporary files that a killed process left in the folder are removed. Where the block ends
    without having written anything, the folder is left as it was.

    Args:
        folder: The folder; it is created.
        what: What the folder is, for the message, e.g. ``"the run folder"``.

    Raises:
        ConfigError: Another process holds it; the message names its number and machine.
    """
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    lock = _file_lock(folder)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        owner = lock_owner(folder)
        raise ConfigError(
            f"{what} {folder} is in use by {owner or 'another process'}",
            "wait until it has ended, or choose another folder",
        ) from None
    with _held(folder, lock, made):
        yield


@contextlib.contextmanager
def shared_work(folder: Path) -> Iterator[bool]:
    """Hold the lock of a folder, waiting for another process that is writing it.

    After the wait the work is most often done: check again before doing it.

    Args:
        folder: The folder; it is created.

    Yields:
        Whether another process was waited for.
    """
    lock = _file_lock(folder)
    patience = 0.0
    while True:
        try:
            lock.acquire(timeout=patience)
            break
        except Timeout:
            patience = _POLL_SECONDS
            check()
    with _held(folder, lock):
        yield patience > 0


def _file_lock(folder: Path) -> FileLock:
    folder.mkdir(parents=True, exist_ok=True)
    return FileLock(folder / _LOCK)


@contextlib.contextmanager
def _held(folder: Path, lock: FileLock, made: Sequence[Path] | None = None) -> Iterator[None]:
    try:
        since = time.strftime(_SINCE, time.gmtime())
        owner = {"pid": os.getpid(), "host": socket.gethostname(), "since": since}
        # The owner is a courtesy to the next process: a full disk must not cost the work.
        with contextlib.suppress(OSError):
            (folder / _OWNER).write_text(json.dumps(owner))
        sweep_temporary(folder)
        yield
    finally:
        with contextlib.suppress(OSError):
            (folder / _OWNER).unlink(missing_ok=True)
            if made is not None:
                _leave_no_trace(folder, made)
        lock.release()


def _leave_no_trace(folder: Path, made: Sequence[Path]) -> None:
    """Remove the lock's file where nothing else was written, and the folders made for it.

    The lock is still held: a process that has opened the file meanwhile sees that it is gone, and
    takes a new one.

    Raises:
        OSError: A folder is not empty any more, which is as well.
    """
    if [path.name for path in folder.iterdir()] == [_LOCK]:
        (folder / _LOCK).unlink()
        for path in made:
            path.rmdir()
