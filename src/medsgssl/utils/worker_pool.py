"""Worker processes that do not run the caller's script again."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor

from loky import ProcessPoolExecutor

from medsgssl.utils.interrupts import start_worker


def worker_pool(workers: int, initializer: Callable[[], None] | None = None) -> Executor:
    """Return a pool of fresh processes, to be used in a ``with`` block.

    The standard library offers two ways to start processes, and both fail users: a forked process
    inherits the locks of threads that it does not have, and a spawned one imports the caller's
    script, which starts everything again where that script has no ``__main__`` guard. loky starts
    fresh interpreters and sends them the functions instead.

    Args:
        workers: Number of processes, at least 1.
        initializer: Called once in each process.

    Returns:
        The pool; its processes end with this one. A process that is killed raises
        ``BrokenProcessPool`` in whoever waits for it.
    """
    executor: Executor = ProcessPoolExecutor(workers, initializer=_start, initargs=(initializer,))
    return executor


def _start(initializer: Callable[[], None] | None) -> None:
    start_worker()
    if initializer is not None:
        initializer()
