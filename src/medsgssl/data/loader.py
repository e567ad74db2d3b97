"""Batches of views from the decoded cache, rendered in worker processes.

Image files are read before: ``data/image_cache.py`` decodes them once.

An item of the data set is one whole step, so the loader may start at any step and its number of
workers changes nothing: resume is exact by construction.
"""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from medsgssl.data.dataset import BatchSource
from medsgssl.data.sampler import EpochSampler
from medsgssl.transforms.batch import ViewBatch
from medsgssl.transforms.view_spec import ViewPlan, make_view
from medsgssl.utils.interrupts import start_worker
from medsgssl.utils.rng import stable_hash
from medsgssl.utils.system import fitting_workers

# A batch takes seconds; a loader that gives none for this long hangs, e.g. on a dead disk.
_TIMEOUT_SECONDS = 600


class BatchDataset(Dataset[ViewBatch]):
    """Item ``i`` is the batch of global step ``i``.

    Args:
        source: Images and masks.
        plan: The views of each image.
        order: Which images each step holds.
        size: Side S of the views in pixels.
        seed: The run's seed.
    """

    def __init__(
        self, source: BatchSource, plan: ViewPlan, order: EpochSampler, size: int, seed: int
    ) -> None:
        self._source, self._plan, self._order = source, plan, order
        self._size, self._seed = size, seed

    def __len__(self) -> int:
        return self._order.steps_per_epoch

    @property
    def batch_bytes(self) -> int:
        """Size of a full batch in bytes: images and masks of every view."""
        images = len(self._order.batch(0, 0)) * len(self._plan)
        return images * 2 * self._size * self._size

    def __getitem__(self, step: int) -> ViewBatch:
        epoch, within = divmod(step, self._order.steps_per_epoch)
        return self.render(
            epoch, self._order.batch(epoch, within), self._order.repeat_counts(epoch, within)
        )

    def render(
        self, epoch: int, rows: NDArray[np.int64], repeat_counts: NDArray[np.int64] | None = None
    ) -> ViewBatch:
        """Return the views of the given rows in the given epoch.

        Args:
            epoch: Number of the epoch.
            rows: (B,).
            repeat_counts: (B,) how often each was seen before in this epoch; never when not given.
        """
        repeats = np.zeros_like(rows) if repeat_counts is None else repeat_counts
        source, shape = self._source, (len(rows), len(self._plan))
        images = np.empty((*shape, 1, self._size, self._size), np.uint8)
        masks = np.empty((*shape, self._size, self._size), np.uint8)
        affines = np.empty((*shape, 2, 3), np.float32)
        flipped = np.empty(shape, np.bool_)
        for i, row in enumerate(rows):
            image, mask = source.pair(int(row))
            quality = float(source.quality[row])
            for v, spec in enumerate(self._plan):
                image_seed = _repeat_seed(int(source.image_seeds[row]), int(repeats[i]))
                key = (self._seed, epoch, image_seed, v)
                out = (images[i, v, 0], masks[i, v])
                view = make_view(image, mask, quality, spec, self._size, key, out)
                affines[i, v], flipped[i, v] = view.affine, view.flipped
        return ViewBatch(
            images=torch.from_numpy(images),
            masks=torch.from_numpy(masks.view(np.bool_)),
            affines=torch.from_numpy(affines),
            flipped=torch.from_numpy(flipped),
            quality=torch.from_numpy(source.quality[rows]),
            rows=torch.from_numpy(rows),
            labels=torch.from_numpy(source.labels[rows]),
            domains=torch.from_numpy(source.domains[rows]),
        )


def _repeat_seed(image_seed: int, repeat: int) -> int:
    """Return the seed of an image that comes again within an epoch: other views than before."""
    return image_seed ^ stable_hash("turn", repeat) if repeat else image_seed


def _start_loader_worker(_number: int) -> None:
    start_worker()


def load_batches(
    steps: BatchDataset, start: int, stop: int, *, workers: int, pin_memory: bool
) -> Iterator[ViewBatch]:
    """Yield the batches of global steps ``start`` to ``stop - 1`` in order.

    Args:
        steps: The data set.
        start: First global step.
        stop: One past the last global step.
        workers: Loader processes; 0 renders in this one.
        pin_memory: Page-locked memory for fast copies to a GPU.
    """
    if start >= stop:
        return
    # Workers are the parallelism. It also must not be set in the workers: OpenCV's pool of threads
    # does not survive a fork, and touching it there waits for ever.
    cv2.setNumThreads(1)
    workers = fitting_workers(workers, steps.batch_bytes)
    loader: DataLoader[ViewBatch] = DataLoader(
        steps,
        batch_size=None,
        sampler=range(start, stop),
        num_workers=workers,
        pin_memory=pin_memory,
        prefetch_factor=4 if workers else None,
        worker_init_fn=_start_loader_worker if workers else None,
        timeout=_TIMEOUT_SECONDS if workers else 0,
    )
    yield from loader
