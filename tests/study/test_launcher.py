"""Several runs at a time in processes of their own, whose work is a small script here."""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from medsgssl.runs.folder import RunFolder
from medsgssl.study import launcher as launching
from medsgssl.study import runner as study_run
from medsgssl.study.launcher import STARTED, LocalLauncher, last_lines, log_path
from medsgssl.study.plan import StudyPlan, run_folder
from medsgssl.study.plan_builder import make_plan
from medsgssl.study.runner import run_study
from medsgssl.study.status import study_status
from medsgssl.utils.interrupts import StopRequested
from medsgssl.utils.io import read_json, write_json, write_text
from medsgssl.utils.locks import exclusive
from medsgssl.utils.system import cpu_count

QUIET = Console(quiet=True)

# What a run of a study leaves, and when it began and ended.
WORK = """
import json, os, sys, time
from pathlib import Path
folder, name, seconds, failing = Path(sys.argv[1]), sys.argv[2], float(sys.argv[3]), sys.argv[4]
started = time.time()
print("hello from", name, flush=True)
time.sleep(seconds)
if name == failing:
    print("about to die", flush=True)
    os.kill(os.getpid(), 9)
environment = {key: os.environ.get(key) for key in ("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES")}
(folder / f"{name}.json").write_text(json.dumps([started, time.time(), environment]))
from medsgssl.runs.folder import RunFolder
run = RunFolder(folder / "runs" / name)
run.path.mkdir(parents=True, exist_ok=True)
stages = ("pretrain",) if name.endswith("pretrain") else ("finetune", "predict", "evaluate")
files = (run.pretrained,) if name.endswith("pretrain") else (run.predictions, run.metrics)
for path in files:
    path.write_text("{}")
for stage in stages:
    run.mark(stage, "key", 10.0)
"""


@pytest.fixture
def plan(monkeypatch: pytest.MonkeyPatch) -> StudyPlan:
    monkeypatch.setattr(study_run, "fix_primary_diseases", lambda plan: plan)
    monkeypatch.setattr(study_run, "fix_masks", lambda plan: plan)
    return make_plan(Path("data"), ["simclr", "direct"], seeds=2)


def _script(monkeypatch: pytest.MonkeyPatch, seconds: float = 0.0, failing: str = "") -> None:
    def command(folder: Path, name: str) -> list[str]:
        return [sys.executable, "-c", WORK, str(folder), name, str(seconds), failing]

    monkeypatch.setattr(launching, "run_command", command)


