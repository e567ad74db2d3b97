"""How the C library hands out memory while tensors come and go."""

from __future__ import annotations

import contextlib
import ctypes
import sys
import threading
from collections.abc import Iterator

# mallopt(3): what a number sets, what it is set to, and glibc's own value.
_TRIM_THRESHOLD, _NEVER, _TRIM_DEFAULT = -1, -1, 128 * 1024
_MMAP_MAX, _NONE, _MMAP_DEFAULT = -4, 0, 65536

_lock = threading.Lock()
_depth = 0


@contextlib.contextmanager
def keep_freed_memory() -> Iterator[None]:
    """Keep freed memory for the next tensor inside the block, and give it back behind it.

    glibc returns large blocks to the system as soon as they are freed, and the pages of the next
    ones have to be cleared again: on a CPU that is a third of the time of a training step, and
    half of that of a forward pass (docs/results/speed.md). Peak memory grows by about a seventh.
    Blocks may lie inside each other. Does nothing where the C library is not glibc.
    """
    global _depth  # noqa: PLW0603 - the setting is the process's own
    libc = _glibc()
    if libc is None:
        yield
        return
    with _lock:
        _depth += 1
        libc.mallopt(_MMAP_MAX, _NONE)
        libc.mallopt(_TRIM_THRESHOLD, _NEVER)
    try:
        yield
    finally:
        with _lock:
            _depth -= 1
            if not _depth:
                libc.mallopt(_MMAP_MAX, _MMAP_DEFAULT)
                libc.mallopt(_TRIM_THRESHOLD, _TRIM_DEFAULT)
                libc.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "gnu_get_libc_version") else None
