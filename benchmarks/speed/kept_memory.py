"""What it gives to keep freed memory for the next step, and what it costs."""

from __future__ import annotations

import contextlib
import multiprocessing
import resource
import statistics
from concurrent.futures import ProcessPoolExecutor
from typing import NamedTuple

import torch

from benchmarks.speed.figures import Figure, in_turn, median_ratio
from benchmarks.speed.steps import CPU, config_of, our_step, task_and_views
from medsgssl.methods.registry import CONTROL
from medsgssl.utils.allocator import keep_freed_memory

NOTE = (
    "SimCLR's step, and its network's forward pass over the same views, in processes that keep "
    "freed memory (`utils/allocator.py`, as training and inference do on Linux) and in processes "
    "that leave it to glibc, in turn. Peak memory is the whole process's."
)
#: Side of the images in pixels, images of a batch.
SIZES = {"224 pixels, batch 16": (224, 16), "128 pixels, batch 64": (128, 64)}
ROUNDS, IN_A_ROW = 3, 4
BESIDE = "glibc's default"


class Taken(NamedTuple):
    """Seconds of a step and of a forward pass, and peak memory in MB, of one process."""

    step: float
    forward: float
    memory: float


def measure(quick: bool) -> list[Figure]:
    """Return seconds and memory with kept memory, beside those without."""
    figures = []
    for name, (size, batch) in ({"quick": (64, 4)} if quick else SIZES).items():
        taken: dict[bool, list[Taken]] = {True: [], False: []}
        for _ in range(1 if quick else ROUNDS):
            for keep, found in taken.items():
                with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
                    found.append(process.submit(take, size, batch, keep).result())
        for kind, unit in (("step", "s"), ("forward", "s"), ("memory", "MB")):
            own, other = ([getattr(one, kind) for one in taken[keep]] for keep in (True, False))
            figures.append(
                Figure(
                    name=f"{kind}, {name}",
                    value=statistics.median(own),
                    unit=unit,
                    beside=BESIDE,
                    other=statistics.median(other),
                    ratio=median_ratio(own, other),
                )
            )
    return figures


def take(size: int, batch: int, keep: bool) -> Taken:
    """Measure one process."""
    config = config_of(CONTROL, size, batch)
    task, views = task_and_views(config, CPU)
    step = our_step(task, views, config)

    @torch.inference_mode()
    def forward() -> None:
        task.eval()
        task.encoder(views.images.flatten(0, 1), views.masks.flatten(0, 1))

    with keep_freed_memory() if keep else contextlib.nullcontext():
        # in_turn leaves the first of each out.
        in_steps = statistics.median(in_turn([step], IN_A_ROW)[0])
        in_forward = statistics.median(in_turn([forward], IN_A_ROW)[0])
    return Taken(in_steps, in_forward, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000)
