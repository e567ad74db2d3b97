"""Batches of views from the decoded cache, rendered in worker processes.

Image files are read before: ``data/image_cache.py`` decodes them once. Batches are ``uint8``
tensors; ``to_device`` of ``transforms/batch.py`` makes floats in [0, 1] of them.

Workers have no seeds: each view is drawn from (seed, epoch, image, view) by ``utils/rng.py``,
whichever worker draws it. An item of the data set is one whole step, so the loader may start at any
step and its number of workers changes nothing: resume is exact by construction.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from medsgssl.config.schema import Config
from medsgssl.data.dataset import BatchSource
from medsgssl.data.sampler import EpochSampler
from medsgssl.transforms.affine import warp_mask
from medsgssl.transforms.batch import LoadedBatch, ViewBatch
from medsgssl.transforms.device_views import DrawnBatch, DrawnTensors
from medsgssl.transforms.view_spec import DrawnView, ViewPlan, draw_view, render_image
from medsgssl.utils.interrupts import start_worker
from medsgssl.utils.rng import stable_hash
from medsgssl.utils.system import fitting_workers

# A batch takes seconds; a loader that gives none for this long hangs, e.g. on a dead disk.
_TIMEOUT_SECONDS = 600


class BatchDataset(Dataset[LoadedBatch]):
    """Item ``i`` is the batch of global step ``i``.

    Args:
        source: Images and masks.
        plan: The views of each image.
        order: Which images each step holds.
        size: Side S of the views in pixels.
        seed: The run's seed.
        masks: Whether anybody looks at masks; if not, they are neither unpacked nor moved, and
            every view has the whole-image mask.
        on_device: Leave the rendering to ``to_device``: batches are ``DrawnBatch`` then.
    """

    def __init__(
        self,
        source: BatchSource,
        plan: ViewPlan,
        order: EpochSampler,
        size: int,
        seed: int,
        *,
        masks: bool = True,
        on_device: bool = False,
    ) -> None:
        self._source, self._plan, self._order = source, plan, order
        self._size, self._seed = size, seed
        self._masks, self._on_device = masks, on_device

    @classmethod
    def configured(
        cls,
        config: Config,
        source: BatchSource,
        plan: ViewPlan,
        order: EpochSampler,
        *,
        masks: bool,
        device: torch.device,
    ) -> BatchDataset:
        """Return the batches of a run; ``device`` is where the network is."""
        return cls(
            source,
            plan,
            order,
            config.data.img_size,
            config.seed,
            masks=masks,
            on_device=config.data.render == "device" and device.type != "cpu",
        )

    def __len__(self) -> int:
        return self._order.steps_per_epoch

    @property
    def batch_bytes(self) -> int:
        """Size of a full batch in bytes: images and masks of every view."""
        rows = self._order.batch(0, 0)
        if self._on_device:
            return len(rows) * 2 * self._source.image(int(rows[0])).size
        return len(rows) * len(self._plan) * 2 * self._size * self._size

    def __getitem__(self, step: int) -> LoadedBatch:
        epoch, within = divmod(step, self._order.steps_per_epoch)
        load = self.draw if self._on_device else self.render
        return load(
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
        source, size, shape = self._source, self._size, (len(rows), len(self._plan))
        images = np.empty((*shape, 1, size, size), np.uint8)
        masks = np.empty((*shape, size, size) if self._masks else (0,), np.uint8)
        affines = np.empty((*shape, 2, 3), np.float32)
        flipped = np.empty(shape, np.bool_)
        for i, (image, mask, views) in enumerate(self._drawn(epoch, rows, repeat_counts)):
            for v, view in enumerate(views):
                render_image(image, view, size, images[i, v, 0])
                if self._masks:
                    warp_mask(mask, view.affine, size, masks[i, v])
                affines[i, v], flipped[i, v] = view.affine, view.flipped
        moved = torch.from_numpy(masks.view(np.bool_))
        return ViewBatch(
            images=torch.from_numpy(images),
            masks=moved
            if self._masks
            else torch.ones((), dtype=torch.bool).expand(*shape, size, size),
            affines=torch.from_numpy(affines),
            flipped=torch.from_numpy(flipped),
            quality=torch.from_numpy(source.quality[rows]),
            rows=torch.from_numpy(rows),
            labels=torch.from_numpy(source.labels[rows]),
            domains=torch.from_numpy(source.domains[rows]),
        )

    def draw(
        self, epoch: int, rows: NDArray[np.int64], repeat_counts: NDArray[np.int64] | None = None
    ) -> DrawnBatch:
        """Return what ``render`` would make views of; ``to_device`` then makes the same views.

        Arguments as for ``render``.
        """
        source, drawn = self._source, list(self._drawn(epoch, rows, repeat_counts))
        masks = (
            np.stack([mask for _, mask, _ in drawn])
            if self._masks
            else np.empty((len(rows), 0, 0), np.uint8)
        )
        numbers = DrawnTensors.of([views for _, _, views in drawn])
        return DrawnBatch(
            images=torch.from_numpy(np.stack([image for image, _, _ in drawn])),
            masks=torch.from_numpy(masks),
            **vars(numbers),
            quality=torch.from_numpy(source.quality[rows]),
            rows=torch.from_numpy(rows),
            labels=torch.from_numpy(source.labels[rows]),
            domains=torch.from_numpy(source.domains[rows]),
            view_size=torch.empty((0, self._size), dtype=torch.uint8),
        )

    def _drawn(
        self, epoch: int, rows: NDArray[np.int64], repeat_counts: NDArray[np.int64] | None
    ) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.uint8], list[DrawnView]]]:
        """Yield cached image, mask and drawn views of each row."""
        source = self._source
        repeats = np.zeros_like(rows) if repeat_counts is None else repeat_counts
        for row, repeat in zip(rows.tolist(), repeats.tolist(), strict=True):
            if self._masks:
                image, mask = source.pair(row)
            else:
                image = source.image(row)
                # Rules that look at no mask still ask it for the side of the image.
                mask = np.broadcast_to(np.uint8(1), image.shape)
            image_seed = _repeat_seed(int(source.image_seeds[row]), repeat)
            quality = float(source.quality[row])
            keys = [(self._seed, epoch, image_seed, v) for v in range(len(self._plan))]
            yield (
                image,
                mask,
                [
                    draw_view(mask, quality, spec, self._size, key)
                    for spec, key in zip(self._plan, keys, strict=True)
                ],
            )


def _repeat_seed(image_seed: int, repeat: int) -> int:
    """Return the seed of an image that comes again within an epoch: other views than before."""
    return image_seed ^ stable_hash("turn", repeat) if repeat else image_seed


def _start_loader_worker(parent: int, _number: int) -> None:
    start_worker(parent)


def load_batches(
    steps: BatchDataset, start: int, stop: int, *, workers: int, pin_memory: bool
) -> Iterator[LoadedBatch]:
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
    loader: DataLoader[LoadedBatch] = DataLoader(
        steps,
        batch_size=None,
        sampler=range(start, stop),
        num_workers=workers,
        pin_memory=pin_memory,
        prefetch_factor=4 if workers else None,
        worker_init_fn=partial(_start_loader_worker, os.getpid()) if workers else None,
        timeout=_TIMEOUT_SECONDS if workers else 0,
    )
    yield from loader
