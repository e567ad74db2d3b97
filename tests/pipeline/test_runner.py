"""One command from a data folder to a report; complete stages are skipped, others go on."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from medsgssl.api import run as run_method
from medsgssl.config.loading import to_yaml
from medsgssl.config.schema import Config
from medsgssl.data.labels import DISEASES
from medsgssl.errors import CheckpointError, ConfigError
from medsgssl.pipeline.runner import evaluate_run
from medsgssl.runs.folder import RunFolder

Build = Callable[..., Config]

EVERY_FILE = {
    "config.yaml",
    "environment.json",
    "stages.json",
    "data.json",
    "split.parquet",
    "examples.npz",
    "logs",
    "pretrain_log.csv",
    "pretrain_warnings.json",
    "pretrained.safetensors",
    "pretrained_on.parquet",
    "finetune_log.csv",
    "kept_epoch.json",
    "classifier.safetensors",
    "predictions.parquet",
    "metrics.json",
    "report.html",
}


def metrics_of(run: RunFolder) -> dict:
    return json.loads(run.metrics.read_text())


def test_a_run_leaves_exactly_the_files_it_promises(tmp_path: Path, small_run: Build) -> None:
    run = run_method(small_run("masked-contrastive"), tmp_path / "run")
    visible = {path.name for path in run.path.iterdir() if not path.name.startswith(".")}
    assert visible == EVERY_FILE
    metrics = metrics_of(run)
    assert list(metrics["per_disease"]) == list(DISEASES)
    assert 0 < metrics["mean_auc"] < 1
    predictions = pd.read_parquet(run.predictions)
    assert set(predictions["split"]) == {"val", "test"}
    # What others may be given describes no machine.
    place = str(tmp_path).encode()
    shared = (run.report, run.pretrained, run.classifier, run.data, run.metrics, run.environment)
    assert not [path.name for path in shared if place in path.read_bytes()]
    split = pd.read_parquet(run.split)
    assert set(split["split"]) == {"train", "val", "test"}
    assert not split.drop_duplicates(["patient_id", "split"])["patient_id"].duplicated().any()


def test_the_audit_tells_mask_quality_and_how_many_labels_are_used(
    tmp_path: Path, small_run: Build
) -> None:
    config = small_run("mask-channel", data={"label_fraction": 0.5})
    run = run_method(config, tmp_path / "run", until="data")
    written = json.loads(run.data.read_text())
    split = pd.read_parquet(run.split)
    patients = split.loc[split["split"] == "train", "patient_id"].nunique()
    assert written["labels_used"]["patients"] == max(1, round(0.5 * patients))
    assert written["labels_used"]["images"] >= written["labels_used"]["patients"]
    usable = len(split) - written["masks"]["whole_image_instead"]
    assert sum(written["masks"]["quality_of_usable"].values()) == usable


def test_images_that_are_not_used_are_all_listed_in_a_file(
    tmp_path: Path, small_run: Build, phantom_set: Path
) -> None:
    root = tmp_path / "data"
    shutil.copytree(phantom_set, root)
    images = sorted((root / "images").glob("*.png"))
    for path in images[:5]:
        path.write_bytes(path.read_bytes()[:200])
    config = small_run("simclr", data={"root": str(root)})
    run = run_method(config, tmp_path / "run", until="data")
    listed = pd.read_csv(run.set_aside)
    assert listed["image_id"].tolist() == [path.name for path in images[:5]]
    assert (listed["data_set"] == "data").all()
    assert listed["reason"].str.len().min() > 0
    warnings = json.loads(run.data.read_text())["warnings"]
    total = len(pd.read_parquet(run.split))
    assert f"5 of {total} images are not used: {run.set_aside.name} lists all of them" in warnings


def test_a_complete_run_is_left_as_it_is(tmp_path: Path, small_run: Build) -> None:
    config = small_run("simclr", no_pretrain=True)
    run = run_method(config, tmp_path / "run")
    before = {p: p.stat().st_mtime_ns for p in (run.classifier, run.predictions, run.metrics)}
    run_method(config, tmp_path / "run")
    assert {p: p.stat().st_mtime_ns for p in before} == before


def test_a_direct_twin_has_no_pretraining_but_the_same_classifier(
    tmp_path: Path, small_run: Build
) -> None:
    twin = run_method(small_run("masked-contrastive", no_pretrain=True), tmp_path / "twin")
    guided = run_method(small_run("masked-contrastive"), tmp_path / "guided")
    assert not twin.pretrained.exists()
    assert load_file(twin.classifier).keys() == load_file(guided.classifier).keys()


def test_a_folder_of_another_configuration_is_refused_and_names_what_differs(
    tmp_path: Path, small_run: Build
) -> None:
    run_method(small_run("simclr"), tmp_path / "run", until="pretrain")
    changed = small_run("simclr", finetune={"epochs": 3})
    with pytest.raises(ConfigError, match=r"finetune\.epochs: 2 -> 3"):
        run_method(changed, tmp_path / "run")


def test_settings_without_effect_on_the_result_may_change(tmp_path: Path, small_run: Build) -> None:
    run_method(small_run("simclr"), tmp_path / "run", until="data")
    run_method(small_run("simclr", data={"num_workers": 1}), tmp_path / "run", until="data")


def test_metrics_are_recomputed_from_the_predictions_alone(
    tmp_path: Path, small_run: Build
) -> None:
    config = small_run("direct")
    run = run_method(config, tmp_path / "run")
    before = metrics_of(run)
    for file in (run.classifier, run.metrics, run.split):
        file.unlink()
    assert evaluate_run(run, config) == before


def test_fine_tuning_starts_from_another_runs_encoder_of_the_same_method_only(
    tmp_path: Path, small_run: Build
) -> None:
    first = run_method(small_run("simclr"), tmp_path / "first", until="pretrain")
    # The backbone's own first weights are neither needed nor looked for.
    gone = {"pretrained": True, "weights": str(tmp_path / "gone.safetensors")}
    tenth = small_run("simclr", data={"label_fraction": 0.5}, encoder=gone)
    second = run_method(tenth, tmp_path / "second", pretrained=first.pretrained)
    assert first.pretrained.read_bytes() == second.pretrained.read_bytes()
    assert not second.pretrain_log.exists()
    with pytest.raises(CheckpointError, match=r"method='simclr'.*'masked-contrastive'"):
        run_method(small_run("masked-contrastive"), tmp_path / "third", pretrained=first.pretrained)


@pytest.mark.parametrize("source", ["none", "shuffled", "random-blob", "mean-template"])
def test_every_mask_control_runs(tmp_path: Path, small_run: Build, source: str) -> None:
    config = small_run("masked-contrastive", masks={"source": source})
    run = run_method(config, tmp_path / source, until="pretrain")
    assert json.loads(run.data.read_text())["masks"]["source"] == source


def test_a_users_own_masks_take_the_place_of_the_rules(
    tmp_path: Path, small_run: Build, phantom_set: Path
) -> None:
    config = small_run("masked-contrastive", masks={"source": str(phantom_set / "lung_masks")})
    run = run_method(config, tmp_path / "own", until="pretrain")
    assert json.loads(run.data.read_text())["masks"]["counts"].get("failed", 0) == 0


def test_without_epochs_pretraining_prepares_the_data_and_ends(
    tmp_path: Path, small_run: Build
) -> None:
    config = small_run("masked-contrastive", pretrain={"epochs": 0})
    run = run_method(config, tmp_path / "run", until="pretrain")
    assert run.key_of("data") is not None
    assert run.key_of("pretrain") is None
    assert not run.pretrained.exists()
    with pytest.raises(ConfigError, match=r"pretrain\.epochs=0"):
        run_method(config, tmp_path / "run")
    trained = run_method(small_run("masked-contrastive"), tmp_path / "run", until="pretrain")
    assert trained.pretrained.is_file()


def test_a_run_folder_of_before_a_setting_was_added_goes_on(
    tmp_path: Path, small_run: Build
) -> None:
    config = small_run("simclr")
    run = run_method(config, tmp_path / "run", until="pretrain")
    added = ("  render: cpu\n", "  compile: false\n")
    text = run.config.read_text()
    for line in added:
        assert line in text
        text = text.replace(line, "")
    run.config.write_text(text)
    before = run.pretrained.stat().st_mtime_ns
    run_method(config, tmp_path / "run", until="pretrain")
    assert run.pretrained.stat().st_mtime_ns == before
    with pytest.raises(ConfigError, match=r"data\.render"):
        run_method(small_run("simclr", data={"render": "device"}), tmp_path / "run")


def test_a_killed_process_goes_on_to_the_same_weights(tmp_path: Path, small_run: Build) -> None:
    config = small_run("simclr", pretrain={"epochs": 12, "checkpoint_minutes": 0})
    file = tmp_path / "config.yaml"
    file.write_text(to_yaml(config))
    whole, cut = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "cut")
    # Sums depend on the number of threads: every process is given the same.
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}

    def start(run: RunFolder) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "medsgssl", "pretrain", "simclr"]
        command += ["--config", str(file), "--out", str(run.path)]
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment)

    assert start(whole).wait(180) == 0
    process = start(cut)
    checkpoint = cut.path / "pretrain.checkpoint"
    deadline = time.monotonic() + 120
    while not checkpoint.is_file() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert checkpoint.is_file(), "the process was to be killed in the middle of pretraining"
    assert not cut.pretrained.exists()
    assert start(cut).wait(180) == 0
    a, b = load_file(whole.pretrained), load_file(cut.pretrained)
    assert all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.real
def test_two_hundred_real_images_from_masks_to_report(
    tmp_path: Path, small_run: Build, real_data: Path
) -> None:
    root = tmp_path / "nih"
    (root / "images").mkdir(parents=True)
    table = pd.read_csv(real_data / "nih128" / "Data_Entry_2017.csv")
    patients = table["Patient ID"].unique()[:60]
    some = table[table["Patient ID"].isin(patients)].head(200)
    some.to_csv(root / "Data_Entry_2017.csv", index=False)
    for name in some["Image Index"]:
        (root / "images" / name).symlink_to(real_data / "nih128" / "images" / name)
    config = small_run(
        "masked-contrastive",
        data={"root": str(root), "split": "random", "cache_dir": str(tmp_path / "cache")},
    )
    run = run_method(config, tmp_path / "run")
    assert metrics_of(run)["mean_auc"] is not None
    counts = json.loads(run.data.read_text())["masks"]["counts"]
    assert sum(counts.values()) == len(some)
    assert counts.get("failed", 0) < 0.5 * len(some)
