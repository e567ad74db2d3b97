"""Reads a model out over whole splits, without augmentation, on all ranks."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import Tensor

from medsgssl.config.schema import Config, LoopSettings
from medsgssl.data.dataset import ImageMaskDataset
from medsgssl.data.loader import BatchDataset, load_batches
from medsgssl.data.sampler import EpochSampler
from medsgssl.methods.registry import method_of
from medsgssl.models.task import Task
from medsgssl.transforms.batch import ViewBatch
from medsgssl.utils.system import loader_workers

Floats = NDArray[np.float32]


@torch.inference_mode()
def run_inference(
    fabric: Fabric,
    task: Task,
    read: Callable[[ViewBatch], Tensor],
    config: Config,
    settings: LoopSettings,
    source: ImageMaskDataset,
    rows: NDArray[np.int64],
) -> Floats:
    """Apply ``read`` to the test view of each row.

    Every batch is full: the last one is filled up with images that are dropped again. Kernels round
    differently for batches of different sizes, and equal images would get unequal values.

    Args:
        fabric: Device, precision and processes.
        task: Put into eval mode; ``read`` uses it.
        read: Maps a batch to values (B, K).
        config: The run's configuration.
        settings: Devices of the stage that reads.
        source: Images and masks.
        rows: Rows to read, (N,).

    Returns:
        float32, (N, K), in the order of ``rows``.
    """
    task.eval()
    every = config.data.batch_size * fabric.world_size
    order = EpochSampler(
        np.concatenate([rows, np.repeat(rows[:1], -len(rows) % every)]),
        config.data.batch_size,
        config.seed,
        shuffle=False,
        rank=fabric.global_rank,
        world=fabric.world_size,
    )
    views = method_of(config).test_views()
    steps = BatchDataset(source, views, order, config.data.img_size, config.seed)
    workers = loader_workers(config.data.num_workers, fabric.world_size // settings.num_nodes)
    mine: list[tuple[NDArray[np.int64], Floats]] = []
    for batch in load_batches(steps, 0, len(steps), workers=workers, pin_memory=False):
        with fabric.autocast():
            values = read(batch.to_device(fabric.device))
        mine.append((batch.rows.numpy(), values.float().cpu().numpy()))
    parts = [mine]
    if fabric.world_size > 1:
        parts = [[] for _ in range(fabric.world_size)]
        torch.distributed.all_gather_object(parts, mine)
    by_row = {
        row: value
        for part in parts
        for ids, values in part
        for row, value in zip(ids, values, strict=True)
    }
    return np.stack([by_row[row] for row in rows])
