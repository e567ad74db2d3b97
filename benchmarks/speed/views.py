"""The rendering of views, image and mask together, beside the peers' transforms."""

from __future__ import annotations

import importlib.util
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch
from torchvision import tv_tensors
from torchvision.transforms import v2

from benchmarks.speed.figures import Figure, in_turn, median_ratio
from medsgssl.config.schema import AugmentSettings
from medsgssl.data.dataset import ImageMaskDataset
from medsgssl.data.image_cache import DecodedCache
from medsgssl.data.loader import BatchDataset
from medsgssl.data.mask_cache import MaskArray
from medsgssl.data.sampler import EpochSampler
from medsgssl.transforms.crops import RandomCrop
from medsgssl.transforms.view_spec import ViewSpec

NOTE = (
    "Two views of each image from uint8 images and masks in memory: a random resized crop, a "
    "rotation, a flip, a change of exposure and sometimes a blur; ours adds grain, unpacks the "
    "mask and builds the batch, as in training. torchvision and Kornia move the mask with the "
    "image; lightly's SimCLR transform has no mask. CPU time of one thread, in turn."
)
SIZE, IMAGES, ROUNDS = 224, 64, 5


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
            v2.RandomRotation(augment.rotation),
            v2.RandomHorizontalFlip(augment.flip),
            jitter,
            v2.RandomApply([v2.GaussianBlur(9, (0.1, 1.5))], augment.blur),
        ]
    )


def kornia_pipeline(augment: AugmentSettings, size: int) -> Callable[..., object]:
    """Return the same kinds of change in Kornia's terms."""
    import kornia.augmentation as K  # a peer, not a dependency

    pipeline: Callable[..., object] = K.AugmentationSequential(
        K.RandomResizedCrop((size, size), augment.scale, augment.ratio),
        K.RandomRotation(augment.rotation),
        K.RandomHorizontalFlip(p=augment.flip),
        K.ColorJitter(augment.brightness, augment.contrast, p=1.0),
        K.RandomGaussianBlur((9, 9), (0.1, 1.5), p=augment.blur),
        data_keys=["input", "mask"],
    )
    return pipeline


def measure(quick: bool) -> list[Figure]:
    """Return views per second and core."""
    images, rounds = (8, 1) if quick else (IMAGES, ROUNDS)
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    augment = AugmentSettings()
    source = source_of(images, SIZE)
    plan = (ViewSpec(RandomCrop(augment), augment),) * 2
    steps = BatchDataset(
        source, plan, EpochSampler(np.arange(images), images, seed=0), SIZE, seed=0
    )
    pixels = [torch.from_numpy(source.cache.images[row])[None] for row in range(images)]
    masks = [torch.from_numpy(source.masks.mask(row))[None] for row in range(images)]
    torchvision = torchvision_pipeline(augment, SIZE)
    pairs = [
        (tv_tensors.Image(image), tv_tensors.Mask(mask))
        for image, mask in zip(pixels, masks, strict=True)
    ]
    works: dict[str, Callable[[], object]] = {
        "medsgssl": lambda: steps[0],
        "torchvision": lambda: [torchvision(*pair) for pair in pairs for _ in range(2)],
    }
    if importlib.util.find_spec("kornia") is not None:
        kornia = kornia_pipeline(augment, SIZE)
        batch, shapes = torch.stack(pixels).float() / 255, torch.stack(masks).float()
        works["kornia"] = lambda: [kornia(batch, shapes) for _ in range(2)]
    if importlib.util.find_spec("lightly") is not None:
        from lightly.transforms.simclr_transform import SimCLRTransform
        from PIL import Image

        transform = SimCLRTransform(input_size=SIZE)
        pictures = [Image.fromarray(image[0].numpy()).convert("RGB") for image in pixels]
        works["lightly, without masks"] = lambda: [transform(picture) for picture in pictures]
    times = in_turn(list(works.values()), rounds, time.process_time)
    rates = [[2 * images / each for each in taken] for taken in times]
    own = rates[0]
    return [
        Figure(
            name="views of 224 x 224 pixels",
            value=statistics.median(own),
            unit="views a second and core",
            beside=name,
            other=statistics.median(other),
            ratio=median_ratio(own, other),
        )
        for name, other in list(zip(works, rates, strict=True))[1:]
    ]
