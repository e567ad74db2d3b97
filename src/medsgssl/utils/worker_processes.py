"""Worker processes that do not run the caller's script again, and whose deaths cost one item.

They check and decode files and draw masks; the workers of training batches are those of
``data/loader.py``. Neither kind draws from a state of its own: see ``rng.py``.
"""

from __future__ import annotations

import os
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, suppress
from itertools import islice
from typing import ParamSpec, TypeVar

from loky import ProcessPoolExecutor

from medsgssl.errors import ResourceError
from medsgssl.utils.interrupts import start_worker

P = ParamSpec("P")
T = TypeVar("T")
R = TypeVar("R")


class WorkerDiedError(Exception):
    """A worker process died at work; the text names the signal, or is empty where none is known."""


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
    executor: Executor = ProcessPoolExecutor(
        workers, initializer=_start, initargs=(os.getpid(), initializer)
    )
    return executor


def _start(parent: int, initializer: Callable[[], None] | None) -> None:
    start_worker(parent)
    if initializer is not None:
        initializer()


class SpareWorker:
    """One worker process, started when it is first needed and again after it has died.

    Args:
        initializer: Called once in each process.
    """

    def __init__(self, initializer: Callable[[], None] | None = None) -> None:
        self._initializer = initializer
        self._pool: Executor | None = None

    def call(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Return what a function returns in the worker process, or raise what it raises.

        Raises:
            WorkerDiedError: The process died.
        """
        if self._pool is None:
            self._pool = worker_pool(1, self._initializer)
        try:
            return self._pool.submit(function, *args, **kwargs).result()
        except BrokenProcessPool as error:
            self.close()
            # loky lists the exit codes, e.g. {SIGSEGV(-11)}.
            name = re.search(r"\bSIG[A-Z]+", str(error))
            raise WorkerDiedError(name.group() if name else "") from error

    def close(self) -> None:
        """End the process, if one runs."""
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown(wait=True)


def map_surviving(
    job: Callable[[Sequence[T]], list[R]],
    batches: Iterable[Sequence[T]],
    crashed: Callable[[T, str], R],
    workers: int,
    initializer: Callable[[], None] | None = None,
) -> Iterator[list[R]]:
    """Do a job for every batch in worker processes; an item that kills its worker costs itself.

    A worker that dies takes down its pool, which does not say over what. Whatever was under way is
    then done again in one fresh process, the batch at which that one dies item by item.

    Args:
        job: Gives one result per item of a batch. It must bear being done twice for an item.
        batches: The items.
        crashed: Gives the result of an item that kills its process, also when it is alone there;
            called in this process with the item and the name of the signal, or "".
        workers: Number of processes, at least 1.
        initializer: Called once in each process.

    Yields:
        The results of each batch, in order.

    Raises:
        ResourceError: Processes die whatever they do.
    """
    batches = iter(batches)
    while True:
        running: deque[tuple[Sequence[T], Future[list[R]] | None]] = deque()
        with worker_pool(workers, initializer) as pool:

            def submit(count: int, pool: Executor = pool, running: deque = running) -> None:  # type: ignore[type-arg]
                for batch in islice(batches, count):
                    running.append((batch, None))  # not lost where the pool breaks right now
                    running[-1] = (batch, pool.submit(job, batch))

            try:
                submit(2 * workers)
                while running:
                    future = running[0][1]
                    assert future is not None
                    results = future.result()
                    running.popleft()
                    yield results
                    submit(1)
            except BrokenProcessPool:
                pass
            else:
                return
            finally:
                for _, future in running:
                    if future is not None:
                        future.cancel()
        killers: list[T] = []

        def note(item: T, signal: str, killers: list[T] = killers) -> R:
            killers.append(item)
            return crashed(item, signal)

        with closing(SpareWorker(initializer)) as spare:
            for batch, future in running:
                yield _done(future) or _one_by_one(job, batch, note, spare)
        if not killers:
            workers = max(1, workers // 2)  # no item's fault: most likely memory


def _done(future: Future[list[R]] | None) -> list[R] | None:
    # Whatever else became of it, the work is done again.
    with suppress(Exception):
        return None if future is None else future.result(timeout=0)
    return None


def _one_by_one(
    job: Callable[[Sequence[T]], list[R]],
    batch: Sequence[T],
    crashed: Callable[[T, str], R],
    spare: SpareWorker,
) -> list[R]:
    try:
        return spare.call(job, batch)
    except WorkerDiedError:
        _require_life(spare)
    results: list[R] = []
    for item in batch:
        try:
            results += spare.call(job, [item])
        except WorkerDiedError as death:
            results.append(crashed(item, str(death)))
    return results


def _require_life(spare: SpareWorker) -> None:
    """Check that a fresh process can do nothing and live."""
    try:
        spare.call(int)
    except WorkerDiedError as error:
        how = f" ({error})" if str(error) else ""
        raise ResourceError(
            f"worker processes die as soon as they start{how}, most likely because memory ran out",
            "look at what they said above, or close other programs; then give the same command "
            "again: what is done is kept",
        ) from error
