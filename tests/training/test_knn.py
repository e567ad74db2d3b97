"""The k-NN probe watches pretraining and changes nothing in it."""

from __future__ import annotations

import csv
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
from medsgssl.training import knn as probe
from medsgssl.training.knn import KNNProbe
from medsgssl.training.pretraining import pretrain

FACTS = {"key": "k", "method": "mask-channel", "encoder": "test_efficientnet"}


def column(path: Path, name: str) -> list[str]:
    with path.open() as stream:
        return [row.get(name, "") for row in csv.DictReader(stream)]


def test_a_run_with_probes_ends_with_the_weights_of_one_without(
    tmp_path: Path, view_source: ImageMaskDataset, tiny_config: Callable[..., Config]
) -> None:
    weights = {}
    for every in (0, 2):
        folder = tmp_path / str(every)
        config = tiny_config("mask-channel", pretrain__epochs=3, pretrain__probe_every=every)
        pretrain(config, view_source, folder, FACTS)
        weights[every] = load_file(folder / "pretrained.safetensors")
        seen = [bool(value) for value in column(folder / "pretrain_log.csv", "probe_mean_auc")]
        # After every second epoch, and after the last one.
        assert seen == ([False, True, True] if every else [False] * 3)
    assert all(torch.equal(weights[0][name], weights[2][name]) for name in weights[0])


def test_features_that_tell_the_diseases_apart_score_one(
    view_source: ImageMaskDataset,
    tiny_config: Callable[..., Config],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = np.random.default_rng(0)
    labels = (rng.random((20, 14)) < 0.5).astype(np.float32)
    labels[10:15] = labels[:5]  # every validation image has a twin among the training images
    source = replace(view_source, labels=labels)

    def perfect(*arguments: Any) -> np.ndarray:
        rows = arguments[-1]
        return np.concatenate([labels[rows], np.full((len(rows), 1), 0.1, np.float32)], axis=1)

    monkeypatch.setattr(probe, "run_inference", perfect)
    config = tiny_config("simclr", finetune__neighbors=1)
    assert KNNProbe(Fabric(accelerator="cpu"), config, source).mean_auc(None) == 1.0  # type: ignore[arg-type]


def test_no_more_training_images_are_read_than_asked_for(
    view_source: ImageMaskDataset,
    tiny_config: Callable[..., Config],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    read: list[np.ndarray] = []

    def features(*arguments: Any) -> np.ndarray:
        read.append(arguments[-1])
        return np.ones((len(arguments[-1]), 3), np.float32)

    monkeypatch.setattr(probe, "run_inference", features)
    config = tiny_config("simclr", pretrain__probe_images=4)
    KNNProbe(Fabric(accelerator="cpu"), config, view_source).mean_auc(None)  # type: ignore[arg-type]
    (rows,) = read
    assert len(rows) == 4 + len(view_source.rows("val"))
    assert set(rows) <= {*view_source.rows("train"), *view_source.rows("val")}
