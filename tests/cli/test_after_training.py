"""`predict`, `embed` and `export` as a user types them."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner, Result

from medsgssl.cli.app import app
from medsgssl.cli.run import show_result
from medsgssl.runs.metrics_file import read_metrics
from tests.conftest import TrainedRun


def _invoke(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


def test_predict_writes_one_row_per_file(
    trained_run: TrainedRun, phantom_set: Path, tmp_path: Path
) -> None:
    run = trained_run("guided-crop").path
    folder = tmp_path / "films"
    folder.mkdir()
    for source in sorted((phantom_set / "images").glob("*.png"))[:3]:
        (folder / source.name).write_bytes(source.read_bytes())
    out = tmp_path / "scores.csv"
    done = _invoke("predict", run, folder, "--out", out, "--overlays", tmp_path / "overlays")
    assert done.exit_code == 0, done.output
    assert "3 of 3 files scored" in done.output
    assert "research use only" in done.output
    table = pd.read_csv(out)
    assert len(table) == len(list((tmp_path / "overlays").glob("*.png"))) == 3
    (folder / "broken.png").write_bytes(b"no image")
    (folder / "notes.txt").write_text("no film")
    done = _invoke("predict", run, folder, "--out", out)
    assert done.exit_code == 1
    assert done.output.count("broken.png") == 1
    assert f"not read below {folder}: 1 .txt" in " ".join(done.output.split())
    # Five significant digits, as in predictions.parquet.
    scores = pd.read_csv(out, dtype=str).filter(like="_score").dropna().to_numpy().ravel()
    assert all(len(value.lstrip("0.")) <= 5 for value in scores if "e" not in value)
    assert len(pd.read_csv(out)) == 4
    assert list(pd.read_csv(out)["status"]).count("unreadable") == 1


def test_a_result_without_an_interval_says_why(
    trained_run: TrainedRun, capsys: pytest.CaptureFixture[str]
) -> None:
    run = trained_run("simclr")
    metrics = read_metrics(run.metrics)
    assert metrics is not None
    show_result(run)
    few = "(too few patients for an interval)" in capsys.readouterr().out
    assert few == (metrics["mean_auc_interval"] is None)


def test_embed_writes_features(trained_run: TrainedRun, phantom_set: Path, tmp_path: Path) -> None:
    run = trained_run("simclr").path
    files = sorted((phantom_set / "images").glob("*.png"))[:2]
    done = _invoke("embed", run, *files, "--out", tmp_path / "features.parquet")
    assert done.exit_code == 0, done.output
    table = pd.read_parquet(tmp_path / "features.parquet")
    assert table["file"].tolist() == [str(file) for file in files]
    assert table.drop(columns="file").to_numpy().shape[1] > 10


def test_export_prints_the_difference_and_how_to_load(
    trained_run: TrainedRun, tmp_path: Path
) -> None:
    run = trained_run("simclr").path
    done = _invoke("export", run, "--to", "timm", "--out", tmp_path / "encoder")
    assert done.exit_code == 0, done.output
    assert "Largest difference on 6 images of the run: " in done.output
    assert "timm.create_model(" in done.output
    assert _invoke("export", run, "--to", "keras", "--out", tmp_path / "x").exit_code != 0
