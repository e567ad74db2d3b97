"""How far a study is: the state of every run, from the files of its folder alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from medsgssl.study.plan import StudyPlan, run_folder
from medsgssl.study.runner import is_complete, read_failures

State = Literal["complete", "failed", "begun", "waiting"]


@dataclass(frozen=True)
class RunStatus:
    """The state of one run.

    Attributes:
        name: The run.
        state: ``complete``; ``failed`` when it was last tried; ``begun``: its folder exists, and
            it is running or was interrupted; ``waiting``: not started.
        problem: Why it failed; empty otherwise.
    """

    name: str
    state: State
    problem: str = ""


def study_status(folder: Path) -> list[RunStatus]:
    """Return the state of every run of a study, in the order of its plan.

    Raises:
        DataError: The folder holds no study.
        ConfigError: The study is of another version.
    """
    failures = read_failures(folder)
    states = []
    for planned in StudyPlan.load(folder).runs:
        run = run_folder(folder, planned.name)
        if is_complete(run, planned):
            states.append(RunStatus(planned.name, "complete"))
        elif planned.name in failures:
            states.append(RunStatus(planned.name, "failed", failures[planned.name]["problem"]))
        else:
            states.append(RunStatus(planned.name, "begun" if run.path.is_dir() else "waiting"))
    return states
