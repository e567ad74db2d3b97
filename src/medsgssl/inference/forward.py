"""Runs a model over whole splits, without augmentation, on all ranks; scores of a classifier."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import Tensor

from medsgssl.config.schema import Config
from medsgssl.data.dataset import ImageMaskDataset
from medsgssl.data.loader import BatchDataset, load_batches
from medsgssl.data.sampler import EpochSampler
from medsgssl.errors import CheckpointError
from medsgssl.methods.registry import method_of
from medsgssl.models.classifier import Classifier, KNNClassifier
from medsgssl.models.task import Task
from medsgssl.models.weights import (
    load_weights,
    read_header,
    weights_identity,
    without_initial_weights,
)
from medsgssl.runs.weights_header import ClassifierIdentity
from medsgssl.transforms.batch import ViewBatch
from medsgssl.utils.allocator import keep_freed_memory
from medsgssl.utils.ranks import launched_processes
from medsgssl.utils.system import loader_workers

Floats = NDArray[np.float32]
#: Significant digits of a score in ``predictions.parquet``.
SCORE_DIGITS = 5
#: A pass of fewer batches renders them in this process: starting a loader process takes longer.
_BATCHES_PER_WORKER = 16


@keep_freed_memory()
@torch.inference_mode()
def run_inference(
    fabric: Fabric,
    task: Task,
    read: Callable[[ViewBatch], Tensor],
    config: Config,
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
    method = method_of(config)
    views = method.test_views()
    steps = BatchDataset.configured(
        config, source, views, order, masks=method.sees_masks, device=fabric.device
    )
    launched = launched_processes()
    here = fabric.world_size if launched is None else launched.local_size
    workers = loader_workers(config.data.num_workers, here)
    workers = min(workers, len(steps) // _BATCHES_PER_WORKER)
    mine: list[tuple[NDArray[np.int64], Floats]] = []
    pin = config.data.pin_memory and fabric.device.type == "cuda"
    for batch in load_batches(steps, 0, len(steps), workers=workers, pin_memory=pin):
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


def predict_splits(
    config: Config,
    source: ImageMaskDataset,
    weights: Path,
    splits: tuple[str, ...] = ("val", "test"),
    fabric: Fabric | None = None,
) -> tuple[NDArray[np.int64], Floats]:
    """Score every usable image of the splits with a classifier.

    Args:
        config: The configuration the classifier was made with.
        source: Images and masks.
        weights: ``classifier.safetensors``.
        splits: Which splits.
        fabric: Device and processes, each of which scores its share of the images; this process
            alone when not given.

    Returns:
        The rows (N,) and their scores (N, D), probabilities rounded by ``round_scores``.

    Raises:
        CheckpointError: The weights are unusable or of another method.
    """
    encoder = method_of(without_initial_weights(config)).encoder()
    classifier = Classifier(encoder, len(source.label_set))
    if config.finetune.mode == "knn":
        images = read_header(weights).get("bank")
        if images is None:
            raise CheckpointError(
                f"{weights} holds no k-NN classifier",
                "fine-tune with finetune.mode=knn",
            )
        classifier = KNNClassifier(
            classifier.encoder, len(source.label_set), images, config.finetune.neighbors
        )
    must_match: ClassifierIdentity = {
        **weights_identity(config),
        "diseases": list(source.label_set.names),
    }
    load_weights(weights, classifier, must_match)
    if fabric is None:
        fabric = Fabric(accelerator=config.finetune.accelerator, devices=1)
    classifier.to(fabric.device)
    rows = np.concatenate([source.rows(split) for split in splits])
    scores = run_inference(fabric, classifier, classifier.scores, config, source, rows)
    return rows, round_scores(scores)


def round_scores(scores: Floats) -> Floats:
    """Round scores to the digits that they hold, so that equal images rank equal.

    Sums in single precision depend on their order: a score is the same from one computation to
    the next to about six digits. Exact ranks of the seventh are noise.

    Args:
        scores: Numbers of any shape.

    Returns:
        float32 of the same shape, with ``SCORE_DIGITS`` significant digits.
    """
    values = scores.astype(np.float64)
    exponents = np.floor(np.log10(np.abs(values), where=values != 0, out=np.zeros_like(values)))
    unit = 10.0 ** (exponents - SCORE_DIGITS + 1)
    return (np.rint(values / unit) * unit).astype(np.float32)
