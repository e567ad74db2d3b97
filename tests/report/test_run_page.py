from __future__ import annotations

import base64
import hashlib
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from medsgssl.data.labels import DISEASES
from medsgssl.errors import ConfigError, DataError
from medsgssl.report import run_page as run_report
from medsgssl.report.charts import Chart
from medsgssl.report.run_page import write_report
from medsgssl.runs.folder import RunFolder
from medsgssl.runs.stage_files import KeptEpoch
from medsgssl.utils.formatting import count, format_interval, number
from medsgssl.utils.io import read_json, write_json
from tests.report.page_reader import Page
from tests.report.synthetic import RARE, UNDEFINED, write_logs, write_run

ATTACK = "<script>alert('x')</script>"


def test_page_is_well_formed_and_holds_every_disease(page: Page) -> None:
    assert not page.unclosed
    for name in DISEASES:
        assert name.replace("_", " ") in page.rows


def test_table_shows_the_numbers_of_metrics_json(finished: RunFolder, page: Page) -> None:
    metrics = read_json(finished.metrics)
    for name, found in metrics["per_disease"].items():
        if name == UNDEFINED:
            continue
        ap = number(found["ap"])
        if found["ap_interval"]:
            ap += f" ({format_interval(found['ap_interval'])})"
        cells = page.rows[name.replace("_", " ")]
        assert cells[0] == count(found["positives"])
        assert cells[1].startswith(number(found["auc"]))
        assert not found["auc_interval"] or format_interval(found["auc_interval"]) in cells[1]
        assert cells[2] == ap
        keys = ("threshold", "f1", "precision", "recall", "specificity", "ece", "ece_calibrated")
        assert cells[3:10] == [number(found[key]) for key in keys]
    mean = page.rows[f"Mean of {len(metrics['diseases_in_mean'])}"]
    assert mean[1].startswith(number(metrics["mean_auc"]))
    assert mean[2] == number(metrics["mean_ap"])


@pytest.mark.usefixtures("undrawn")
def test_a_metric_that_the_evaluation_adds_appears_by_itself(
    finished: RunFolder, tmp_path: Path
) -> None:
    run = _copy(finished, tmp_path)
    metrics = read_json(run.metrics)
    for disease in metrics["per_disease"].values():
        disease["net_benefit"] = 0.8642
    write_json(run.metrics, metrics)
    text = Page.read(write_report(run)).text
    assert "Net benefit" in text
    assert text.count("0.864") == len(DISEASES)


def test_numbers_inside_figures_are_not_shortened(finished: RunFolder, page: Page) -> None:
    found = read_json(finished.metrics)["per_disease"]["Edema"]
    assert f"{number(found['auc'])} ({format_interval(found['auc_interval'])})" in page.text


def test_the_first_number_is_of_diseases_with_enough_patients(
    finished: RunFolder, tmp_path: Path, page: Page, undrawn: None
) -> None:
    metrics = read_json(finished.metrics)
    often = metrics["diseases_in_mean_20"]
    assert 0 < len(often) < len(metrics["diseases_in_mean"])
    assert RARE not in often
    first = page.raw.split('<div class="big">')[1].split("</div>")[0]
    assert first == number(metrics["mean_auc_20"])
    everything = f"over all {len(metrics['diseases_in_mean'])}, the rare ones too: "
    assert everything + number(metrics["mean_auc"]) in page.text
    run = _copy(finished, tmp_path)
    metrics |= {"diseases_in_mean_20": [], "mean_auc_20": None, "mean_auc_20_interval": None}
    write_json(run.metrics, metrics)
    few = Page.read(write_report(run))
    assert '<div class="big">' not in few.raw
    assert "no disease has 20 test patients of either class" in few.text


def test_splits_are_counted(page: Page) -> None:
    assert "usable images 598 598 598" in page.text
    assert "Hernia 29 30 31" in page.text


def test_undefined_disease_is_said_to_be_so(page: Page) -> None:
    assert page.rows[UNDEFINED][:3] == ["0", "not defined (no positives)", number(None)]
    assert "0.500" not in page.rows[UNDEFINED]


def test_every_warning_is_shown_with_its_file(finished: RunFolder, page: Page) -> None:
    for path in (finished.data, finished.pretrain_warnings):
        found = read_json(path)
        for text in found["warnings"] if isinstance(found, dict) else found:
            assert f"{text} ({path.name})" in page.text
    box = page.text[page.text.index("Read this first") : page.text.index("from metrics.json")]
    warned = read_json(finished.metrics)["warnings"]
    for text in warned:
        name = text.partition(": ")[0]
        assert name.replace("_", " ") in box
    (undefined,) = (text for text in warned if text.startswith(UNDEFINED))
    assert f"{undefined} (metrics.json)" in box
    assert any(text.startswith(RARE) for text in warned)


