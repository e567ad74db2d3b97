"""The log of a training stage: one row per epoch, exact after a resume.

Sums stay on the device until they are shown, so that logging never makes the device wait.
"""

from __future__ import annotations

import csv
import io
import time
from pathlib import Path
from typing import TypedDict

import torch
import torch.distributed as dist
from torch import Tensor

from medsgssl.models.task import TaskOutput
from medsgssl.training.monitors import effective_rank, embedding_std
from medsgssl.utils.io import write_text

Row = dict[str, float]


class LogState(TypedDict):
    """What a checkpoint keeps of a log: the rows so far, and the sums of the epoch in progress."""

    rows: list[Row]
    warnings: list[str]
    sums: dict[str, Tensor]
    count: int
    images: int
    embeddings: list[Tensor]
    seconds: float


class EpochLog:
    """Collects one epoch's sums and the rows of the epochs before.

    Args:
        path: CSV file, written whole at the end of each epoch.
        monitor_batches: Batches of embeddings behind the collapse monitor.
    """

    def __init__(self, path: Path, monitor_batches: int) -> None:
        self._path = path
        self._keep = monitor_batches
        self.rows: list[Row] = []
        self.warnings: list[str] = []
        self._seconds_before = 0.0
        self._begin()

    def _begin(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._count = 0
        self._images = 0
        self._embeddings: list[Tensor] = []
        self._started = time.perf_counter()
        self._waited = 0.0
        self._timed_images = 0

    def add(self, output: TaskOutput, loss: Tensor, images: int, waited: float) -> None:
        """Add one batch.

        Args:
            output: The task's output.
            loss: The weighted loss.
            images: Images in the batch, over all ranks.
            waited: Seconds the step waited for data.
        """
        values = {"loss": loss, **output.losses, **output.metrics}
        for name, value in values.items():
            before = self._sums.get(name)
            now = value.detach().float()
            self._sums[name] = now if before is None else before + now
        self._count += 1
        self._images += images
        self._timed_images += images
        self._waited += waited
        self._embeddings = [*self._embeddings, output.embedding.float()][-self._keep :]

    def loss(self) -> float:
        """Return the epoch's mean loss so far."""
        return float(self._sums["loss"]) / self._count if self._count else float("nan")

    def images_per_second(self) -> float:
        """Return the speed since the epoch began or was resumed."""
        return self._timed_images / max(time.perf_counter() - self._started, 1e-9)

    def end_epoch(self, epoch: int, lr: float, levels: Row) -> Row:
        """Close the epoch and return its row; the caller may add to it before ``write``.

        Args:
            epoch: Number of the epoch.
            lr: The learning rate of its last step.
            levels: What the terms are compared with, by column: ``{term}_floor``,
                ``{term}_chance``, ``{term}_start``.
        """
        embeddings = torch.cat(self._embeddings)
        if dist.is_available() and dist.is_initialized():
            embeddings = self._over_processes(embeddings)
        seconds = time.perf_counter() - self._started
        row: Row = {"epoch": epoch}
        row |= {name: float(value) / self._count for name, value in self._sums.items()}
        row |= levels
        row["embedding_std"] = embedding_std(embeddings)
        row["embedding_rank"] = effective_rank(embeddings)
        row["lr"] = lr
        row["images_per_second"] = self.images_per_second()
        row["data_wait"] = self._waited / max(seconds, 1e-9)
        row["seconds"] = self._seconds_before + seconds
        self.rows.append(row)
        self._seconds_before = 0.0
        self._begin()
        return row

    def _over_processes(self, embeddings: Tensor) -> Tensor:
        """Average the sums over the processes, in place; return the embeddings of all of them."""
        sums = torch.stack(list(self._sums.values()))
        dist.all_reduce(sums)
        sums /= dist.get_world_size()
        self._sums = dict(zip(self._sums, sums, strict=True))
        every = [torch.empty_like(embeddings) for _ in range(dist.get_world_size())]
        dist.all_gather(every, embeddings.contiguous())
        return torch.cat(every)

    def restart_clock(self) -> None:
        """Leave out of the epoch's time what was done since the last one ended."""
        self._started = time.perf_counter()

    def write(self) -> None:
        """Write all rows as CSV, atomically."""
        names = list(dict.fromkeys(name for row in self.rows for name in row))
        text = io.StringIO()
        writer = csv.DictWriter(text, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        write_text(self._path, text.getvalue())

    def state(self) -> LogState:
        """Return plain values and tensors for a checkpoint."""
        return {
            "rows": self.rows,
            "warnings": self.warnings,
            "sums": {name: value.cpu() for name, value in self._sums.items()},
            "count": self._count,
            "images": self._images,
            "embeddings": [value.cpu() for value in self._embeddings],
            "seconds": self._seconds_before + time.perf_counter() - self._started,
        }

    def load(self, state: LogState, device: torch.device) -> None:
        """Go on from a checkpoint's ``state``."""
        self.rows, self.warnings = list(state["rows"]), list(state["warnings"])
        self._sums = {name: value.to(device) for name, value in state["sums"].items()}
        self._count, self._images = state["count"], state["images"]
        self._embeddings = [value.to(device) for value in state["embeddings"]]
        self._seconds_before = state["seconds"] if self._count else 0.0
