"""Which weights fine-tuning keeps, and by which diseases epochs are compared."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from safetensors.torch import load_file

from medsgssl.config.schema import Config
from medsgssl.data.dataset import ImageMaskDataset
from medsgssl.evaluation.metrics import MIN_POSITIVE_PATIENTS, mean_auc
from medsgssl.methods.registry import method_of
from medsgssl.models.classifier import Classifier
from medsgssl.models.weights import read_header
from medsgssl.runs.artifact import read_artifact
from medsgssl.runs.stage_files import KeptEpoch
from medsgssl.training import checkpoint
from medsgssl.training.checkpoint import ModelCheckpoint, WeightAverage
from medsgssl.training.finetuning import finetune
from medsgssl.training.selection import AUTO_KEEP, selection_rule

Build = Callable[..., Config]
FACTS = {"key": "k", "method": "simclr", "encoder": "test_efficientnet"}


def with_validation(source: ImageMaskDataset, positives: list[int]) -> ImageMaskDataset:
    """A source whose validation split has 60 patients, ``positives[c]`` of them with disease c."""
    labels = np.zeros((60, len(source.label_set)), np.float32)
    for disease, count in enumerate(positives):
        labels[:count, disease] = 1
    return replace(
        source,
        image_seeds=np.arange(60, dtype=np.uint64),
        labels=labels,
        domains=np.zeros(60, np.int64),
        splits=np.repeat("val", 60),
        patients=np.array([f"p{i}" for i in range(60)]),
    )


def test_diseases_with_few_positive_patients_take_no_part(
    view_source: ImageMaskDataset, tiny_config: Build
) -> None:
    few = MIN_POSITIVE_PATIENTS - 1
    source = with_validation(view_source, [few, few + 1, 30, 51])
    rule = selection_rule(tiny_config("simclr", finetune__keep="best"), source)
    # Of the last one the negatives are too few.
    assert rule.class_names == list(view_source.label_set.names[1:3])
    assert rule.keep == "best"
    assert "2 of 4 diseases" in rule.reason


def test_too_few_diseases_to_choose_by_keep_the_last_epoch_and_say_so(
    view_source: ImageMaskDataset, tiny_config: Build
) -> None:
    source = with_validation(view_source, [1, 2, 30])
    rule = selection_rule(tiny_config("simclr", finetune__keep="best"), source)
    assert rule.keep == "last"
    assert "keep=best, but only 1 of 3 diseases" in rule.reason
    assert selection_rule(tiny_config("simclr"), source).keep == AUTO_KEEP


class Validation:
    """Runs the callback over epochs whose validation scores are given."""

    def __init__(
        self, source: ImageMaskDataset, config: Config, folder: Path, patch: pytest.MonkeyPatch
    ) -> None:
        self.scores: list[np.ndarray] = []
        patch.setattr(checkpoint, "run_inference", lambda *_: self.scores.pop(0))
        fabric = Fabric(accelerator="cpu", devices=1)
        rule = selection_rule(config, source)
        self.callback = ModelCheckpoint(fabric, config, source, rule, folder, FACTS, 5)
        self.task = Classifier(method_of(config).encoder(), source.labels.shape[1])
        self.labels = source.labels

    def epoch(self, number: int, quality: float) -> bool:
        rng = np.random.default_rng(number)
        noise = rng.random(self.labels.shape)
        self.scores.append((quality * self.labels + (1 - quality) * noise).astype(np.float32))
        return self.callback(self.task, {"epoch": float(number)})


def test_patience_ends_a_run_by_the_listed_diseases_and_never_in_its_first_half(
    tmp_path: Path,
    view_source: ImageMaskDataset,
    tiny_config: Build,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = with_validation(view_source, [20, 30])
    config = tiny_config("simclr", finetune__keep="best", finetune__epochs=8, finetune__patience=1)
    run = Validation(source, config, tmp_path, monkeypatch)
    stops = [run.epoch(number, quality) for number, quality in enumerate([0.4, 0, 0, 0])]
    assert stops == [False, False, False, True]
    run.callback.write_summary(3)
    kept = read_artifact(tmp_path / "kept_epoch.json", KeptEpoch, "medsgssl finetune")
    assert kept["epoch"] == 0
    assert read_header(tmp_path / "classifier.safetensors")["epoch"] == 0
    # Epochs that rank at random are told from one that does not; that one is within noise itself.
    assert kept["within_noise"] == [0]
    assert all(0 < (score["standard_error"] or 0) < 0.2 for score in kept["epochs"])


def test_the_last_epoch_is_kept_whatever_validation_says(
    tmp_path: Path,
    view_source: ImageMaskDataset,
    tiny_config: Build,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = with_validation(view_source, [20, 30])
    config = tiny_config("simclr", finetune__keep="last", finetune__epochs=3, finetune__patience=1)
    run = Validation(source, config, tmp_path, monkeypatch)
    assert [run.epoch(number, quality) for number, quality in enumerate([0.4, 0, 0])] == [False] * 3
    run.callback.write_summary(2)
    assert read_header(tmp_path / "classifier.safetensors")["epoch"] == 2


def test_no_validation_image_is_no_obstacle_where_nothing_is_chosen(
    tmp_path: Path, view_source: ImageMaskDataset, tiny_config: Build
) -> None:
    splits = np.where(view_source.splits == "val", "test", view_source.splits)
    config = tiny_config("simclr", no_pretrain=True)
    finetune(config, replace(view_source, splits=splits), tmp_path, FACTS)
    assert (tmp_path / "classifier.safetensors").is_file()
    kept = read_artifact(tmp_path / "kept_epoch.json", KeptEpoch, "medsgssl finetune")
    assert (kept["keep"], kept["epoch"], kept["epochs"]) == ("last", 1, [])


def test_the_average_moves_toward_the_weights_and_goes_on_after_a_resume(
    tiny_config: Build,
) -> None:
    task = Classifier(method_of(tiny_config("simclr")).encoder(), classes=3)
    whole, before = WeightAverage(0.5), WeightAverage(0.5)
    values = []
    for step in range(4):
        torch.nn.init.constant_(task.head.weight, float(step))
        if step == 2:  # killed here, and read again
            after = WeightAverage(0.5)
            after.load(before.state())
            before = after
        whole.update(task)
        before.update(task)
        values.append(float(whole.model.head.weight.detach().mean()))
    assert values == pytest.approx([0, 0.5, 1.25, 2.125])
    assert torch.equal(whole.model.head.weight, before.model.head.weight)


def test_averaged_weights_are_what_is_written(
    tmp_path: Path, view_source: ImageMaskDataset, tiny_config: Build
) -> None:
    weights: dict[str, Any] = {}
    for keep in ("last", "ema"):
        config = tiny_config("simclr", no_pretrain=True, finetune__keep=keep)
        finetune(config, view_source, tmp_path / keep, FACTS)
        weights[keep] = load_file(tmp_path / keep / "classifier.safetensors")
    assert weights["last"].keys() == weights["ema"].keys()
    last, ema = weights["last"], weights["ema"]
    moved = [name for name in last if not torch.equal(last[name], ema[name])]
    assert any("running_mean" in name for name in moved)
    assert any(name.endswith("head.weight") for name in moved)


def test_the_logged_mean_is_that_of_the_metrics(
    tmp_path: Path,
    view_source: ImageMaskDataset,
    tiny_config: Build,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = with_validation(view_source, [1, 30])
    run = Validation(source, tiny_config("simclr"), tmp_path, monkeypatch)
    row = {"epoch": 0.0}
    scores = np.random.default_rng(0).random(source.labels.shape).astype(np.float32)
    run.scores.append(scores)
    run.callback(run.task, row)
    listed = np.arange(len(source.label_set)) == 1
    assert row["val_mean_auc"] == mean_auc(source.labels, scores, listed)