@pytest.mark.usefixtures("undrawn")
def test_like_warnings_are_told_as_one(finished: RunFolder, tmp_path: Path) -> None:
    run = _copy(finished, tmp_path)
    write_json(run.pretrain_warnings, [f"epoch {n}: std {n + 3} of 1" for n in range(50)])
    metrics = read_json(run.metrics)
    few = [f"{name}: only {n} positives in test" for n, name in enumerate(DISEASES[:3])]
    metrics["warnings"] = [*few, "mean AUC: no interval"]
    write_json(run.metrics, metrics)
    text = Page.read(write_report(run)).text
    assert "epoch 0 to 49: std 3 to 52 of 1" in text
    assert "Atelectasis, Cardiomegaly, Effusion: only 0, 1, 2 positives in test" in text
    assert "mean AUC: no interval (metrics.json)" in text


def test_page_fetches_nothing(page: Page) -> None:
    assert "http" not in page.raw.replace("http-equiv", "")
    for _, attributes in page.tags:
        for name in ("src", "href", "xlink:href"):
            assert attributes.get(name, "#").startswith(("#", "data:image/png;base64,"))
    assert not page.all("link")
    assert "@import" not in page.raw
    policy = next(tag for tag in page.all("meta") if "http-equiv" in tag)
    assert policy["content"].startswith("default-src 'none'")


