"""The files of a study: ``study.json`` and ``failures.json``; ``localization.json`` of its runs."""

from __future__ import annotations

from pathlib import Path
from typing import NotRequired

from typing_extensions import TypedDict  # pydantic needs this one before Python 3.12

from medsgssl.config.loading import FlatSettings, SettingsTree
from medsgssl.runs.artifact import read_artifact

FAILURES_FILE = "failures.json"
LOCALIZATION_FILE = "localization.json"


class PlannedRunRecord(TypedDict):
    """One run of ``study.json``; ``study.plan.PlannedRun`` describes the fields."""

    name: str
    arm: str
    method: str
    no_pretrain: bool
    masks: str
    seed: int
    fraction: float
    without: str
    pretrains: bool
    start: str | None
    fold: int | None
    overrides: FlatSettings


class PlannedComparisonRecord(TypedDict):
    """One comparison of ``study.json``; see ``study.plan.PlannedComparison``."""

    kind: str
    arm: str
    against: str
    fraction: float


class PlanRecord(TypedDict):
    """``study.json``: the plan, with its format and its hash; see ``study.plan.StudyPlan``."""

    format: int
    hash: str
    data: str
    settings: SettingsTree
    own_settings: dict[str, SettingsTree]
    runs: list[PlannedRunRecord]
    family: list[PlannedComparisonRecord]
    margin: float
    folds: int | None
    primary_diseases: list[str] | None
    mask_recipe: NotRequired[str | None]  # absent in plans made before masks.recipe=auto
    earlier: list[str]


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
