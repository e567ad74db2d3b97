"""Files of a study beside its plan: ``failures.json``, and ``localization.json`` of its runs.

The plan, ``study.json``, is defined in ``study/plan.py``.
"""

from __future__ import annotations

from pathlib import Path

from typing_extensions import TypedDict  # pydantic needs this one before Python 3.12

from medsgssl.runs.artifact import read_artifact

FAILURES_FILE = "failures.json"
LOCALIZATION_FILE = "localization.json"


class Failure(TypedDict):
    """Why a run of a study failed last."""

    problem: str
    when: str  # UTC, ISO 8601
    traceback: str  # empty for a run that was not begun


class Measure(TypedDict):
    """A mean over boxes with its 95 % interval over patients; None where it is not defined."""

    value: float | None
    interval: list[float] | None


class Localization(TypedDict):
    """Where the classifier of a run looks, from ``study localize``."""

    grid: list[int]  # height and width of the maps before they were enlarged
    boxes: int
    images: int
    patients: int
    measures: dict[str, Measure]
    per_disease: dict[str, dict[str, float | None]]  # by class: ``boxes`` and each measure


def read_failures(study: Path) -> dict[str, Failure]:
    """Read ``failures.json`` of a study, by name of the run; empty where it is not there.

    Raises:
        DataError: It is damaged or of another version.
    """
    path = study / FAILURES_FILE
    if not path.is_file():
        return {}
    return read_artifact(path, dict[str, Failure], "`medsgssl study run`")


def read_localization(run: Path) -> Localization | None:
    """Read ``localization.json`` of a run folder; None where it is not there.

    Raises:
        DataError: It is damaged or of another version.
    """
    path = run / LOCALIZATION_FILE
    if not path.is_file():
        return None
    return read_artifact(path, Localization, "`medsgssl study localize`")
