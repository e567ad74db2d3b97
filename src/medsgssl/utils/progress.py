"""A progress bar for steps that count images."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


@contextlib.contextmanager
def counting(name: str, console: Console) -> Iterator[Callable[[int, int], None]]:
    """Yield a callback (done, total) that moves a bar; nothing is shown until it is called."""
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    )
    job = bar.add_task(name, total=None, visible=False)

    def update(done: int, total: int) -> None:
        bar.update(job, completed=done, total=total, visible=True)

    with bar:
        yield update
