"""Progress for people: a bar in a terminal, a line every few seconds in a log file."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

# Seconds between two lines of progress where there is no terminal.
_LOG_EVERY = 10.0


class _Verbosity:
    quiet = False


def set_quiet(quiet: bool) -> bool:
    """Turn progress off (or on again) for this process, and return the choice."""
    _Verbosity.quiet = quiet
    return quiet


@contextlib.contextmanager
def quietly(quiet: bool) -> Iterator[None]:
    """Show no progress within the context, or show it where ``quiet`` is False."""
    before = _Verbosity.quiet
    set_quiet(quiet)
    try:
        yield
    finally:
        set_quiet(before)


def new_console(*, stderr: bool = False, always: bool = False, mute: bool = False) -> Console:
    """Return the console that progress and tables are printed on.

    Args:
        stderr: Print to standard error, so that results on standard output can be piped.
        always: Print even after ``set_quiet(True)``: for what a command was called to show.
        mute: Print nothing at all.
    """
    from rich.console import Console  # noqa: PLC0415 - the help needs no console

    return Console(stderr=stderr, quiet=mute or (_Verbosity.quiet and not always))


@contextlib.contextmanager
def counting(name: str, console: Console) -> Iterator[Callable[[int, int], None]]:
    """Yield a callback (done, total) that shows progress; nothing is shown until it is called.

    Args:
        name: What is being done, e.g. ``decoding images``.
        console: Where the bar or, without a terminal, the lines appear.
    """
    if not console.is_terminal:
        yield _logged(name, console)
        return
    from rich.progress import (  # noqa: PLC0415 - only terminals need it
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=console.quiet,
    )
    job = bar.add_task(name, total=None, visible=False)

    def update(done: int, total: int) -> None:
        bar.update(job, completed=done, total=total, visible=True)

    with bar:
        yield update


def _logged(name: str, console: Console) -> Callable[[int, int], None]:
    last = time.monotonic()

    def update(done: int, total: int) -> None:
        nonlocal last
        if time.monotonic() - last >= _LOG_EVERY:
            last = time.monotonic()
            console.print(f"{name}: {done} of {total}", highlight=False, markup=False)

    return update
