"""How far a study is: the state of every run, from the files of its folder alone."""

from __future__ import annotations

import csv
import statistics
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from medsgssl.runs.folder import RunFolder, StageName
from medsgssl.runs.stage_files import read_stage_records
from medsgssl.runs.study_files import Failure, read_failures
from medsgssl.study.launcher import STARTED, last_lines, log_path
from medsgssl.study.plan import PlannedRun, StudyPlan, run_folder
from medsgssl.study.runner import is_complete
from medsgssl.utils.locks import LockOwner, lock_holder

State = Literal["complete", "running", "failed", "interrupted", "waiting"]


@dataclass(frozen=True)
class RunStatus:
    """The state of one run.

    Attributes:
        name: The run.
        state: ``complete``; ``running``: a process works on it; ``failed`` when it was last tried;
            ``interrupted``: it was begun, and no process works on it; ``waiting``: not started.
        problem: Why it failed; empty otherwise.
        last_line: What it printed last, or its last epoch; empty where there is neither.
        process: Who works on it; empty where nobody does.
        seconds_left: About how long it still takes; 0 where it is complete or failed, None where
            neither its own epochs nor runs like it tell.
    """

    name: str
    state: State
    problem: str = ""
    last_line: str = ""
    process: str = ""
    seconds_left: float | None = None


@dataclass(frozen=True)
class StudyStatus:
    """The state of a study.

    Attributes:
        runs: In the order of the plan.
        expected_end: When the runs that are left will have ended, UTC, with as many at a time as
            now; None where nothing runs or the time of a run is not known.
    """

    runs: list[RunStatus]
    expected_end: str | None


def study_status(folder: Path) -> StudyStatus:
    """Return how far a study is.

    Raises:
        DataError: The folder holds no study.
        ConfigError: The study is of another version.
    """
    plan = StudyPlan.load(folder)
    failures = read_failures(folder)
    runs = [_status(plan, folder, planned, failures) for planned in plan.runs]
    running = [run for run in runs if run.state == "running"]
    left = [run.seconds_left for run in runs if run.state not in {"complete", "failed"}]
    known = [seconds for seconds in left if seconds is not None]
    if not running or len(known) < len(left):
        return StudyStatus(runs, None)
    seconds = max(sum(known) / len(running), *known)
    end = datetime.fromtimestamp(time.time() + seconds, UTC)
    return StudyStatus(runs, end.strftime("%Y-%m-%d %H:%M UTC"))


def _status(
    plan: StudyPlan, folder: Path, planned: PlannedRun, failures: dict[str, Failure]
) -> RunStatus:
    name, run = planned.name, run_folder(folder, planned.name)
    if is_complete(run, planned):
        return RunStatus(name, "complete", seconds_left=0.0)
    last = last_lines(log_path(folder, name)) or _last_epoch(plan, run, planned)
    holder = lock_holder(run.path)
    if holder is None and last.startswith(STARTED):
        # Its process has not got as far as its folder; whether it lives, the launcher knows.
        holder = lock_holder(folder)
    if holder is not None:
        left = _seconds_left(plan, folder, planned, holder)
        return RunStatus(name, "running", "", last, str(holder), left)
    if name in failures:
        return RunStatus(name, "failed", failures[name]["problem"], last, seconds_left=0.0)
    left = _seconds_left(plan, folder, planned, None)
    state: State = "interrupted" if run.path.is_dir() else "waiting"
    return RunStatus(name, state, "", last, "", left)


def seconds_of_runs_like(plan: StudyPlan, folder: Path, planned: PlannedRun) -> float | None:
    """Return the median seconds of complete runs that differ from this one in seed or masks alone.

    None where there is none.
    """
    stages: tuple[StageName, ...] = (
        ("pretrain",) if planned.pretrains else ("finetune", "predict", "evaluate")
    )
    durations = []
    for other in plan.runs:
        if _kind(other) != _kind(planned):
            continue
        run = run_folder(folder, other.name)
        if is_complete(run, other):
            written = read_stage_records(run.stages)
            durations.append(sum(written[stage]["seconds"] for stage in stages))
    return statistics.median(durations) if durations else None


def _kind(run: PlannedRun) -> tuple[object, ...]:
    """What decides how long a run takes."""
    matched = sorted(run.overrides.items())
    return run.method, run.no_pretrain, run.fraction, run.pretrains, run.without, matched


def _seconds_left(
    plan: StudyPlan, folder: Path, planned: PlannedRun, holder: LockOwner | None
) -> float | None:
    epochs = _epochs(plan, planned)
    rows = _log_rows(run_folder(folder, planned.name), planned)
    if rows:
        per_epoch = statistics.median(float(row["seconds"]) for row in rows)
        return per_epoch * max(0, epochs - len(rows))
    whole = seconds_of_runs_like(plan, folder, planned)
    if whole is None:
        whole = _from_epochs_of_runs_like(plan, folder, planned)
    if whole is None or holder is None:
        return whole
    return max(0.0, whole - (time.time() - holder.since_seconds))


def _from_epochs_of_runs_like(plan: StudyPlan, folder: Path, planned: PlannedRun) -> float | None:
    """Return the seconds of a whole run by the epochs of one of its method that is on its way."""
    for other in plan.runs:
        same_stage = other.pretrains == planned.pretrains
        if other.method == planned.method and same_stage:
            rows = _log_rows(run_folder(folder, other.name), other)
            if rows:
                per_epoch = statistics.median(float(row["seconds"]) for row in rows)
                return per_epoch * _epochs(plan, planned)
    return None


def _epochs(plan: StudyPlan, planned: PlannedRun) -> int:
    config = plan.config(planned)
    return config.pretrain.epochs if planned.pretrains else config.finetune.epochs


def _log_rows(run: RunFolder, planned: PlannedRun) -> list[dict[str, str]]:
    path = run.pretrain_log if planned.pretrains else run.finetune_log
    if not path.is_file():
        return []
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def _last_epoch(plan: StudyPlan, run: RunFolder, planned: PlannedRun) -> str:
    rows = _log_rows(run, planned)
    if not rows:
        return ""
    stage = "pretrain" if planned.pretrains else "finetune"
    done, loss = int(float(rows[-1]["epoch"])) + 1, float(rows[-1]["loss"])
    return f"{stage} {done}/{_epochs(plan, planned)}  loss {loss:.4f}"
