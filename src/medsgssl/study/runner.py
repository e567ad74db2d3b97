"""Does the runs of a study one after another; a failed one does not stop the others."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rich.console import Console

from medsgssl.errors import MedsgsslError
from medsgssl.pipeline.runner import run_method
from medsgssl.runs.folder import RunFolder
from medsgssl.study.plan import PlannedRun, StudyPlan, run_folder
from medsgssl.study.planning import fix_primary_diseases
from medsgssl.utils.io import read_json, write_json
from medsgssl.utils.progress import new_console

FAILURES_FILE = "failures.json"

Status = Literal["done", "skipped", "failed", "blocked"]


@dataclass(frozen=True)
class Outcome:
    """What became of one run.

    Attributes:
        name: The run.
        status: ``done`` now; ``skipped``: complete before; ``failed``; ``blocked``: the
            pretraining that it starts from failed.
        problem: Why it failed; empty otherwise.
    """

    name: str
    status: Status
    problem: str = ""


def is_complete(run: RunFolder, planned: PlannedRun) -> bool:
    """Return whether a run has left all that a study needs of it."""
    if planned.pretrains:
        return run.pretrained.is_file() and run.complete("pretrain")
    files = (run.predictions, run.metrics)
    complete = run.complete("predict") and run.complete("evaluate")
    return complete and all(path.is_file() for path in files)


def run_study(
    plan: StudyPlan,
    folder: Path,
    console: Console | None = None,
    on_run_end: Callable[[RunFolder], object] | None = None,
) -> list[Outcome]:
    """Do every run of the plan that is not complete.

    The plan is kept in ``study.json`` and every failure with its traceback in
    ``failures.json``; given again, the same call tries the failed runs again.

    Args:
        plan: What to run.
        folder: The study's folder.
        console: Shows progress.
        on_run_end: Called with the folder of each run that got as far as its metrics, e.g. to
            write its report.

    Returns:
        One outcome per run, in the order of the plan.

    Raises:
        ConfigError: The folder holds a study of other settings, or something else.
    """
    console = console or new_console()
    # Known before anything runs, and written down: what will be compared, and over which diseases.
    fix_primary_diseases(plan).joined(folder).save(folder)
    failures = read_failures(folder)
    outcomes: dict[str, Outcome] = {}
    for number, planned in enumerate(plan.runs, start=1):
        console.rule(f"{number} of {len(plan.runs)}: {planned.name}", align="left")
        outcome = _one(plan, planned, folder, outcomes, failures, console, on_run_end)
        outcomes[planned.name] = outcome
        # Written after every run, so that a killed study tells what had failed.
        write_json(folder / FAILURES_FILE, failures)
        if outcome.problem:
            console.print(outcome.problem, style="red", markup=False, highlight=False)
    return list(outcomes.values())


def _one(
    plan: StudyPlan,
    planned: PlannedRun,
    folder: Path,
    outcomes: dict[str, Outcome],
    failures: dict[str, Any],
    console: Console,
    on_run_end: Callable[[RunFolder], object] | None,
) -> Outcome:
    name, run = planned.name, run_folder(folder, planned.name)
    if is_complete(run, planned):
        failures.pop(name, None)
        return Outcome(name, "skipped")
    pretrained = None
    if planned.start is not None:
        before = outcomes[planned.start]
        if before.problem:
            problem = f"not begun: {planned.start} failed"
            failures[name] = _failure(problem)
            return Outcome(name, "blocked", problem)
        pretrained = run_folder(folder, planned.start).pretrained
    try:
        run_method(
            plan.config(planned),
            run.path,
            until="pretrain" if planned.pretrains else "evaluate",
            pretrained=pretrained,
            console=console,
        )
        if on_run_end is not None and not planned.pretrains:
            on_run_end(run)
    except Exception as error:  # noqa: BLE001 - whatever stops one run must not stop the others
        problem = str(error) if isinstance(error, MedsgsslError) else repr(error)
        failures[name] = _failure(problem, traceback.format_exc())
        return Outcome(name, "failed", problem)
    failures.pop(name, None)
    return Outcome(name, "done")


def _failure(problem: str, trace: str = "") -> dict[str, str]:
    when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return {"problem": problem, "when": when, "traceback": trace}


def read_failures(folder: Path) -> dict[str, Any]:
    """Return ``problem``, ``when`` and ``traceback`` of every run that failed last, by its name."""
    path = folder / FAILURES_FILE
    return dict(read_json(path)) if path.is_file() else {}