def test_two_at_a_time_and_none_before_what_it_starts_from(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, plan: StudyPlan
) -> None:
    _script(monkeypatch, seconds=0.3)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5")
    monkeypatch.setenv("OMP_NUM_THREADS", "64")
    folder = tmp_path / "study"
    outcomes = run_study(plan, folder, QUIET, launcher=LocalLauncher(2))
    assert {outcome.status for outcome in outcomes} == {"done"}
    times = {run.name: read_json(folder / f"{run.name}.json") for run in plan.runs}
    for run in plan.runs:
        if run.start:
            assert times[run.start][1] <= times[run.name][0]
    moments = sorted(time for start, _, _ in times.values() for time in [start])
    together = [sum(a <= now < b for a, b, _ in times.values()) for now in moments]
    assert max(together) == 2
    environments = [environment for _, _, environment in times.values()]
    assert {one["CUDA_VISIBLE_DEVICES"] for one in environments} == {"4", "5"}
    threads = str(max(1, cpu_count() // 2))
    assert {one["OMP_NUM_THREADS"] for one in environments} == {threads}


def test_a_killed_run_is_reported_and_tried_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, plan: StudyPlan
) -> None:
    folder = tmp_path / "study"
    _script(monkeypatch, failing="simclr-s0-f1")
    outcomes = {one.name: one for one in run_study(plan, folder, QUIET, launcher=LocalLauncher(2))}
    assert outcomes["simclr-s0-f1"].status == "failed"
    assert "signal 9" in outcomes["simclr-s0-f1"].problem
    assert [one.status for one in outcomes.values()].count("done") == len(plan.runs) - 1
    failure = read_json(folder / "failures.json")["simclr-s0-f1"]
    assert "about to die" in failure["traceback"]
    assert last_lines(log_path(folder, "simclr-s0-f1")) == "about to die"
    status = {run.name: run for run in study_status(folder).runs}
    assert status["simclr-s0-f1"].state == "failed"
    assert status["simclr-s0-f1"].last_line == "about to die"
    _script(monkeypatch)
    again = {one.name: one for one in run_study(plan, folder, QUIET, launcher=LocalLauncher(2))}
    assert [name for name, one in again.items() if one.status == "done"] == ["simclr-s0-f1"]
    assert read_json(folder / "failures.json") == {}


def test_a_stop_ends_the_runs_as_well(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, plan: StudyPlan
) -> None:
    _script(monkeypatch, seconds=60)
    launcher, jobs = LocalLauncher(2), []
    start = launcher.start

    def remember(*arguments: Any) -> Any:
        jobs.extend(start(*arguments))
        return jobs

    monkeypatch.setattr(launcher, "start", remember)

    def stop() -> None:
        raise StopRequested(signal.SIGTERM)

    monkeypatch.setattr(study_run, "check", stop)
    with pytest.raises(StopRequested):
        run_study(plan, tmp_path / "study", QUIET, launcher=launcher)
    assert [job.poll() for job in jobs] == [-signal.SIGTERM] * 2


def test_the_status_tells_running_from_interrupted_and_when_all_ends(
    tmp_path: Path, plan: StudyPlan
) -> None:
    folder = tmp_path / "study"
    plan.save(folder)
    done, running, begun = plan.runs[0].name, plan.runs[1].name, plan.runs[2].name
    complete = run_folder(folder, done)
    write_text(complete.pretrained, "weights")
    complete.mark("pretrain", "key", 10.0)
    log = "epoch,loss,seconds\n" + "".join(f"{epoch},0.5,7\n" for epoch in range(3))
    epochs = plan.config(plan.runs[1]).finetune.epochs
    write_text(run_folder(folder, running).finetune_log, log)
    run_folder(folder, begun).path.mkdir(parents=True)
    dead = {"pid": 2**22 + 1, "host": _host(), "since": "2020-01-01 00:00:00 UTC"}
    write_json(run_folder(folder, begun).path / ".lock-owner.json", dead)
    before = time.time()
    with exclusive(run_folder(folder, running).path, "the run"):
        found = study_status(folder)
    states = {run.name: run for run in found.runs}
    assert states[done].state == "complete"
    assert states[running].state == "running"
    assert states[running].last_line == f"finetune 3/{epochs}  loss 0.5000"
    assert states[running].seconds_left == 7 * (epochs - 3)
    assert states[begun].state == "interrupted"
    starting = plan.runs[3].name
    write_text(log_path(folder, starting), f"{STARTED} 2026-01-01\n")
    with exclusive(folder, "the study"):
        assert {run.name: run for run in study_status(folder).runs}[starting].state == "running"
    log_path(folder, starting).unlink()
    waiting = [run for run in found.runs if run.state == "waiting"]
    assert len(waiting) == len(plan.runs) - 3
    # Nothing tells how long `direct` takes, so no end is made up.
    assert found.expected_end is None
    for planned in plan.runs[2:]:
        if planned.method == "direct":
            write_text(run_folder(folder, planned.name).finetune_log, log)
    with exclusive(run_folder(folder, running).path, "the run"):
        end = study_status(folder).expected_end
    assert end is not None
    left = time.mktime(time.strptime(end, "%Y-%m-%d %H:%M UTC")) - time.timezone - before
    # Another pretraining takes as long as the first; fine-tunings are known by their epochs.
    assert left == pytest.approx(10 + 7 * (epochs - 3) * 3 + 7 * epochs, abs=90)


def _host() -> str:
    import socket

    return socket.gethostname()


def test_a_second_study_command_on_the_folder_is_refused(tmp_path: Path, plan: StudyPlan) -> None:
    from medsgssl.errors import ConfigError

    with (
        exclusive(tmp_path / "study", "the study"),
        pytest.raises(ConfigError, match="is in use by process"),
    ):
        run_study(plan, tmp_path / "study", QUIET)
    assert not RunFolder(tmp_path / "study" / "runs").path.exists()
