"""Failures of the machine as one line with a fix: disk full, read-only, no memory, dead workers."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from dataclasses import dataclass

from medsgssl.errors import MedsgsslError, ResourceError


@contextlib.contextmanager
def clear_resource_errors() -> Iterator[None]:
    """Turn a failure of the machine inside the block into a ``ResourceError`` with a fix."""
    try:
        yield
    except MedsgsslError:
        raise
    except Exception as error:
        clear = resource_error(error)
        if clear is None:
            raise
        raise clear from error


def resource_error(error: BaseException) -> ResourceError | None:
    """Return the clear form of a failure of the machine, or None for any other error."""
    number, text = getattr(error, "errno", None), str(error).lower()
    name = str(getattr(error, "filename", None) or "the output folder")
    for rule in _RULES:
        if rule.fits(error, number, text):
            return ResourceError(rule.problem.format(name=name), rule.fix)
    return None


@dataclass(frozen=True, slots=True)
class _Rule:
    """How one failure shows itself, in any of three ways, and what to say of it."""

    numbers: frozenset[int]
    words: tuple[str, ...]
    types: tuple[str, ...]
    problem: str
    fix: str

    def fits(self, error: BaseException, number: int | None, text: str) -> bool:
        return (
            number in self.numbers
            or any(kind.__name__ in self.types for kind in type(error).__mro__)
            or any(word in text for word in self.words)
        )


# Libraries report the same failure in their own words; the first rule that fits counts.
_RULES = (
    _Rule(
        frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG}),
        ("no space left", "file too large", "pytorchstreamwriter", "inline_container"),
        (),
        "the disk is full: {name} cannot be written",
        "free some disk space, or choose an --out folder (or data.cache_dir) on another disk; "
        "the same command then continues",
    ),
    _Rule(
        frozenset({errno.EROFS, errno.EACCES, errno.EPERM}),
        (),
        (),
        "{name} may not be written or read here",
        "change its permissions, or choose another folder (--out, data.cache_dir)",
    ),
    _Rule(
        frozenset({errno.EMFILE, errno.ENFILE}),
        ("too many open files",),
        (),
        "too many files are open",
        "raise the limit with `ulimit -n 4096`, or set data.num_workers=0",
    ),
    _Rule(
        frozenset(),
        ("cuda out of memory",),
        ("OutOfMemoryError",),
        "the GPU has too little memory for a step",
        "choose a new --out folder and a smaller data.batch_size or encoder",
    ),
    _Rule(
        frozenset(),
        ("dataloader worker", "bus error", "shared memory"),
        ("BrokenProcessPool",),
        "a worker process was killed, most likely because memory or /dev/shm ran out",
        "set data.num_workers=0; the same command then continues",
    ),
    _Rule(
        frozenset(),
        ("dataloader timed out",),
        (),
        "the loader workers gave no batch for a long time",
        "check the disk of data.cache_dir, or set data.num_workers=0; the same command then "
        "continues",
    ),
    _Rule(
        frozenset({errno.ENOMEM}),
        ("can't allocate memory", "cannot allocate memory"),
        ("MemoryError",),
        "the machine has too little memory",
        "close other programs, set data.num_workers=0, or MEDSGSSL_KEEP_MEMORY=0 in the "
        "environment; the same command then continues",
    ),
)
