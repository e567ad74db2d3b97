"""The page of results: numbers from files, commands that give the same configuration."""

from __future__ import annotations

import itertools
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from medsgssl.cli.app import app
from medsgssl.cli.options import RunOptions
from medsgssl.config.loading import dump, flatten
from medsgssl.report.results_page import command, write_results
from medsgssl.runs.folder import WITHOUT_EFFECT, RunFolder
from medsgssl.study.analysis import analyze
from medsgssl.study.collect import collect_runs
from medsgssl.study.plan_builder import make_plan
from medsgssl.utils.io import write_json
from tests.study.synthetic import write_run

SETTINGS = {
    "encoder": {"pretrained": False},
    "data": {"img_size": 64},
    "pretrain": {"epochs": 3, "lr": 3e-3},
    "finetune": {"warmup_epochs": 1},
}


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
    for name in skills:
        log = RunFolder(folder / "runs" / f"{name}-s0-pretrain").pretrain_log
        log.parent.mkdir()
        log.write_text("epoch,seconds\n0,30\n")
    return folder


@pytest.fixture(scope="module")
def page(study: Path) -> str:
    path = study / "results.md"
    result = CliRunner().invoke(app, ["study", "table", str(study), "--out", str(path)])
    assert result.exit_code == 0, result.output
    return path.read_text(encoding="utf-8")


def rows(page: str, section: str) -> dict[str, dict[str, str]]:
    """Read the first table of a section, by its first column."""
    text = page.split(f"## {section}\n")[1].split("\n## ", maxsplit=1)[0]
    cells = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("|")]
    return {line[0]: dict(zip(cells[0], line, strict=True)) for line in cells[2:]}


def test_means_are_those_of_the_analysis(page: str, study: Path) -> None:
    analysis = analyze([study])
    assert len(rows(page, "Every arm")) == len(analysis.arms)
    for arm in analysis.arms:
        found = analysis.means[arm.key].auc
        low, high = found.interval
        expected = f"{found.value:.3f} ({low:.3f}\N{EN DASH}{high:.3f})"
        assert rows(page, "Every arm")[arm.label]["mean AUC"] == expected


def test_every_verdict_is_a_sentence(page: str, study: Path) -> None:
    analysis = analyze([study])
    verdicts = [*analysis.verdicts, *analysis.baseline_verdicts]
    assert verdicts
    assert all(f"- **{one.sentence}**" in page for one in verdicts)


def test_epochs_of_a_baseline_are_those_of_fine_tuning_alone(page: str) -> None:
    shown = rows(page, "Every arm")
    assert shown["simclr"]["epochs"].startswith("3 + ")
    assert "+" not in shown["direct"]["epochs"]


def test_the_time_of_a_run_includes_its_pretraining(study: Path, tmp_path: Path) -> None:
    for name, seconds in (("simclr-s0-pretrain", 60.0), ("simclr-s0-f1", 3.0)):
        record = {"key": "k", "finished": "2026-01-01T00:00:00Z", "seconds": seconds}
        write_json(RunFolder(study / "runs" / name).stages, {"finetune": record})
    text = write_results([study], tmp_path / "results.md").read_text(encoding="utf-8")
    assert rows(text, "Every arm")["simclr"]["time of a run"] == "1 min 3 s"


def test_every_command_gives_the_configuration_of_its_run(study: Path) -> None:
    for run in collect_runs([study]).runs:
        words = shlex.split(command(run))
        settings = [word for flag, word in itertools.pairwise(words) if flag == "--set"]
        options = RunOptions(words[2], settings=settings)
        again = flatten(dump(options.resolve(no_pretrain="--no-pretrain" in words)))
        for key, value in run.settings.items():
            unused = run.settings["no_pretrain"] and key.startswith(
                ("pretrain.", "data.extra_roots")
            )
            if key not in WITHOUT_EFFECT and not unused:
                assert again[key] == value, key


def test_the_page_says_what_was_not_measured_and_how_to(page: str, study: Path) -> None:
    text = page.split("## What was not measured\n")[1].split("\n## ", maxsplit=1)[0]
    options, defaults = (line for line in text.splitlines() if line.startswith("- "))
    assert "anatomy-masked-attention" in options
    assert "guided-crop" not in options
    assert "guided-crop, masked-contrastive" in defaults
    assert "`data.img_size=224` (here 64)" in defaults
    assert "`pretrain.epochs=50` (here 3)" in defaults
    line = next(line for line in text.splitlines() if line.startswith("medsgssl "))
    words = shlex.split(line)
    given = dict(itertools.pairwise(words))
    plan = make_plan(
        study / "data",
        given["--methods"].split(","),
        folds=int(given["--folds"]),
        controls=given["--controls"].split(","),
        baselines=True,
    )
    assert {run.method for run in plan.runs} >= {"guided-crop", "anatomy-masked-attention"}
