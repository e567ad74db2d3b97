"""Trackers: names by stage, one lasting record per run, and a clear word where one is missing."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from medsgssl.config.schema import Config
from medsgssl.data.dataset import ImageMaskDataset
from medsgssl.errors import ConfigError
from medsgssl.training.finetuning import finetune
from medsgssl.training.pretraining import pretrain
from medsgssl.training.trackers import (
    MlflowTracker,
    WandbTracker,
    check_trackers,
    log_table,
)
from medsgssl.utils.io import read_json

Build = Callable[..., Config]
FACTS = {
    "key": "k",
    "method": "simclr",
    "encoder": "test_efficientnet",
    "diseases": ["Effusion", "Mass of the lung", "Hernia", "Nodule"],
}


def test_mlflow_keeps_one_record_of_both_stages_and_of_a_resumed_run(
    tmp_path: Path,
    view_source: ImageMaskDataset,
    tiny_config: Build,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlruns").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    config = tiny_config("simclr", tracking__loggers=["mlflow"], pretrain__probe_every=1)
    run = tmp_path / "run"
    pretrain(config, view_source, run, FACTS)
    finetune(config, view_source, run, FACTS)
    number = read_json(run / "trackers.json")["mlflow"]
    client = mlflow.MlflowClient(tracking_uri=(tmp_path / "mlruns").as_uri())
    found = client.get_run(number)
    assert {"pretrain/loss", "finetune/loss"} <= set(found.data.metrics)
    assert len(client.get_metric_history(number, "pretrain/loss")) == config.pretrain.epochs
    assert found.data.params["method_name"] == "simclr"
    # A process that resumes the run finds the same record.
    again = MlflowTracker(config, run)
    again.log_metrics({"finetune/loss": 0.5}, step=99)
    assert len(client.get_metric_history(number, "finetune/loss")) == config.finetune.epochs + 1
    assert len(client.search_runs([found.info.experiment_id])) == 1


def test_wandb_works_offline_and_continues_its_record(
    tmp_path: Path, tiny_config: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    config = tiny_config("simclr", tracking__loggers=["wandb"])
    (tmp_path / "run" / "logs").mkdir(parents=True)
    numbers = []
    for step in (1, 2):
        tracker = WandbTracker(config, tmp_path / "run")
        tracker.log_metrics({"pretrain/loss": 1.0}, step=step)
        tracker.log_metrics({"finetune/loss": 1.0}, step=step)
        tracker.log_picture("pretrain/views", np.zeros((8, 8, 3), np.uint8), step)
        numbers.append(tracker.experiment.id)
        tracker.experiment.finish()
    assert numbers[0] == numbers[1] == read_json(tmp_path / "run" / "trackers.json")["wandb"]
    assert list((tmp_path / "run" / "logs" / "wandb").glob("offline-run-*"))


def test_a_study_keeps_one_record_of_its_table(
    tmp_path: Path, tiny_config: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlruns").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    config = tiny_config("simclr", tracking__loggers=["mlflow"])
    study = tmp_path / "study"
    study.mkdir()
    for verdict in ("undecided", "helps"):
        rows = [["guided-crop", verdict], ["multi-region", "undecided"]]
        log_table(config, study, "verdicts", ["arm", "verdict"], rows)
    number = read_json(study / "trackers.json")["mlflow"]
    (file,) = (tmp_path / "mlruns").rglob("verdicts.json")
    assert number in file.parts
    assert json.loads(file.read_text()) == {
        "arm": ["guided-crop", "multi-region"],
        "verdict": ["helps", "undecided"],
    }


def test_a_table_goes_to_wandb(
    tmp_path: Path, tiny_config: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    config = tiny_config("simclr", tracking__loggers=["wandb"])
    log_table(config, tmp_path / "study", "verdicts", ["arm", "verdict"], [["direct", "hurts"]])
    files = list((tmp_path / "study").rglob("*.table.json"))
    assert any(["direct", "hurts"] in json.loads(file.read_text())["data"] for file in files)


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_a_missing_package_is_named_before_any_work(
    tiny_config: Build, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ConfigError, match=rf"pip install medsgssl\[{name}\]"):
        check_trackers(tiny_config("simclr", tracking__loggers=[name]))
