"""Supervised fine-tuning: an encoder in, a classifier out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray

from medsgssl.config.schema import Config
from medsgssl.data.dataset import ImageMaskDataset
from medsgssl.data.loader import BatchDataset
from medsgssl.data.sampler import EpochSampler
from medsgssl.data.stratify import draw_label_fraction
from medsgssl.errors import DataError
from medsgssl.losses.multilabel import build_loss
from medsgssl.methods.registry import method_of
from medsgssl.models.classifier import Classifier, KNNClassifier
from medsgssl.models.weights import (
    load_weights,
    save_weights,
    weights_identity,
    without_initial_weights,
)
from medsgssl.runs.folder import RunFolder
from medsgssl.runs.weights_header import WeightsHeader
from medsgssl.training.checkpoint import ModelCheckpoint
from medsgssl.training.distributed import launch, process_count
from medsgssl.training.knn import fit_knn
from medsgssl.training.linear_probe import fit_linear_probe
from medsgssl.training.selection import selection_rule
from medsgssl.training.stage import StageSpec
from medsgssl.training.trackers import open_trackers
from medsgssl.training.trainer import Trainer
from medsgssl.utils.progress import new_console
from medsgssl.utils.rng import seed_step


def labeled_rows(config: Config, source: ImageMaskDataset) -> NDArray[np.int64]:
    """Return the training rows whose labels may be used: a share of the patients."""
    rows = source.rows("train")
    return rows[
        draw_label_fraction(
            source.patients[rows], source.labels[rows], config.data.label_fraction, config.seed
        )
    ]


def check_labels(config: Config, source: ImageMaskDataset) -> None:
    """Check, before any work, that fine-tuning has something to learn from.

    Raises:
        DataError: There are fewer than two labeled training images per process, or none of them
            has a disease. An image all of whose labels are unknown is not labeled.
    """
    rows = labeled_rows(config, source)
    rows = rows[~np.isnan(source.labels[rows]).all(axis=1)]
    needed = 2 * process_count(config.finetune)
    share = f"data.label_fraction={config.data.label_fraction:g}"
    if len(rows) < needed:
        raise DataError(
            f"fine-tuning has {len(rows)} labeled training images ({share}) and needs at least "
            f"{needed}: two per process",
            "label more images, or raise data.label_fraction",
        )
    if not (source.labels[rows] == 1).any():
        raise DataError(
            f"none of the {len(rows)} labeled training images ({share}) has a disease: there is "
            "nothing to learn",
            "label more images, raise data.label_fraction, or look at `medsgssl catalog`",
        )


def finetune(config: Config, source: ImageMaskDataset, folder: Path, header: WeightsHeader) -> None:
    """Fine-tune the encoder of ``config`` and write the classifier.

    Starts from ``pretrained.safetensors`` in ``folder`` unless pretraining is left out. Writes
    ``classifier.safetensors`` and, except for the linear probe and k-NN, ``finetune_log.csv`` and
    ``kept_epoch.json``; goes on from ``finetune.checkpoint`` where there is one.

    Args:
        config: The run's configuration.
        source: Images, masks and labels.
        folder: The run folder.
        header: What travels with the weights; ``header["key"]`` guards the checkpoint.

    Raises:
        DataError: The labeled images are too few to learn from.
    """
    check_labels(config, source)
    launch(
        config.finetune, open_trackers(config, folder), _finetune, config, source, folder, header
    )


def _finetune(
    fabric: Fabric, config: Config, source: ImageMaskDataset, folder: Path, header: WeightsHeader
) -> None:
    rows = labeled_rows(config, source)
    seed_step(config.seed, "initial weights", 0, 0)
    task = start_classifier(config, folder, torch.from_numpy(source.labels[rows]))
    if config.finetune.mode != "finetune":
        fit = fit_knn if config.finetune.mode == "knn" else fit_linear_probe
        fitted = fit(fabric, config, source, task, rows)
        if isinstance(fitted, KNNClassifier):
            header = {**header, "bank": len(rows)}
        if fabric.is_global_zero:
            save_weights(RunFolder(folder).classifier, fitted, header)
        return
    order = finetune_order(config, source, rows, fabric.global_rank, fabric.world_size)
    method = method_of(config)
    views = method.finetune_views()
    steps = BatchDataset.configured(
        config, source, views, order, masks=method.sees_masks, device=fabric.device
    )
    rule = selection_rule(config, source)
    if fabric.is_global_zero:
        new_console().print(rule.reason, highlight=False, soft_wrap=True)
    stage = StageSpec.of(config, "finetune", folder, header["key"], config.finetune.lr)
    checkpoint = ModelCheckpoint(fabric, config, source, rule, folder, header, len(steps))
    log = Trainer(fabric, stage, task, steps, checkpoint).run()
    fabric.barrier()
    if fabric.is_global_zero:
        # The checkpoint stays until the runner has marked the stage complete.
        checkpoint.write_summary(int(log.rows[-1]["epoch"]))


def finetune_order(
    config: Config,
    source: ImageMaskDataset,
    rows: NDArray[np.int64],
    rank: int = 0,
    world_size: int = 1,
) -> EpochSampler:
    """Return which labeled images each step of fine-tuning sees.

    With ``finetune.steps=auto`` an epoch has as many steps as all training images fill, so that
    a label fraction is trained for as long as all labels are; the labeled images then come several
    times in an epoch, in other views each time.

    Args:
        config: The run's configuration.
        source: Images and labels.
        rows: The labeled rows, (N,).
        rank: This process.
        world_size: Number of processes.
    """
    batch = min(config.data.batch_size, len(rows) // world_size)
    steps = None
    if config.finetune.steps == "auto":
        every = len(source.rows("train")) // (config.data.batch_size * world_size)
        steps = max(every, len(rows) // (batch * world_size))
    return EpochSampler(
        rows, batch, config.seed, rank=rank, world=world_size, steps_per_epoch=steps
    )


def start_classifier(config: Config, folder: Path, train_labels: torch.Tensor) -> Classifier:
    """Return the classifier as fine-tuning starts it: the method's encoder and a new head."""
    if config.no_pretrain:
        encoder = method_of(config).encoder()
    else:
        encoder = method_of(without_initial_weights(config)).encoder()
        load_weights(RunFolder(folder).pretrained, encoder, weights_identity(config))
    return Classifier(
        encoder,
        train_labels.shape[1],
        build_loss(config.finetune, train_labels),
        config.finetune.dropout,
    )
