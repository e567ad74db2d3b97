"""Times what a study is made of, on made-up images of the right size and on a few real ones."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import torch

from medsgssl.config.schema import Config
from medsgssl.data.catalog import Catalog
from medsgssl.data.dataset import ImageMaskDataset
from medsgssl.data.image_cache import DecodedCache
from medsgssl.data.letterbox import Letterbox
from medsgssl.data.loader import BatchDataset
from medsgssl.data.mask_cache import MaskArray
from medsgssl.data.mask_choice import MaskChoice, choose_masks
from medsgssl.data.prepare import mask_items
from medsgssl.data.sampler import EpochSampler
from medsgssl.errors import ImageError
from medsgssl.evaluation.evaluate import evaluate_predictions
from medsgssl.evaluation.predictions import Predictions
from medsgssl.images.reading import read_hashed
from medsgssl.losses.multilabel import build_loss
from medsgssl.masks.sources import DEFAULT_GRID, ImageMaker
from medsgssl.methods.registry import method_of
from medsgssl.models.classifier import Classifier
from medsgssl.models.task import Task
from medsgssl.models.weights import without_initial_weights
from medsgssl.training.optim import build_optimizer, set_modes
from medsgssl.transforms.view_spec import ViewPlan
from medsgssl.utils.allocator import keep_freed_memory

Step = Literal["pretrain", "finetune", "predict"]
# Steps after the first one, which also loads libraries.
_TRIALS = 3
_PATIENCE = 5.0
# Images of the data set that are prepared for the timing.
_SAMPLE = 6


def seconds_per_image(config: Config, stage: Step) -> float:
    """Time whole steps, views included, on random images of the size of the decoded cache.

    Args:
        config: Which method, encoder, image size, batch size and device.
        stage: Training steps of ``pretrain`` or ``finetune``, or reading out for ``predict``.

    Returns:
        Seconds per image, the median of a few steps, from scratch whatever the settings.
    """
    config = without_initial_weights(config)
    method = method_of(config)
    settings = config.pretrain if stage == "pretrain" else config.finetune
    gpu = torch.cuda.is_available() and settings.accelerator != "cpu"
    device = torch.device("cuda" if gpu else "cpu")
    # Whole batches: a few small images cost almost as much as many.
    size = config.data.batch_size
    source = made_up_images(config, size)
    task: Task
    views: ViewPlan
    if stage == "pretrain":
        task, views = method.task(method.encoder()), method.pretrain_views()
    else:
        labels = torch.from_numpy(source.labels)
        task = Classifier(method.encoder(), labels.shape[1], build_loss(config.finetune, labels))
        views = method.finetune_views() if stage == "finetune" else method.test_views()
    if not task.encoder.is_vit:  # as the training loop lays it out
        task.to(memory_format=torch.channels_last)
    task.to(device).eval()
    optimizer = None
    if stage != "predict":
        optimizer = build_optimizer(task, settings)
        task.on_train_start(_TRIALS + 1)
        set_modes(task, frozen=False)
    rows = np.arange(size)
    steps = BatchDataset(
        source,
        views,
        EpochSampler(rows, size, 0),
        config.data.img_size,
        0,
        masks=method.sees_masks,
        on_device=config.data.render == "device" and gpu,
    )

    def step(number: int) -> None:
        batch = steps[number].to_device(device)
        if stage == "predict":
            assert isinstance(task, Classifier)
            with torch.inference_mode():
                task.scores(batch)
        else:
            assert optimizer is not None
            task(batch, 0.0).loss.backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            task.on_step_end(0.0)
        if gpu:
            torch.cuda.synchronize()

    with keep_freed_memory():  # as in the training loop
        return _median(step) / size


def _median(step: Callable[[int], None]) -> float:
    seconds = []
    for trial in range(1 + _TRIALS):
        started = time.perf_counter()
        step(trial)
        seconds.append(time.perf_counter() - started)
        # The first step also loads libraries, so a second one is always made.
        if trial and sum(seconds) > _PATIENCE:
            break
    return statistics.median(seconds[1:])


# The head takes next to no time, however many classes there are.
_CLASSES = 10


def made_up_images(config: Config, count: int) -> ImageMaskDataset:
    """Return ``count`` random images of the size of the decoded cache, for timings alone."""
    rng = np.random.default_rng(0)
    side = config.data.cache_size or config.data.img_size
    masks = np.zeros((side, side), bool)
    masks[side // 5 : -side // 5, side // 5 : -side // 5] = True
    bits = np.tile(np.packbits(masks), (count, 1))
    return ImageMaskDataset(
        cache=DecodedCache(
            images=rng.integers(0, 256, (count, side, side), dtype=np.uint8),
            usable=np.ones(count, bool),
            problems={},
            folder=Path(),
        ),
        masks=MaskArray(bits, np.ones(count, np.float32), np.ones(count, bool), side),
        image_seeds=np.arange(count, dtype=np.uint64),
        labels=(rng.random((count, _CLASSES)) < 0.3).astype(np.float32),
        domains=np.zeros(count, np.int64),
        splits=np.repeat("train", count),
        patients=np.arange(count).astype(str),
    )


def preparing_seconds(config: Config, catalog: Catalog, *, masks: bool) -> float:
    """Return the seconds that one core takes for a usable image: read, hash, decode, fit, mask.

    Args:
        config: Size of the cache, and the mask source.
        catalog: The data set; a few of its images are read, nothing is written.
        masks: Whether lung masks are drawn.

    Raises:
        MaskError: The masks that are asked for cannot be made.
    """
    side = config.data.cache_size or config.data.img_size
    choice = choose_masks(config.masks, catalog, config.data.max_pixels) if masks else None
    items = mask_items(catalog)
    seconds = []
    for image_id, path in items[:: max(1, len(items) // _SAMPLE)][: _SAMPLE + 1]:
        started = time.perf_counter()
        try:
            gray, _ = read_hashed(path, config.data.max_pixels)
        except ImageError:
            continue
        Letterbox.of((gray.shape[0], gray.shape[1]), side).image(gray)
        if isinstance(choice, MaskChoice) and isinstance(choice.maker, ImageMaker):
            choice.maker.draw_row(image_id, gray, DEFAULT_GRID)
        elif isinstance(choice, MaskChoice):
            choice.maker.make(image_id, path, DEFAULT_GRID)
        seconds.append(time.perf_counter() - started)
    # The first image also loads libraries.
    return statistics.median(seconds[1:] or seconds or [0.0])


def evaluating_seconds(config: Config, catalog: Catalog) -> float:
    """Return the seconds that the evaluation of one run takes, on made-up scores of its images."""
    rng = np.random.default_rng(0)
    usable = catalog.usable()
    table = usable[usable["split"].isin(["val", "test"])]
    columns = ["image_id", "patient_id", "split", "view_position", "sex", "age"]
    frame = pd.DataFrame(table[columns].reset_index(drop=True))
    for name in catalog.label_set.names:
        frame[f"label_{name}"] = rng.integers(0, 2, len(frame))
        frame[f"score_{name}"] = rng.random(len(frame), dtype=np.float32)
    predictions = Predictions(frame)
    started = time.perf_counter()
    evaluate_predictions(predictions, config.evaluate, config.seed)
    return time.perf_counter() - started


def largest_memory() -> int:
    """Return the largest memory that this process has had so far, in bytes; 0 if not known."""
    if sys.platform == "win32":
        return 0
    import resource  # noqa: PLC0415  # not on Windows

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
