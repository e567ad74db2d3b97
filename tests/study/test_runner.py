from __future__ import annotations

import io
import time
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from medsgssl.config.schema import Config
from medsgssl.errors import DataError
from medsgssl.runs.folder import RunFolder
from medsgssl.study import runner as study_run
from medsgssl.study.plan import StudyPlan
from medsgssl.study.plan_builder import make_plan
from medsgssl.study.runner import run_study
from medsgssl.utils.io import read_json, write_json, write_text

QUIET = Console(quiet=True)


class Pipeline:
    """Stands for ``run_method``: notes what it is asked for and fails where told to."""

    def __init__(self, failing: str = "") -> None:
        self.failing = failing
        self.calls: dict[str, dict[str, Any]] = {}

    def __call__(self, config: Config, out: Path, **asked: Any) -> RunFolder:
        self.calls[out.name] = {"config": config, **asked}
        if out.name == self.failing:
            raise RuntimeError("the card fell out")
        run = RunFolder(out)
        run.initialize(config)
        if asked["until"] == "pretrain":
            write_text(run.pretrained, "weights")
            run.mark("pretrain", "key", 10.0)
        else:
            write_text(run.predictions, "rows")
            write_json(run.metrics, {})
            for stage in ("finetune", "predict", "evaluate"):
                run.mark(stage, "key", 2.0)  # type: ignore[arg-type]
        return run


@pytest.fixture
def plan() -> StudyPlan:
    return make_plan(Path("data"), ["simclr", "direct"], seeds=1, fractions=(0.1, 1.0))


def _pipeline(monkeypatch: pytest.MonkeyPatch, failing: str = "") -> Pipeline:
    pipeline = Pipeline(failing)
    monkeypatch.setattr(study_run, "run_method", pipeline)
    monkeypatch.setattr(study_run, "fix_primary_diseases", lambda plan: plan)
    monkeypatch.setattr(study_run, "fix_masks", lambda plan: plan)
    return pipeline


def test_fractions_start_from_the_one_pretraining(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, plan: StudyPlan
) -> None:
    pipeline = _pipeline(monkeypatch)
    outcomes = run_study(plan, tmp_path / "study", QUIET)
    assert {outcome.status for outcome in outcomes} == {"done"}
    weights = tmp_path / "study" / "runs" / "simclr-s0-pretrain" / "pretrained.safetensors"
    assert pipeline.calls["simclr-s0-f0.1"]["pretrained"] == weights
    assert pipeline.calls["simclr-s0-f1"]["pretrained"] == weights
    assert pipeline.calls["direct-s0-f1"]["pretrained"] is None
    assert pipeline.calls["simclr-s0-f0.1"]["config"].data.label_fraction == 0.1


def test_a_failed_run_does_not_stop_the_others(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, plan: StudyPlan
) -> None:
    folder = tmp_path / "study"
    _pipeline(monkeypatch, failing="simclr-s0-pretrain")
    status = {outcome.name: outcome.status for outcome in run_study(plan, folder, QUIET)}
    assert status == {
        "simclr-s0-pretrain": "failed", "simclr-s0-f0.1": "blocked", "simclr-s0-f1": "blocked",
        "direct-s0-f0.1": "done", "direct-s0-f1": "done",
    }  # fmt: skip
    failures = read_json(folder / "failures.json")
    assert "the card fell out" in failures["simclr-s0-pretrain"]["problem"]
    assert "Traceback" in failures["simclr-s0-pretrain"]["traceback"]
    assert "simclr-s0-pretrain failed" in failures["simclr-s0-f1"]["problem"]


def test_the_same_call_goes_on_with_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, plan: StudyPlan
) -> None:
    folder = tmp_path / "study"
    _pipeline(monkeypatch, failing="simclr-s0-f1")
    run_study(plan, folder, QUIET)
    again = _pipeline(monkeypatch)
    outcomes = run_study(plan, folder, QUIET)
    assert list(again.calls) == ["simclr-s0-f1"]
    assert [outcome.status for outcome in outcomes].count("skipped") == len(plan.runs) - 1
    assert read_json(folder / "failures.json") == {}


def test_a_users_error_is_recorded_with_its_remedy(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, plan: StudyPlan
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise DataError("no images", "fetch them")

    monkeypatch.setattr(study_run, "run_method", refuse)
    monkeypatch.setattr(study_run, "fix_primary_diseases", lambda plan: plan)
    monkeypatch.setattr(study_run, "fix_masks", lambda plan: plan)
    outcome = run_study(plan, tmp_path / "study", QUIET)[0]
    assert "no images" in outcome.problem
    assert "Fix: fetch them" in outcome.problem


def test_the_time_of_a_run_in_this_process_is_counted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pipeline = _pipeline(monkeypatch)

    def slow(*arguments: Any, **asked: Any) -> RunFolder:
        time.sleep(0.1)
        return pipeline(*arguments, **asked)

    monkeypatch.setattr(study_run, "run_method", slow)
    printed = io.StringIO()
    one_run = make_plan(Path("data"), ["direct"], seeds=1)
    run_study(one_run, tmp_path / "study", Console(file=printed))
    assert "(0.0 s)" not in printed.getvalue()
    assert "done: direct-s0-f1 (0." in printed.getvalue()
