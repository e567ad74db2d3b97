"""Time the rendering of views (image and mask together) against torchvision, one process each.

Both draw from the same uint8 images and masks in memory and make two views of each image: a random
resized crop, a rotation, a flip, a change of exposure and sometimes a blur. Ours adds grain and
also unpacks the mask and builds the batch, as in training. CPU time of this process, best of
several repeats, because other processes disturb the clock.

Run: python benchmarks/views.py
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch
from torchvision import tv_tensors
from torchvision.transforms import v2

from medsgssl.config.schema import AugmentSettings
from medsgssl.data.dataset import ImageMaskDataset
from medsgssl.data.image_cache import DecodedCache
from medsgssl.data.loader import BatchDataset
from medsgssl.data.mask_cache import MaskArray
from medsgssl.data.sampler import EpochSampler
from medsgssl.transforms.crops import RandomCrop
from medsgssl.transforms.view_spec import ViewSpec

TARGET = 1500


def source_of(count: int, size: int) -> ImageMaskDataset:
    """Return ``count`` smooth gray images with two ellipses as lungs."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:size, :size] / size
    images = np.empty((count, size, size), np.uint8)
    masks = np.zeros((count, size, size), bool)
    for image, mask in zip(images, masks, strict=True):
        for center in (0.3, 0.7):
            tall = rng.uniform(0.25, 0.33)
            np.logical_or(mask, ((x - center) / 0.15) ** 2 + ((y - 0.5) / tall) ** 2 < 1, out=mask)
        field = cv2.GaussianBlur(rng.normal(size=(size, size)), (0, 0), 2)
        image[...] = np.clip(np.where(mask, 70, 160) + 90 * field, 0, 255)
    return ImageMaskDataset(
        cache=DecodedCache(images, np.ones(count, bool), {}, Path()),
        masks=MaskArray(
            np.packbits(masks.reshape(count, -1), axis=1),
            np.ones(count, np.float32),
            np.ones(count, bool),
            size,
        ),
        image_seeds=np.arange(count, dtype=np.uint64),
        labels=np.zeros((count, 14), np.float32),
        domains=np.zeros(count, np.int64),
        splits=np.repeat("train", count),
        patients=np.repeat("", count),
    )


def torchvision_pipeline(augment: AugmentSettings, size: int) -> v2.Compose:
    """Return the same kinds of change in torchvision's terms."""
    jitter = v2.ColorJitter(brightness=augment.brightness, contrast=augment.contrast)
    return v2.Compose(
        [
            v2.RandomResizedCrop(size, augment.scale, augment.ratio, antialias=True),
            v2.RandomRotation(augment.rotation),  # type: ignore[arg-type]
            v2.RandomHorizontalFlip(augment.flip),
            jitter,
            v2.RandomApply([v2.GaussianBlur(9, (0.1, 1.5))], augment.blur),
        ]
    )


def views_per_second(work: Callable[[], int], repeats: int) -> float:
    """Return the best rate of several repeats, per second of this process's CPU time."""
    work()
    rates = []
    for _ in range(repeats):
        started = time.process_time()
        views = work()
        rates.append(views / (time.process_time() - started))
    return max(rates)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    augment = AugmentSettings()
    source = source_of(options.images, options.size)
    plan = (ViewSpec(RandomCrop(augment), augment),) * 2
    order = EpochSampler(np.arange(options.images), 64, seed=0)
    steps = BatchDataset(source, plan, order, options.size, seed=0)

    def ours() -> int:
        return sum(steps[step].masks.shape[:2].numel() for step in range(len(steps)))

    pipeline = torchvision_pipeline(augment, options.size)
    pairs = [
        (
            tv_tensors.Image(torch.from_numpy(source.cache.images[row])[None]),
            tv_tensors.Mask(torch.from_numpy(source.masks.mask(row))[None]),
        )
        for row in range(min(options.images, 64))
    ]

    def theirs() -> int:
        return len([pipeline(*pair) for pair in pairs for _ in range(2)])

    mine = views_per_second(ours, options.repeats)
    other = views_per_second(theirs, options.repeats)
    print(f"views of {options.size} x {options.size} pixels, image and mask, per second and core")
    print(f"medsgssl        {mine:8.0f}   (target {TARGET})")
    print(f"torchvision v2  {other:8.0f}")
    print(f"ratio           {mine / other:8.1f} x")


if __name__ == "__main__":
    main()
