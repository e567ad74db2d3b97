"""How the C library hands out memory while tensors come and go."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
import threading
from collections.abc import Iterator

# Parameters and values of mallopt(3). Setting one ends glibc's own adjustment, so that what it
# reaches as soon as large blocks have been freed is set behind the block: 32 and 64 MiB.
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4
_KEEP = {_MMAP_MAX: 0, _TRIM_THRESHOLD: -1}
_GIVE_BACK = {_MMAP_MAX: 65536, _MMAP_THRESHOLD: 2**25, _TRIM_THRESHOLD: 2**26}

#: Environment variable that leaves memory to glibc with 0: slower, but smaller.
KEEP_MEMORY = "MEDSGSSL_KEEP_MEMORY"

_lock = threading.Lock()
_depth = 0


@contextlib.contextmanager
def keep_freed_memory() -> Iterator[None]:
    """Keep freed memory for the next tensor inside the block, and give it back behind it.

    glibc returns large blocks to the system as soon as they are freed, and the pages of the next
    ones have to be cleared again: on a CPU that is nearly half of the time of a training step and
    a third of a forward pass, while peak memory is about a sixth smaller (docs/results/speed.md).
    Blocks may lie inside each other. Does nothing where the C library is not glibc, or where
    ``MEDSGSSL_KEEP_MEMORY`` is 0.
    """
    global _depth  # noqa: PLW0603 - the setting is the process's own
    libc = _glibc()
    if libc is None:
        yield
        return
    with _lock:
        _depth += 1
        _set(libc, _KEEP)
    try:
        yield
    finally:
        with _lock:
            _depth -= 1
            if not _depth:
                _set(libc, _GIVE_BACK)
                libc.malloc_trim(0)


def _set(libc: ctypes.CDLL, values: dict[int, int]) -> None:
    for parameter, value in values.items():
        libc.mallopt(parameter, value)


def _glibc() -> ctypes.CDLL | None:
    if sys.platform != "linux" or os.environ.get(KEEP_MEMORY) == "0":
        return None
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "gnu_get_libc_version") else None
