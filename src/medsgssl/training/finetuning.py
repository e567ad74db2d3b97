"""Supervised fine-tuning: an encoder in, the best classifier by validation mean AUC out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.fabric import Fabric
from numpy.typing import NDArray

from medsgssl.config.schema import Config
from medsgssl.data.dataset import ImageMaskDataset
from medsgssl.data.loader import BatchDataset
from medsgssl.data.sampler import EpochSampler
from medsgssl.data.stratify import draw_label_fraction
from medsgssl.errors import DataError
from medsgssl.evaluation.metrics import mean_auc
from medsgssl.inference.forward import run_inference
from medsgssl.losses.multilabel import build_loss
from medsgssl.methods.registry import method_of
from medsgssl.models.classifier import Classifier
from medsgssl.models.task import Task
from medsgssl.models.weights import load_weights, save_weights, weights_identity
from medsgssl.runs.weights_header import WeightsHeader
from medsgssl.training.csv_logger import Row
from medsgssl.training.distributed import launch, seed_step
from medsgssl.training.linear_probe import fit_linear_or_knn
from medsgssl.training.trainer import Stage, Trainer


@dataclass
class BestCheckpoint:
    """Validates after each epoch, keeps the best weights, and says when to stop.

    Only validation labels are seen here; the test split plays no part in the choice.
    """

    fabric: Fabric
    config: Config
    source: ImageMaskDataset
    rows: NDArray[np.int64]
    path: Path
    header: WeightsHeader
    best: float = -1.0
    best_epoch: int = -1

    def __call__(self, task: Task, row: Row) -> bool:
        """Validate after an epoch; return whether to stop."""
        assert isinstance(task, Classifier)
        scores = run_inference(
            self.fabric, task, task.scores, self.config, self.config.finetune, self.source,
            self.rows,
        )  # fmt: skip
        labels = self.source.labels[self.rows]
        auc = mean_auc(labels, scores)
        if np.isnan(auc):
            raise DataError(
                "no disease of the validation split has both positives and negatives",
                "use more images, or another data.split",
            )
        row["val_mean_auc"] = auc
        epoch = int(row["epoch"])
        if auc > self.best:
            self.best, self.best_epoch = auc, epoch
            if self.fabric.is_global_zero:
                header: WeightsHeader = {**self.header, "epoch": epoch, "val_mean_auc": auc}
                save_weights(self.path, task, header)
        return epoch - self.best_epoch >= self.config.finetune.patience

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint keeps."""
        return {"best": self.best, "best_epoch": self.best_epoch}

    def load(self, state: dict[str, Any]) -> None:
        """Take up what a checkpoint kept."""
        self.best, self.best_epoch = state["best"], state["best_epoch"]


def labeled_rows(config: Config, source: ImageMaskDataset) -> NDArray[np.int64]:
    """Return the training rows whose labels may be used: a share of the patients."""
    rows = source.rows("train")
    return rows[
        draw_label_fraction(
            source.patients[rows], source.labels[rows], config.data.label_fraction, config.seed
        )
    ]


def finetune(config: Config, source: ImageMaskDataset, folder: Path, header: WeightsHeader) -> None:
    """Fine-tune the encoder of ``config`` and write the classifier.

    Starts from ``pretrained.safetensors`` in ``folder`` unless the run is a direct one. Writes
    ``classifier.safetensors`` (the epoch of the best validation mean AUC) and, except for the
    linear and k-NN read-outs, ``finetune_log.csv``; goes on from ``finetune.checkpoint`` where
    there is one.

    Args:
        config: The run's configuration.
        source: Images, masks and labels.
        folder: The run folder.
        header: What travels with the weights; ``header["key"]`` guards the checkpoint.
    """
    launch(config.finetune, folder / "logs", _finetune, config, source, folder, header)


def _finetune(
    fabric: Fabric, config: Config, source: ImageMaskDataset, folder: Path, header: WeightsHeader
) -> None:
    method = method_of(config)
    stage = Stage.of(config, "finetune", folder, header["key"])
    rows = labeled_rows(config, source)
    order = EpochSampler(
        rows,
        min(config.data.batch_size, len(rows) // fabric.world_size),
        config.seed,
        rank=fabric.global_rank,
        world=fabric.world_size,
    )
    steps = BatchDataset(source, method.finetune_views(), order, config.data.img_size, config.seed)
    seed_step(config.seed, "initial weights", 0, 0)
    task = start_classifier(config, folder, torch.from_numpy(source.labels[rows]))
    if config.finetune.mode != "finetune":
        path = folder / "classifier.safetensors"
        fit_linear_or_knn(fabric, config, source, task, rows, path, header)
        return
    best = BestCheckpoint(
        fabric, config, source, source.rows("val"), folder / "classifier.safetensors", header
    )
    Trainer(fabric, stage, task, steps, best).run()
    fabric.barrier()
    if fabric.is_global_zero:
        stage.checkpoint.unlink(missing_ok=True)


def start_classifier(config: Config, folder: Path, train_labels: torch.Tensor) -> Classifier:
    """Return the classifier as fine-tuning starts it: the method's encoder and a new head."""
    encoder = method_of(config).encoder()
    if not config.no_pretrain:
        load_weights(folder / "pretrained.safetensors", encoder, weights_identity(config))
    return Classifier(
        encoder,
        train_labels.shape[1],
        build_loss(config.finetune, train_labels),
        config.finetune.dropout,
    )
