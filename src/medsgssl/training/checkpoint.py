"""Checkpoints: what a stage is resumed from; early stopping, and which weights are kept.

A checkpoint holds the task, the optimizer, the gradient scaler, the step and the log. Data order,
augmentation, drop-out and the learning rate are pure functions of seed and step, so nothing else
is needed for a run that goes on exactly as if it had never stopped. Reading one runs no code.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NotRequired, TypedDict, cast

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from medsgssl.config.schema import Config
from medsgssl.data.dataset import ImageMaskDataset
from medsgssl.errors import CheckpointError
from medsgssl.evaluation.metrics import mean_auc, mean_over
from medsgssl.evaluation.resampled_auc import RankedScores, patient_counts
from medsgssl.inference.forward import run_inference
from medsgssl.models.classifier import Classifier
from medsgssl.models.weights import save_weights
from medsgssl.runs.folder import RunFolder
from medsgssl.runs.stage_files import EpochScore, KeptEpoch
from medsgssl.runs.weights_header import WeightsHeader
from medsgssl.training.csv_logger import LogState, Row
from medsgssl.training.selection import SelectionRule
from medsgssl.utils.io import atomic_path, write_json

# Resamples of patients behind the noise of an epoch's mean AUC, the same for all epochs.
_RESAMPLES = 200
# Epochs whose difference is smaller than so many of its standard errors count as equal.
_NOISE = 2.0


class TrainerState(TypedDict):
    """What the checkpoint of a stage holds; ``Trainer`` writes and reads it."""

    key: str  # fingerprint of everything that decides the result
    step: int
    stopped: bool
    start: Row  # the losses of the untrained network
    task: dict[str, Tensor]
    optimizer: dict[str, Any]  # as torch and the precision plugin give them
    scaler: dict[str, Any]
    logs: list[LogState]  # one per process
    log: NotRequired[LogState]  # in checkpoints of the release before: of the first process
    callback: Mapping[str, object]


class FinetuneState(TypedDict):
    """What a checkpoint keeps of ``ModelCheckpoint``."""

    best_epoch: int
    scores: list[EpochScore]
    draws: list[list[float]]
    average: dict[str, Tensor] | None


def save_checkpoint(path: Path, state: TrainerState) -> None:
    """Write a checkpoint of tensors and plain values atomically."""
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        torch.save(state, stream)


def load_checkpoint(path: Path, key: str, diverged_key: str | None = None) -> TrainerState | None:
    """Read a checkpoint without running code, or return None where there is none.

    Args:
        path: The file.
        key: Fingerprint of everything that decides the result; it must be the checkpoint's.
        diverged_key: The key under which the stage was no longer finite; also accepted, so that it
            goes on with a lower rate.

    Raises:
        CheckpointError: The file is damaged, or was written under another configuration.
    """
    if not path.is_file():
        return None
    try:
        state: TrainerState = torch.load(path, map_location="cpu", weights_only=True)
        written_key = state["key"]
    except Exception as error:  # the restricted unpickler fails in many ways
        raise CheckpointError(
            f"{path} is damaged or no checkpoint of medsgssl: {error}",
            f"remove {path} to start this stage again from its beginning",
        ) from error
    if written_key not in {key, diverged_key}:
        raise CheckpointError(
            f"{path} was written under another configuration",
            "restore the configuration, or choose another --out folder",
        )
    return state


class ModelCheckpoint:
    """The callback of fine-tuning.

    Args:
        fabric: Device and processes; every process must validate at the same time.
        config: The run's configuration.
        source: Images, masks and labels.
        rule: Which weights are kept, and the diseases of the validation mean AUC.
        folder: Where ``classifier.safetensors`` and ``kept_epoch.json`` go.
        header: What travels with the weights.
        steps_per_epoch: Optimizer steps of an epoch.
    """

    def __init__(
        self,
        fabric: Fabric,
        config: Config,
        source: ImageMaskDataset,
        rule: SelectionRule,
        folder: Path,
        header: WeightsHeader,
        steps_per_epoch: int,
    ) -> None:
        self._fabric, self._config, self._source, self._rule = fabric, config, source, rule
        self._run, self._header = RunFolder(folder), header
        self._rows = np.flatnonzero(source.splits == "val")
        _, codes = np.unique(source.patients[self._rows], return_inverse=True)
        self._patients: NDArray[np.int64] = codes.astype(np.int64)
        self._average = WeightAverage(1 - 1 / (steps_per_epoch + 1)) if rule.keep == "ema" else None
        self._scores: list[EpochScore] = []
        self._draws: list[list[float]] = []
        self._best_epoch = -1

    def on_step_end(self, task: Classifier) -> None:
        """Follow the weights with their average, where it is what is kept."""
        if self._average is not None:
            self._average.update(task)

    def __call__(self, task: Classifier, row: Row) -> bool:
        """Validate after an epoch; return whether to stop."""
        settings, epoch = self._config.finetune, int(row["epoch"])
        model = task if self._average is None else self._average.model
        auc = self._validate(model, epoch)
        if np.isfinite(auc):
            row["val_mean_auc"] = auc
        if self._rule.keep != "best":
            if epoch + 1 == settings.epochs:
                self._save(model, epoch)
            return False
        if self._best_epoch < 0 or auc > self._scores[self._best_epoch]["val_mean_auc"]:
            self._best_epoch = epoch
            self._save(model, epoch)
        # A cosine schedule does most of its good late: nothing is concluded in its first half.
        late = 2 * (epoch + 1) >= settings.epochs
        return late and epoch - self._best_epoch >= settings.patience

    def _validate(self, model: Classifier, epoch: int) -> float:
        if not len(self._rows) or not self._rule.classes.any():
            return float("nan")
        config = self._config
        scores = run_inference(self._fabric, model, model.scores, config, self._source, self._rows)
        labels, classes = self._source.labels[self._rows], self._rule.classes
        auc = mean_auc(labels, scores, classes)
        counts = patient_counts(int(self._patients.max()) + 1, _RESAMPLES, 0, "kept epoch")
        ranked = RankedScores(labels[:, classes], scores[:, classes], self._patients)
        draws = mean_over(ranked.auc(counts), np.ones(classes.sum(), dtype=bool))
        self._scores.append({"epoch": epoch, "val_mean_auc": auc, "standard_error": _sd(draws)})
        self._draws.append(draws.tolist())
        return auc

    def _save(self, model: Classifier, epoch: int) -> None:
        if not self._fabric.is_global_zero:
            return
        header: WeightsHeader = {**self._header, "epoch": epoch}
        if self._scores:
            header["val_mean_auc"] = self._scores[-1]["val_mean_auc"]
        save_weights(self._run.classifier, model, header)

    def write_summary(self, last_epoch: int) -> None:
        """Write ``kept_epoch.json``: the rule, the kept epoch, and which epochs equal it.

        Args:
            last_epoch: Number of the last epoch that was trained.
        """
        kept = self._best_epoch if self._rule.keep == "best" else last_epoch
        summary: KeptEpoch = {
            "keep": self._rule.keep,
            "reason": self._rule.reason,
            "epoch": kept,
            "classes": self._rule.class_names,
            "epochs": self._scores,
            "within_noise": self._within_noise(kept) if self._scores else [],
        }
        write_json(self._run.kept_epoch, summary)

    def _within_noise(self, kept: int) -> list[int]:
        """Return the epochs whose paired difference to the kept one is small, that included."""
        reference, draws = self._scores[kept]["val_mean_auc"], self._draws[kept]
        return [
            score["epoch"]
            for score, others in zip(self._scores, self._draws, strict=True)
            if abs(score["val_mean_auc"] - reference)
            <= _NOISE * (_sd(np.subtract(others, draws)) or 0.0)
        ]

    def state(self) -> FinetuneState:
        """Return what a checkpoint keeps."""
        return {
            "best_epoch": self._best_epoch,
            "scores": self._scores,
            "draws": self._draws,
            "average": None if self._average is None else self._average.state(),
        }

    def load(self, state: FinetuneState) -> None:
        """Take up what a checkpoint kept."""
        self._best_epoch, self._draws = state["best_epoch"], list(state["draws"])
        self._scores = list(state["scores"])
        if self._average is not None:
            self._average.load(state["average"])


class WeightAverage:
    """An exponential moving average of all weights and buffers of a classifier.

    Args:
        decay: What is left of the average in a step; 1 - 1/n averages over about n steps.
    """

    def __init__(self, decay: float) -> None:
        self._decay = decay
        self._averaged: AveragedModel | None = None
        self._loaded: dict[str, Tensor] | None = None

    @property
    def model(self) -> Classifier:
        """The classifier with averaged weights; there is one after the first step."""
        if self._averaged is None:
            raise RuntimeError("no step has been averaged yet")
        return cast("Classifier", self._averaged.module)

    def update(self, task: Classifier) -> None:
        """Move the average toward the weights of ``task``."""
        if self._averaged is None:
            average = get_ema_multi_avg_fn(self._decay)  # type: ignore[no-untyped-call]
            self._averaged = AveragedModel(task, multi_avg_fn=average, use_buffers=True)
            if self._loaded is not None:
                self._averaged.load_state_dict(self._loaded)
        self._averaged.update_parameters(task)

    def state(self) -> dict[str, Tensor] | None:
        """Return what a checkpoint keeps."""
        return self._loaded if self._averaged is None else self._averaged.state_dict()

    def load(self, state: dict[str, Tensor] | None) -> None:
        """Take up what a checkpoint kept."""
        self._loaded = state


def _sd(draws: NDArray[np.float64] | list[float]) -> float | None:
    """Return the standard deviation over the resamples that are defined."""
    values = np.asarray(draws, np.float64)
    values = values[np.isfinite(values)]
    return float(values.std(ddof=1)) if len(values) > 1 else None
