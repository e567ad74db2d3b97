"""Ctrl-C and SIGTERM: the work stops where it can go on, and says so.

``catch_signals`` is installed by the command line. A signal then raises ``StopRequested`` at once,
which no ``except Exception`` catches; files are written atomically, so nothing is lost by it.
Inside ``deferred`` it only sets a flag, and the training loop looks at it after each step, saves,
and raises. A second signal stops at once everywhere.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType

#: Environment variable of processes that are to end with the process that started them.
END_WITH_PARENT = "MEDSGSSL_END_WITH_PARENT"

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopRequested(BaseException):
    """The process was asked to stop, by Ctrl-C or SIGTERM.

    Attributes:
        number: The signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number

    @property
    def exit_status(self) -> int:
        """The exit status that shells expect: 130 for Ctrl-C, 143 for SIGTERM."""
        return 128 + self.number

    @property
    def name(self) -> str:
        """How people call the signal."""
        return "Ctrl-C" if self.number == signal.SIGINT else signal.Signals(self.number).name


class _State:
    def __init__(self) -> None:
        self.depth = 0
        self.number: int | None = None


_state = _State()


@contextlib.contextmanager
def catch_signals() -> Iterator[None]:
    """Turn SIGINT and SIGTERM into ``StopRequested`` while the block runs.

    In another thread than the main one signals cannot be caught; the block then runs as it is.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    for number in _SIGNALS:
        signal.signal(number, _on_signal)
    try:
        yield
    finally:
        _state.number = None
        for number, handler in before.items():
            signal.signal(number, handler)


def _on_signal(number: int, _frame: FrameType | None) -> None:
    if _state.depth and _state.number is None:
        _state.number = number
        return
    _state.number = number
    raise StopRequested(number)


@contextlib.contextmanager
def deferred() -> Iterator[None]:
    """Put off the first signal: the block looks at ``requested`` where it can stop."""
    _state.depth += 1
    try:
        yield
    finally:
        _state.depth -= 1


def requested() -> int | None:
    """Return the signal that asked to stop, or None."""
    return _state.number


def check() -> None:
    """Raise ``StopRequested`` where a stop was asked for."""
    if _state.number is not None:
        raise StopRequested(_state.number)


def start_worker(parent: int) -> None:
    """Prepare a worker process: Ctrl-C is its parent's to handle, and it ends with its parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    exit_with_parent(parent)


def exit_with_parent(parent: int) -> None:
    """End this process within a second after its parent has ended, however that ended.

    Args:
        parent: Process id of the parent, from the parent itself: it may have ended while this
            process was still starting, and then nothing here tells who it was.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="parent watch").start()
