"""Does the runs of a study, as many at a time as its launcher allows; none stops the others."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from rich.console import Console

from medsgssl.errors import ConfigError, MedsgsslError
from medsgssl.pipeline.runner import run_method
from medsgssl.runs.folder import RunFolder
from medsgssl.runs.study_files import FAILURES_FILE, Failure, read_failures
from medsgssl.study.launcher import Job, Launcher, last_lines, log_path
from medsgssl.study.mask_students import fix_masks, student_of_fold
from medsgssl.study.plan import PlannedRun, StudyPlan, run_folder
from medsgssl.study.plan_builder import fix_primary_diseases
from medsgssl.training.distributed import PeerError, launched_size
from medsgssl.utils.formatting import duration
from medsgssl.utils.interrupts import check
from medsgssl.utils.io import read_json, write_json
from medsgssl.utils.locks import exclusive
from medsgssl.utils.progress import new_console
from medsgssl.utils.ranks import rank

Status = Literal["done", "skipped", "failed", "blocked"]
OnRunEnd = Callable[[RunFolder], object]

# Seconds between two looks at the jobs.
_POLL = 0.5


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
    on_run_end: OnRunEnd | None = None,
    launcher: Launcher | None = None,
) -> list[Outcome]:
    """Do every run of the plan that is not complete.

    The plan is kept in ``study.json`` and every failure with its traceback in
    ``failures.json``; given again, the same call tries the failed runs again.

    Args:
        plan: What to run.
        folder: The study's folder.
        console: Shows progress.
        on_run_end: Called with the folder of each run that got as far as its metrics, e.g. to
            write its report. A launcher that starts processes writes the report in them instead.
        launcher: Where the runs are done; one after another in this process when not given.

    Returns:
        One outcome per run, in the order of the plan.

    Raises:
        ConfigError: The folder holds a study of other settings, or something else, or another
            process works on it.
    """
    if launched_size() > 1:
        raise ConfigError(
            "a study starts the processes of its runs itself, but torchrun or srun has started "
            "several of this command",
            "start it alone; --jobs N does several runs at a time, pretrain.devices and "
            "finetune.devices give each run several processes",
        )
    console = console or new_console()
    # Known before anything runs, and written down: what will be compared, over which diseases,
    # and whose masks all runs draw.
    plan = fix_masks(fix_primary_diseases(plan))
    plan.joined(folder)
    with exclusive(folder, "the study folder"):
        # Data that have moved since lie where this call says.
        replace(plan.joined(folder), data=plan.data).save(folder)
        work = _Work(plan, folder, launcher or InProcess(console, on_run_end), console)
        return work.run()


def do_run(
    folder: Path,
    name: str,
    console: Console | None = None,
    on_run_end: OnRunEnd | None = None,
) -> RunFolder:
    """Do one run of the plan in ``study.json``, in this process.

    Its failure is left in ``logs/NAME.failure.json`` and raised.

    Args:
        folder: The study's folder.
        name: The run.
        console: Shows progress.
        on_run_end: Called with the run folder after its metrics.

    Raises:
        ConfigError: The plan has no such run.
        Exception: Whatever stops the run.
    """
    plan = StudyPlan.load(folder)
    named = {planned.name: planned for planned in plan.runs}
    if name not in named:
        raise ConfigError(
            f"the study {folder} has no run {name!r}", f"see `medsgssl study status {folder}`"
        )
    planned, run = named[name], run_folder(folder, name)
    try:
        run_method(
            student_of_fold(plan.config(planned), folder, (console or new_console()).print),
            run.path,
            until="pretrain" if planned.pretrains else "evaluate",
            pretrained=None
            if planned.start is None
            else run_folder(folder, planned.start).pretrained,
            console=console,
        )
        if on_run_end is not None and not planned.pretrains and rank() == 0:
            on_run_end(run)
    except PeerError:
        raise  # the process that failed leaves the failure
    except Exception as error:
        problem = str(error) if isinstance(error, MedsgsslError) else repr(error)
        write_json(_failure_path(folder, name), _failure(problem, traceback.format_exc()))
        raise
    _failure_path(folder, name).unlink(missing_ok=True)
    return run


class InProcess:
    """Does the runs one after another in this process.

    Args:
        console: Shows progress.
        on_run_end: Called after the metrics of each run.
    """

    slots = 1

    def __init__(self, console: Console, on_run_end: OnRunEnd | None = None) -> None:
        self._console, self._on_run_end = console, on_run_end

    def start(self, folder: Path, plan: StudyPlan, names: list[str]) -> list[Job]:
        """Do the runs; what is returned has ended."""
        jobs: list[Job] = []
        for name in names:
            try:
                do_run(folder, name, self._console, self._on_run_end)
            except Exception:  # noqa: BLE001 - whatever stops one run must not stop the others
                jobs.append(_Ended(1))
            else:
                jobs.append(_Ended(0))
        return jobs


@dataclass(frozen=True)
class _Ended:
    """A job that has ended with a status."""

    status: int

    def poll(self) -> int | None:
        return self.status

    def ask_to_stop(self) -> None:
        pass

    def stop(self) -> None:
        pass


class _Work:
    """The runs of one call of ``run_study``: what waits, what runs and what has ended."""

    def __init__(self, plan: StudyPlan, folder: Path, launcher: Launcher, console: Console) -> None:
        self._plan, self._folder = plan, folder
        self._launcher, self._console = launcher, console
        self._failures = read_failures(folder)
        self._outcomes: dict[str, Outcome] = {}
        self._running: dict[str, tuple[Job, float]] = {}
        self._number = {planned.name: n for n, planned in enumerate(plan.runs, start=1)}

    def run(self) -> list[Outcome]:
        waiting = []
        for planned in self._plan.runs:
            if is_complete(run_folder(self._folder, planned.name), planned):
                self._end(Outcome(planned.name, "skipped"))
            else:
                waiting.append(planned)
        self._keep_failures()
        try:
            while waiting or self._running:
                waiting = self._start(waiting)
                if not self._collect():
                    check()
                    time.sleep(_POLL)
        except BaseException:
            for job, _ in self._running.values():
                job.ask_to_stop()
            for job, _ in self._running.values():
                job.stop()
            raise
        return [self._outcomes[planned.name] for planned in self._plan.runs]

    def _start(self, waiting: list[PlannedRun]) -> list[PlannedRun]:
        """Start what can be started; return what still waits."""
        ready: list[PlannedRun] = []
        later: list[PlannedRun] = []
        for planned in waiting:
            before = None if planned.start is None else self._outcomes.get(planned.start)
            if before is not None and before.problem:
                problem = f"not begun: {planned.start} failed"
                self._end(Outcome(planned.name, "blocked", problem), _failure(problem))
            elif planned.start is not None and before is None:
                later.append(planned)
            elif len(ready) < self._launcher.slots - len(self._running):
                ready.append(planned)
            else:
                later.append(planned)
        if ready:
            names = [planned.name for planned in ready]
            for name in names:
                _failure_path(self._folder, name).unlink(missing_ok=True)
                title = f"{self._number[name]} of {len(self._plan.runs)}: {name}"
                self._console.rule(title, align="left")
            begun = time.monotonic()  # a launcher may do the run before it returns
            jobs = self._launcher.start(self._folder, self._plan, names)
            for name, job in zip(names, jobs, strict=True):
                self._running[name] = (job, begun)
        return later

    def _collect(self) -> bool:
        """Take the outcomes of the jobs that have ended; return whether there were any."""
        ended = [
            (name, status, begun)
            for name, (job, begun) in self._running.items()
            if (status := job.poll()) is not None
        ]
        for name, status, begun in ended:
            del self._running[name]
            if status == 0:
                self._end(Outcome(name, "done"))
            else:
                failure = self._read_failure(name, status)
                self._end(Outcome(name, "failed", failure["problem"]), failure)
            state = self._outcomes[name].status
            self._say(f"{state}: {name} ({duration(time.monotonic() - begun)})")
        return bool(ended)

    def _read_failure(self, name: str, status: int) -> Failure:
        path = _failure_path(self._folder, name)
        if path.is_file():
            failure: Failure = read_json(path)
            path.unlink()
            return failure
        # It could not say why: killed, or ended before the run began.
        how = f"with status {status}" if status > 0 else f"by signal {-status}"
        hint = " (the system ends processes this way when memory runs out)" if status == -9 else ""
        log = log_path(self._folder, name)
        return _failure(f"its process was ended {how}{hint}; log: {log}", last_lines(log, 20))

    def _end(self, outcome: Outcome, failure: Failure | None = None) -> None:
        self._outcomes[outcome.name] = outcome
        if failure is None:
            self._failures.pop(outcome.name, None)
        else:
            self._failures[outcome.name] = failure
            self._say(outcome.problem, style="red")
        # Written after every run, so that a killed study tells what had failed.
        self._keep_failures()

    def _keep_failures(self) -> None:
        write_json(self._folder / FAILURES_FILE, self._failures)

    def _say(self, text: str, style: str | None = None) -> None:
        self._console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)


def _failure_path(folder: Path, name: str) -> Path:
    return folder / "logs" / f"{name}.failure.json"


def _failure(problem: str, trace: str = "") -> Failure:
    when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return {"problem": problem, "when": when, "traceback": trace}