def test_the_page_allows_its_own_script_alone(page: Page) -> None:
    (script,) = re.findall(r"<script>(.*?)</script>", page.raw, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in page.raw
    assert not any(name.startswith("on") for _, found in page.tags for name in found)


def test_ids_are_unique_and_every_reference_is_met(page: Page) -> None:
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    used = set(re.findall(r"url\(#([^)]+)\)", page.raw))
    used |= {
        attributes[name].removeprefix("#")
        for _, attributes in page.tags
        for name in ("href", "xlink:href")
        if name in attributes
    }
    assert used
    assert used <= set(ids)


def test_figures_follow_the_theme_and_can_be_heard(page: Page) -> None:
    drawings = [tag for tag in page.all("svg") if "aria-hidden" not in tag]
    assert len(drawings) > 30
    assert all(tag["role"] == "img" and tag["aria-label"] for tag in drawings)
    figures = re.findall(r"<svg viewBox[^>]+role=\"img\".*?</svg>", page.raw, re.DOTALL)
    for figure in figures:
        assert not re.search(r"#[0-9a-f]{6}\b", figure)
        assert "var(--first)" in figure
    assert all(tag["alt"] for tag in page.all("img"))


def test_page_is_small(finished: RunFolder) -> None:
    assert finished.report.stat().st_size < 1_000_000


def test_same_files_give_the_same_page(finished: RunFolder) -> None:
    before = finished.report.read_bytes()
    assert write_report(finished).read_bytes() == before


def test_run_that_has_just_begun_says_what_is_to_come(bare: RunFolder) -> None:
    text = Page.read(write_report(bare)).text
    for name, stage in (
        ("metrics.json", "evaluate"),
        ("predictions.parquet", "predict"),
        ("pretrain_log.csv", "pretrain"),
        ("finetune_log.csv", "finetune"),
        ("examples.npz", "data"),
        ("split.parquet", "data"),
        ("data.json", "data"),
    ):
        assert f"{name} is not there yet: the stage “{stage}” has not run." in text


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize(
    "missing",
    ["metrics", "predictions", "examples", "data", "split", "pretrain_log", "finetune_log",
     "stages", "environment", "pretrain_warnings"],
)  # fmt: skip
def test_any_file_may_be_missing(finished: RunFolder, tmp_path: Path, missing: str) -> None:
    run = _copy(finished, tmp_path)
    path: Path = getattr(run, missing)
    path.unlink()
    page = Page.read(write_report(run))
    assert not page.unclosed
    if missing != "pretrain_warnings":
        assert path.name in page.text


@pytest.mark.usefixtures("undrawn")
def test_run_without_pretraining_says_so(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", no_pretrain=True)
    page = Page.read(write_report(run))
    assert "simclr without pretraining" in page.text
    assert "This run has no pretraining" in page.text
    assert "pretraining view" not in page.text


@pytest.mark.usefixtures("undrawn")
def test_weights_of_another_run_are_said_to_be_so(finished: RunFolder, tmp_path: Path) -> None:
    run = _copy(finished, tmp_path)
    run.pretrain_log.unlink()
    assert "weights come from another run" in Page.read(write_report(run)).text


def test_texts_cannot_become_markup(finished: RunFolder, tmp_path: Path) -> None:
    run = _copy(finished, tmp_path)
    run.config.write_text(run.config.read_text() + f'extra: "{ATTACK}"\n')
    write_json(run.pretrain_warnings, [ATTACK])
    write_json(run.environment, {ATTACK: ATTACK})
    data = read_json(run.data)
    data["catalog"] |= {"source": ATTACK, ATTACK: {"a": {ATTACK: 1}}}
    write_json(run.data, data)
    arrays = dict(np.load(run.examples))
    arrays["image_ids"] = np.array([ATTACK] * 2)
    np.savez(run.examples, **arrays)
    log = pd.read_csv(run.pretrain_log)
    log[ATTACK] = 1.0
    log.to_csv(run.pretrain_log, index=False)
    page = Page.read(write_report(run))
    assert len(page.all("script")) == 1
    assert ATTACK not in page.raw
    assert page.text.count(ATTACK) >= 6


def test_chart_of_a_log_names_floor_and_best_epoch(finished: RunFolder, page: Page) -> None:
    labels = [tag.get("aria-label", "") for tag in page.all("svg")]
    assert any(label.startswith("contrast over 12 epochs") for label in labels)
    assert any("floor 1.720" in label for label in labels)
    best = pd.read_csv(finished.finetune_log)["val_mean_auc"]
    assert any(f"kept {best.max():.3f} of epoch {best.idxmax() + 1}" in label for label in labels)


def test_one_epoch_is_enough(finished: RunFolder, tmp_path: Path) -> None:
    run = _copy(finished, tmp_path)
    write_logs(run, 1, no_pretrain=False)
    assert not Page.read(write_report(run)).unclosed


@pytest.mark.usefixtures("undrawn")
def test_figures_as_files_are_those_of_the_page(
    finished: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = _copy(finished, tmp_path)
    run.finetune_log.unlink()
    written: dict[str, int] = {}

    def write(charts: list[Chart], folder: Path, name: str, columns: int) -> None:
        assert folder == run.path / "figures"
        written[name] = len(charts)

    monkeypatch.setattr(run_report, "write_figure", write)
    write_report(run, figures=True)
    defined = len(DISEASES) - 1
    per_disease = read_json(run.metrics)["per_disease"].values()
    borne = sum(disease["positives"] >= 20 for disease in per_disease)
    assert written == {
        "forest": 1, "roc": defined, "precision-recall": defined, "calibration": borne,
        "pretrain": 6,
    }  # fmt: skip


@pytest.mark.usefixtures("undrawn")
def test_damaged_files_are_named(finished: RunFolder, tmp_path: Path) -> None:
    for name in ("metrics", "examples", "pretrain_log", "split", "predictions"):
        run = _copy(finished, tmp_path / name)
        path: Path = getattr(run, name)
        path.write_bytes(b"\x00 no such file")
        with pytest.raises(DataError, match=path.name):
            write_report(run)


def test_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds no run"):
        write_report(RunFolder(tmp_path))


def _copy(run: RunFolder, place: Path) -> RunFolder:
    shutil.copytree(run.path, place / "run")
    return RunFolder(place / "run")


def test_the_kept_epoch_and_its_noise_are_said(finished: RunFolder, tmp_path: Path) -> None:
    run = _copy(finished, tmp_path)
    aucs = pd.read_csv(run.finetune_log)["val_mean_auc"]
    kept: KeptEpoch = {
        "keep": "last",
        "reason": "finetune.keep=auto: the last epoch is kept",
        "epoch": 11,
        "classes": ["Effusion", "Mass"],
        "epochs": [
            {"epoch": epoch, "val_mean_auc": auc, "standard_error": 0.0123}
            for epoch, auc in enumerate(aucs)
        ],
        "within_noise": [9, 10, 11],
    }
    write_json(run.kept_epoch, kept)
    page = Page.read(write_report(run))
    labels = [tag.get("aria-label", "") for tag in page.all("svg")]
    assert any(f"kept {aucs.iloc[11]:.3f} of epoch 12" in label for label in labels)
    assert kept["reason"] in page.text
    assert "of at most 0.012" in page.text
    assert "does not separate 10, 11 from epoch 12" in page.text
