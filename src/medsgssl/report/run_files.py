"""The files of a run folder as far as they are there; nothing is computed again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from medsgssl.config.loading import SettingsTree
from medsgssl.errors import DataError
from medsgssl.evaluation.predictions import Predictions, Split
from medsgssl.runs.data_summary import DataSummary, read_data_summary
from medsgssl.runs.folder import RunFolder
from medsgssl.runs.metrics_file import Metrics, read_metrics
from medsgssl.runs.stage_files import StageRecord, read_stage_records
from medsgssl.utils.io import read_json

#: What each file is, in the order in which a run writes them, and the stage that does.
FILES: dict[str, tuple[str, str]] = {
    "config.yaml": ("start", "the resolved configuration"),
    "environment.json": ("start", "versions and machine"),
    "stages.json": ("data", "when each stage was completed, and how long it took"),
    "data.json": ("data", "audit of images, labels and lung masks"),
    "split.parquet": ("data", "patient and split of every image"),
    "examples.npz": ("data", "some images, masks and views as the network saw them"),
    "pretrain_log.csv": ("pretrain", "one row per epoch of pretraining"),
    "pretrain_warnings.json": ("pretrain", "signs of collapse or saturation"),
    "pretrained_on.parquet": ("pretrain", "name, patient and kind of every image of pretraining"),
    "pretrained.safetensors": ("pretrain", "the pretrained encoder"),
    "maps.npz": ("maps", "where the method looks before and after pretraining"),
    "finetune_log.csv": ("finetune", "one row per epoch of fine-tuning"),
    "kept_epoch.json": ("finetune", "which epoch became the classifier, and why"),
    "classifier.safetensors": ("finetune", "the classifier that fine-tuning kept"),
    "predictions.parquet": ("predict", "labels and scores of validation and test images"),
    "metrics.json": ("evaluate", "every metric of the test images"),
}


@dataclass(frozen=True)
class Results:
    """What a run has left so far; None stands for a file that is not there.

    Attributes:
        folder: The run folder.
        config: The resolved configuration, nested plain values.
        config_text: The same as YAML.
        environment: Versions and machine.
        stages: Per stage: when finished, seconds.
        data: Audit of images and masks.
        split: Image, patient and split of every image.
        examples: Arrays by name.
        maps: Arrays by name; None also for a method without maps.
        pretrain_log: One row per epoch.
        pretrain_warnings: Texts.
        finetune_log: One row per epoch.
        test: Labels and scores of the test images.
        metrics: Every metric of the test images.
    """

    folder: RunFolder
    config: SettingsTree
    config_text: str
    environment: dict[str, str] | None
    stages: dict[str, StageRecord]
    data: DataSummary | None
    split: pd.DataFrame | None
    examples: dict[str, NDArray[Any]] | None
    maps: dict[str, NDArray[Any]] | None
    pretrain_log: pd.DataFrame | None
    pretrain_warnings: list[str]
    finetune_log: pd.DataFrame | None
    test: Split | None
    metrics: Metrics | None

    @classmethod
    def read(cls, run: RunFolder) -> Results:
        """Read a run folder.

        Raises:
            ConfigError: It holds no run.
            DataError: A file is damaged.
        """
        return cls(
            folder=run,
            config=run.read_config(),
            config_text=run.config.read_text(),
            environment=_json(run.environment),
            stages=read_stage_records(run.stages),
            data=read_data_summary(run.data),
            split=_parquet(run.split),
            examples=_arrays(run.examples),
            maps=_arrays(run.maps),
            pretrain_log=_log(run.pretrain_log),
            pretrain_warnings=_json(run.pretrain_warnings) or [],
            finetune_log=_log(run.finetune_log),
            test=_test(run.predictions),
            metrics=read_metrics(run.metrics),
        )

    @property
    def no_pretrain(self) -> bool:
        """Whether the run has no pretraining."""
        return bool(self.config.get("no_pretrain", False))

    def setting(self, dotted: str) -> Any:
        """Return a setting by its dotted name, None where there is none."""
        value: Any = self.config
        for part in dotted.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        return value

    def absent(self, path: Path) -> str:
        """Return why there is nothing to show for a file."""
        stage = FILES[path.name][0]
        if stage == "pretrain" and self.no_pretrain:
            return "This run has no pretraining: fine-tuning starts from the initial weights."
        if stage in self.stages:
            if stage == "pretrain":
                return (
                    f"There is no {path.name}: pretraining was not done in this folder, its "
                    "weights come from another run."
                )
            return f"{path.name} is not in the run folder, although its stage is complete."
        return f"{path.name} is not there yet: the stage “{stage}” has not run."


def _json(path: Path) -> Any:
    return read_json(path) if path.is_file() else None


def _parquet(path: Path) -> pd.DataFrame | None:
    if not path.is_file():
        return None
    try:
        return pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise _damaged(path, error) from error


def _log(path: Path) -> pd.DataFrame | None:
    if not path.is_file():
        return None
    try:
        table = pd.read_csv(path)
        table["epoch"]
    except (KeyError, ValueError) as error:
        raise _damaged(path, error) from error
    return table if len(table) else None


def _arrays(path: Path) -> dict[str, NDArray[Any]] | None:
    if not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as stored:
            return dict(stored)
    except (OSError, ValueError) as error:
        raise _damaged(path, error) from error


def _test(path: Path) -> Split | None:
    if not path.is_file():
        return None
    predictions = Predictions.read(path)
    return predictions.split("test") if predictions.has("test") else None


def _damaged(path: Path, error: Exception) -> DataError:
    return DataError(f"{path} cannot be read: {error}", "delete it and run its stage again")
