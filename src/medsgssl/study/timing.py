"""Seconds that an image takes in each stage of a method, measured on made-up images."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from medsgssl.cache import DecodedCache, MaskArray
from medsgssl.config import Config
from medsgssl.methods import Task, method_of
from medsgssl.training.classifier import Classifier
from medsgssl.training.losses import build_loss
from medsgssl.views import EpochOrder, ViewPlan, ViewSource, ViewSteps

Step = Literal["pretrain", "finetune", "predict"]
_TRIALS = 3
_PATIENCE = 5.0


def seconds_per_image(config: Config, stage: Step) -> float:
    """Time whole steps, views included, on random images of the size of the decoded cache.

    Args:
        config: Which method, encoder, image size, batch size and device.
        stage: Training steps of ``pretrain`` or ``finetune``, or reading out for ``predict``.

    Returns:
        Seconds per image of the fastest of a few steps, from scratch whatever the settings.
    """
    config = without_weights(config)
    method = method_of(config)
    settings = config.pretrain if stage == "pretrain" else config.finetune
    gpu = torch.cuda.is_available() and settings.accelerator != "cpu"
    device = torch.device("cuda" if gpu else "cpu")
    # Whole batches: a few small images cost almost as much as many.
    size = config.data.batch_size
    source = _made_up(config, size)
    task: Task
    views: ViewPlan
    if stage == "pretrain":
        task, views = method.task(method.encoder()), method.pretrain_views()
    else:
        labels = torch.from_numpy(source.labels)
        task = Classifier(method.encoder(), build_loss(config.finetune, labels))
        views = method.finetune_views() if stage == "finetune" else method.test_views()
    if not task.encoder.is_vit:  # as the training loop lays it out
        task.to(memory_format=torch.channels_last)
    task.to(device).train(stage != "predict")
    rows = np.arange(size)
    steps = ViewSteps(source, views, EpochOrder(rows, size, 0), config.data.img_size, 0)

    def step(number: int) -> None:
        batch = steps.render(number, rows).to_device(device)
        if stage == "predict":
            assert isinstance(task, Classifier)
            with torch.inference_mode():
                task.scores(batch)
        else:
            task(batch, 0.0).loss.backward()
        if gpu:
            torch.cuda.synchronize()

    return _fastest(step) / size


def _fastest(step: Callable[[int], None]) -> float:
    seconds = []
    for trial in range(1 + _TRIALS):
        started = time.perf_counter()
        step(trial)
        seconds.append(time.perf_counter() - started)
        # The first step also loads libraries, so a second one is always made.
        if trial and sum(seconds) > _PATIENCE:
            break
    return min(seconds)


def _made_up(config: Config, count: int) -> ViewSource:
    rng = np.random.default_rng(0)
    side = config.data.cache_size or config.data.img_size
    masks = np.zeros((side, side), bool)
    masks[side // 5 : -side // 5, side // 5 : -side // 5] = True
    bits = np.tile(np.packbits(masks), (count, 1))
    return ViewSource(
        cache=DecodedCache(
            images=rng.integers(0, 256, (count, side, side), dtype=np.uint8),
            usable=np.ones(count, bool),
            problems={},
            folder=Path(),
        ),
        masks=MaskArray(bits, np.ones(count, np.float32), np.ones(count, bool), side),
        keys=np.arange(count, dtype=np.uint64),
        labels=(rng.random((count, 14)) < 0.3).astype(np.float32),
        domains=np.zeros(count, np.int64),
        splits=np.repeat("train", count),
        patients=np.arange(count).astype(str),
    )


def without_weights(config: Config) -> Config:
    """Return the configuration without first weights, so that nothing is downloaded."""
    return config.model_copy(
        update={"encoder": config.encoder.model_copy(update={"pretrained": False, "weights": None})}
    )
