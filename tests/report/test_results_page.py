"""The page of results: numbers from files, commands that give the same configuration."""

from __future__ import annotations

import itertools
import shlex
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from medsgssl.cli.app import app
from medsgssl.cli.options import resolve
from medsgssl.config.loading import dump
from medsgssl.report.results_page import command, write_results
from medsgssl.runs.folder import WITHOUT_EFFECT, RunFolder, flatten
from medsgssl.study.analysis import analyze
from medsgssl.study.collect import collect
from medsgssl.study.planning import make_plan
from tests.study.synthetic import write_run

SETTINGS = {
    "encoder": {"pretrained": False},
    "data": {"img_size": 64},
    "pretrain": {"epochs": 3, "lr": 3e-3},
    "finetune": {"warmup_epochs": 1},
}
SECONDS = {"simclr": [30.0, 20.0], "guided-crop": [50.0, 60.0]}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three methods and one twin; two pretraining logs."""
    folder = tmp_path_factory.mktemp("made") / "study"
    methods = ["direct", "simclr", "guided-crop", "masked-contrastive"]
    plan = make_plan(folder / "data", methods, seeds=1, baselines=True)
    plan.save(folder)
    skills = {"direct": 0.6, "simclr": 1.0, "guided-crop": 1.5, "masked-contrastive": 0.9}
    for name, skill in skills.items():
        no_pretrain = name == "direct"
        run = folder / "runs" / f"{name}-s0-f1"
        write_run(run, name, skill, seed=0, no_pretrain=no_pretrain, settings=SETTINGS)
    twin = folder / "runs" / "guided-crop-no_pretrain-s0-f1"
    write_run(twin, "guided-crop", 0.7, seed=0, no_pretrain=True, settings=SETTINGS)
    for name, seconds in SECONDS.items():
        log = RunFolder(folder / "runs" / f"{name}-s0-pretrain").pretrain_log
        log.parent.mkdir()
        pd.DataFrame({"epoch": [0, 1], "seconds": seconds}).to_csv(log, index=False)
    return folder


@pytest.fixture(scope="module")
def page(study: Path) -> str:
    path = study / "results.md"
    result = CliRunner().invoke(app, ["compare", "table", str(study), "--out", str(path)])
    assert result.exit_code == 0, result.output
    return path.read_text(encoding="utf-8")


def rows(page: str) -> dict[str, dict[str, str]]:
    cells = [line.strip("| ").split(" | ") for line in page.splitlines() if line.startswith("|")]
    return {line[0]: dict(zip(cells[0], line, strict=True)) for line in cells[2:]}


def test_means_are_those_of_the_analysis(page: str, study: Path) -> None:
    analysis = analyze([study])
    for arm in analysis.arms:
        found = analysis.means[arm.key].auc
        low, high = found.interval
        expected = f"{found.value:.3f} ({low:.3f} to {high:.3f})"
        assert rows(page)[arm.label]["mean AUC"] == expected


def test_gains_are_over_the_own_twin_or_over_direct_where_that_is_the_same(
    page: str, study: Path
) -> None:
    analysis, shown = analyze([study]), rows(page)
    means = {arm.label: analysis.means[arm.key].auc.value for arm in analysis.arms}
    for name, twin in (
        ("guided-crop", "guided-crop without pretraining"),
        ("masked-contrastive", "direct"),
        ("simclr", "direct"),
    ):
        label = next(arm for arm in means if arm.replace(",", "").startswith(twin))
        assert shown[name]["gain"].startswith(f"{means[name] - means[label]:+.3f} (")
        assert shown[name]["gain"].endswith("*"), "one seed on each side"
    assert shown["direct"]["gain"] == "-"


def test_cost_is_the_fastest_epoch_beside_that_of_the_control(page: str) -> None:
    shown = rows(page)
    assert (shown["simclr"]["s/epoch"], shown["simclr"]["cost"]) == ("20", "1.00")
    assert (shown["guided-crop"]["s/epoch"], shown["guided-crop"]["cost"]) == ("50", "2.50")
    assert shown["masked-contrastive"]["cost"] == "-"


def test_every_command_gives_the_configuration_of_its_run(study: Path) -> None:
    for run in collect([study]).runs:
        words = shlex.split(command(run))
        settings = [word for flag, word in itertools.pairwise(words) if flag == "--set"]
        again = flatten(
            dump(resolve(words[2], None, settings, no_pretrain="--no-pretrain" in words))
        )
        for key, value in run.settings.items():
            unused = run.settings["no_pretrain"] and key.startswith(
                ("pretrain.", "data.extra_roots")
            )
            if key not in WITHOUT_EFFECT and not unused:
                assert again[key] == value, key


def test_costs_can_be_measured_side_by_side(study: Path, tmp_path: Path, monkeypatch) -> None:
    taken = {"simclr": 2.0, "guided-crop": 5.0, "masked-contrastive": 3.0}
    monkeypatch.setattr(
        "medsgssl.report.results_page.seconds_per_image",
        lambda config, stage: taken[config.method_name],
    )
    path = write_results([study], tmp_path / "results.md", measure=True)
    shown = rows(path.read_text(encoding="utf-8"))
    assert {name: shown[name]["cost"] for name in taken} == {
        "simclr": "1.00", "guided-crop": "2.50", "masked-contrastive": "1.50",
    }  # fmt: skip


def test_a_cost_is_that_beside_the_control_with_the_same_backbone(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vit = {"encoder": {"name": "vit_tiny_patch16_224", "pretrained": False}}
    write_run(tmp_path / "other", "simclr", 1.0, seed=5, settings=SETTINGS | vit)
    taken = {"mobilenetv2_100": 1.0, "vit_tiny_patch16_224": 8.0}
    monkeypatch.setattr(
        "medsgssl.report.results_page.seconds_per_image",
        lambda config, stage: taken[config.encoder.name],
    )
    runs = [*(study / "runs").glob("*-f1"), tmp_path / "other"]
    path = write_results(runs, tmp_path / "results.md", measure=True)
    lines = [line.split(" | ") for line in path.read_text().splitlines() if "simclr |" in line]
    assert [(line[1], line[-1].rstrip(" |")) for line in lines] == [
        ("mobilenetv2_100", "1.00"), ("vit_tiny_patch16_224", "1.00"),
    ]  # fmt: skip
