"""A data set with three classes of its own, from a plain CSV to the report, on other weights."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from typer.testing import CliRunner

from medsgssl.api import run as run_method
from medsgssl.cli.app import app
from medsgssl.config.schema import Config
from medsgssl.evaluation.predictions import Predictions
from medsgssl.models.weights import read_header

CLASSES = ("Pleural effusion", "Tube", "Opacity of the lung")
UNKNOWN = 9


def own_set(root: Path) -> Path:
    """Write 90 images of 45 patients; a bright square in a place of its own shows each class."""
    rng = np.random.default_rng(0)
    lines = [",".join(("image", "patient", *CLASSES))]
    for number in range(90):
        pixels = rng.integers(0, 120, (48, 48)).astype(np.uint8)
        labels = rng.random(3) < 0.4
        for place in np.flatnonzero(labels):
            pixels[8:20, 4 + 14 * place : 16 + 14 * place] += 120
        name = f"scan {number}.png"
        (root / "pictures").mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(root / "pictures" / name), pixels)
        cells = [str(int(value)) for value in labels]
        if number < UNKNOWN:
            cells[1] = ("", "-1", "uncertain")[number % 3]
        lines.append(",".join((name, f"patient {number // 2}", *cells)))
    (root / "labels.csv").write_text("\n".join(lines) + "\n")
    return root


def test_own_classes_go_from_a_table_to_the_report_of_a_study(tmp_path: Path) -> None:
    done = CliRunner().invoke(
        app,
        ["study", "run", "--data", str(own_set(tmp_path / "own")), "--out", str(tmp_path / "study"),
         "--methods", "guided-crop", "--seeds", "1", "--split", "random", "--mask-source", "none",
         "--set", "data.labels=labels.csv", "--set", f"data.cache_dir={tmp_path / 'cache'}",
         "--set", "data.img_size=32", "--set", "data.batch_size=16", "--set", "data.num_workers=0",
         "--set", "encoder.name=test_efficientnet", "--set", "encoder.pretrained=false",
         "--set", "pretrain.epochs=1", "--set", "finetune.epochs=1",
         "--set", "evaluate.bootstrap=20"],
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    study = tmp_path / "study"
    runs = {path.parent.name: json.loads(path.read_text())
            for path in (study / "runs").glob("*/metrics.json")}  # fmt: skip
    assert {name.split("-s0")[0] for name in runs} >= {"guided-crop"}
    assert len(runs) == 2
    assert all(tuple(metrics["per_disease"]) == CLASSES for metrics in runs.values())
    for name in runs:
        summary = json.loads((study / "runs" / name / "data.json").read_text())
        assert summary["masks"]["source"] == "none"
        assert summary["catalog"]["split"]["kind"] == "random"
    page = (study / "report" / "report.html").read_text()
    assert all(name in page for name in CLASSES)
    assert len(pd.read_csv(study / "report" / "means.csv")) == 2


def test_own_classes_go_from_a_table_to_the_report_on_weights_of_another_data_set(
    tmp_path: Path, small_run: Callable[..., Config]
) -> None:
    first = run_method(small_run("simclr"), tmp_path / "first", until="pretrain")
    data = {
        "root": str(own_set(tmp_path / "own")),
        "cache_dir": str(tmp_path / "cache"),
        "labels": "labels.csv",
        "split": "random",
    }
    config = small_run("simclr", data=data)
    run = run_method(config, tmp_path / "run", pretrained=first.pretrained)
    metrics = json.loads(run.metrics.read_text())
    assert tuple(metrics["per_disease"]) == CLASSES
    assert 0 <= metrics["mean_auc"] <= 1
    assert read_header(run.classifier)["diseases"] == list(CLASSES)
    predictions = Predictions.read(run.predictions)
    assert predictions.names == CLASSES
    summary = json.loads(run.data.read_text())["catalog"]
    assert summary["classes"] == list(CLASSES)
    assert summary["unknown_labels"] == {"Tube": UNKNOWN}
    assert summary["patients"]["patients"] == 45
    unknown = {name: values["unknown"] for name, values in metrics["per_disease"].items()}
    test = predictions.split("test")
    assert unknown == dict(zip(CLASSES, test.unknown().tolist(), strict=True))
    known = metrics["per_disease"]["Tube"]
    assert known["positives"] + known["negatives"] + known["unknown"] == metrics["images"]
    page = (run.path / "report.html").read_text()
    assert all(name in page for name in CLASSES)
    table = pd.read_parquet(run.predictions)
    assert table[[f"score_{name}" for name in CLASSES]].notna().all(axis=None)
