"""What a GPU makes of a step of every method, and of views that are rendered on it."""

from __future__ import annotations

import time

import numpy as np
import torch

from benchmarks.speed.figures import Figure, in_turn
from benchmarks.speed.steps import beside_bare
from benchmarks.speed.views import source_of
from medsgssl.config.schema import AugmentSettings
from medsgssl.data.loader import BatchDataset
from medsgssl.data.sampler import EpochSampler
from medsgssl.transforms.crops import RandomCrop
from medsgssl.transforms.device_views import DrawnBatch
from medsgssl.transforms.view_spec import ViewSpec

NOTE = (
    "One step from views on the GPU, every method with its own backbone at 224 pixels, batch 64, "
    "bf16 autocast, in turn with the bare network on as many views. Rendering: batches of cached "
    "images and drawn numbers, from page-locked memory to views on the GPU; the largest and the "
    "mean difference in gray levels are those to the CPU's views of the same numbers, without "
    "grain."
)
SIZE, BATCH, ROUNDS = 224, 64, 10


def measure(quick: bool) -> list[Figure]:
    """Return milliseconds per image of every method's step, and rates of rendering."""
    if not torch.cuda.is_available():
        raise SystemExit("this part needs a GPU")
    device = torch.device("cuda")
    size, batch, rounds = (64, 4, 1) if quick else (SIZE, BATCH, ROUNDS)
    return beside_bare(device, size, batch, rounds) + _rendering(device, size, batch, rounds)


def _rendering(device: torch.device, size: int, batch: int, rounds: int) -> list[Figure]:
    source = source_of(batch, size)
    order = EpochSampler(np.arange(batch), batch, seed=0)
    plain = (ViewSpec(RandomCrop(AugmentSettings())),) * 2
    grain = (ViewSpec(RandomCrop(AugmentSettings()), AugmentSettings()),) * 2
    on_cpu = BatchDataset(source, plain, order, size, seed=0)[0].to_device(device)
    drawn = BatchDataset(source, plain, order, size, seed=0, on_device=True)
    gray = 255 * (drawn[0].to_device(device).images - on_cpu.images).abs()
    figures = [
        Figure("largest difference", float(gray.max()), "gray levels", wanted="at most 1"),
        Figure("mean difference", float(gray.mean()), "gray levels", wanted="under 0.3"),
    ]
    loader = BatchDataset(source, grain, order, size, seed=0, on_device=True)
    batch_drawn = loader[0]
    assert isinstance(batch_drawn, DrawnBatch)
    waiting = batch_drawn.pin_memory()

    def render() -> None:
        waiting.to_device(device)
        torch.cuda.synchronize()

    seconds = float(np.median(in_turn([render], rounds)[0]))
    started = time.perf_counter()
    for _ in range(rounds):
        loader[0]
    drawing = (time.perf_counter() - started) / rounds
    figures.append(Figure("views rendered", 2 * batch / seconds, "views a second"))
    figures.append(
        Figure("views drawn by a loader process for it", 2 * batch / drawing, "views a second")
    )
    return figures
