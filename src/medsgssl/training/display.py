"""What a person watches while a stage trains: a bar, and one line per epoch."""

from __future__ import annotations

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

from medsgssl.training.csv_logger import Row
from medsgssl.utils.progress import new_console

_COLUMNS = (
    "embedding_std",
    "embedding_rank",
    "val_mean_auc",
    "probe_mean_auc",
    "images_per_second",
    "data_wait",
)
_LABELS = {
    "embedding_std": "std",
    "embedding_rank": "rank",
    "val_mean_auc": "val AUC",
    "probe_mean_auc": "k-NN AUC",
    "images_per_second": "img/s",
    "data_wait": "data wait",
}


class TrainingDisplay:
    """A Rich progress bar where there is a terminal, plain lines where there is none.

    Args:
        name: Name of the stage.
        epochs: Number of epochs.
        per_epoch: Steps per epoch.
        step: Steps already done.
        enabled: False on all ranks but the first.
    """

    def __init__(self, name: str, epochs: int, per_epoch: int, step: int, enabled: bool) -> None:
        self._name, self._epochs, self._enabled = name, epochs, enabled
        self._done, self._total = step, epochs * per_epoch
        self._console = new_console()
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[state]}"),
            console=self._console,
            disable=not (enabled and self._console.is_terminal),
        )
        self._job = self._bar.add_task(name, total=epochs * per_epoch, completed=step, state="")

    def __enter__(self) -> TrainingDisplay:
        if self._enabled and self._done:
            self._console.print(
                f"{self._name} continues at step {self._done} of {self._total}", highlight=False
            )
        if not self._bar.disable:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        # Stopping a bar that is not shown prints an empty line in some versions of Rich.
        if not self._bar.disable:
            self._bar.stop()

    def update(self, step: int, loss: float, speed: float) -> None:
        """Move the bar."""
        state = f"loss {loss:.4f}  {speed:.0f} img/s"
        self._bar.update(self._job, completed=step, state=state)

    def note(self, text: str) -> None:
        """Print one line about the stage."""
        if self._enabled:
            self._bar.console.print(f"{self._name}: {text}", highlight=False, soft_wrap=True)

    def end_epoch(self, row: Row) -> None:
        """Print one line: the loss beside its floor, the embedding's health, the speed."""
        if not self._enabled:
            return
        parts = [f"{self._name} {int(row['epoch']) + 1}/{self._epochs}", f"loss {row['loss']:.4f}"]
        parts += [
            f"{name.replace('_', ' ')} {value:.4f}"
            for name, value in row.items()
            if name.endswith(("_floor", "_chance"))
        ]
        parts += [f"{_LABELS[name]} {_format(name, row[name])}" for name in _COLUMNS if name in row]
        self._bar.console.print("  ".join(parts), highlight=False, soft_wrap=True)


def _format(name: str, value: float) -> str:
    if name == "data_wait":
        return f"{value:.0%}"
    return f"{value:.0f}" if name == "images_per_second" else f"{value:.3f}"
