"""``metrics.json``: everything that is reported of one run.

``mean_auc`` and ``per_disease.NAME.{auc,ap,f1,precision,recall,threshold,positives}`` are names
that users' scripts hold. A number is None where it is not defined; an interval is its low and its
high end.
"""

from __future__ import annotations

from pathlib import Path
from typing import NotRequired, TypeVar

from typing_extensions import TypedDict  # pydantic needs this one before Python 3.12

from medsgssl.runs.artifact import read_artifact

Value = TypeVar("Value")


class MeanMetrics(TypedDict):
    """Means over the diseases with both classes, and over those with enough positives (``_20``)."""

    mean_ap: float | None
    mean_auc: float | None
    mean_auc_interval: list[float] | None
    diseases_in_mean: list[str]
    mean_auc_20: float | None
    mean_auc_20_interval: list[float] | None
    diseases_in_mean_20: list[str]


class ReliabilityBins(TypedDict):
    """A reliability curve, one entry per bin."""

    score: list[float]
    frequency: list[float]
    count: list[int]
    low: NotRequired[list[float]]  # of the frequency, over patients; since 0.2.0
    high: NotRequired[list[float]]


class CalibrationSummaryMetrics(TypedDict, total=False):
    """Skill, slope, intercept and debiased error, since 0.2.0; see ``CalibrationSummary``."""

    brier_skill: float | None
    brier_skill_interval: list[float] | None
    calibration_slope: float | None
    calibration_slope_interval: list[float] | None
    calibration_intercept: float | None
    calibration_intercept_interval: list[float] | None
    ece_debiased: float | None
    ece_debiased_interval: list[float] | None
    brier_skill_calibrated: float | None
    brier_skill_calibrated_interval: list[float] | None
    calibration_slope_calibrated: float | None
    calibration_slope_calibrated_interval: list[float] | None
    calibration_intercept_calibrated: float | None
    calibration_intercept_calibrated_interval: list[float] | None
    ece_debiased_calibrated: float | None
    ece_debiased_calibrated_interval: list[float] | None


class CalibrationMetrics(CalibrationSummaryMetrics):
    """Calibration of one disease, as trained and after the temperature (``_calibrated``)."""

    ece: float | None
    ece_width: float | None
    brier: float | None
    temperature: float | None
    ece_calibrated: float | None
    ece_width_calibrated: float | None
    brier_calibrated: float | None
    reliability: ReliabilityBins


class DiseaseMetrics(CalibrationMetrics):
    """One disease on the test images."""

    auc: float | None
    auc_interval: list[float] | None
    ap: float | None
    ap_interval: list[float] | None
    threshold: float | None
    f1: float | None
    precision: float | None
    recall: float | None
    specificity: float | None
    positives: int
    negatives: int
    unknown: NotRequired[int]  # images left out because their label is unknown
    note: str  # why something is not defined


class GroupDisease(TypedDict):
    """One disease within a subgroup."""

    auc: float | None
    auc_interval: list[float] | None
    positives: int


class GroupMetrics(MeanMetrics):
    """One subgroup of the test images."""

    images: int
    patients: int
    per_disease: dict[str, GroupDisease]


class Shortcut(TypedDict):
    """How well one attribute outside the lungs predicts each disease."""

    images: int
    auc: dict[str, float | None]
    auc_interval: NotRequired[dict[str, list[float] | None]]  # since 0.2.0


class ValidationMetrics(TypedDict):
    """The validation images."""

    images: int
    mean_auc: float | None
    mean_ap: float | None
    diseases_in_mean: list[str]
    auc: dict[str, float | None]
    positives: dict[str, int]


class BootstrapSettings(TypedDict):
    """How intervals were made."""

    method: str
    unit: str
    resamples: int
    confidence: float
    seed: int


class Metrics(MeanMetrics):
    """Everything that ``metrics.json`` holds."""

    images: int
    patients: int
    per_disease: dict[str, DiseaseMetrics]
    validation: ValidationMetrics | None
    subgroups: dict[str, dict[str, GroupMetrics]]
    shortcuts: dict[str, Shortcut]
    bootstrap: BootstrapSettings
    warnings: list[str]


def read_metrics(path: Path) -> Metrics | None:
    """Read ``metrics.json``; None where it is not there.

    Raises:
        DataError: It is damaged or of another version.
    """
    if not path.is_file():
        return None
    metrics = read_artifact(path, Metrics, "`medsgssl evaluate RUN`")
    # In 0.1.0 the view position was the key ``view``.
    metrics["subgroups"] = _renamed(metrics["subgroups"])
    metrics["shortcuts"] = _renamed(metrics["shortcuts"])
    return metrics


def disease_metric(result: DiseaseMetrics, name: str) -> float | None:
    """Return a metric of one disease by its name, those of other packages included.

    Args:
        result: The disease.
        name: The metric.

    Returns:
        The number; None where it is not defined or the file has no such metric.
    """
    value = result.get(name)
    return value if isinstance(value, int | float) else None


def disease_interval(result: DiseaseMetrics, name: str) -> list[float] | None:
    """Return the interval of a metric of one disease; None where it has none."""
    ends = result.get(f"{name}_interval")
    return ends if isinstance(ends, list) else None


def _renamed(values: dict[str, Value]) -> dict[str, Value]:
    return {"view_position" if key == "view" else key: value for key, value in values.items()}
