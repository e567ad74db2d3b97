"""Everything that is reported of one run, from its predictions alone.

``metrics.py`` has the AUC and what an absent class does to it, ``thresholds.py`` decisions,
``intervals.py`` the intervals over patients.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from medsgssl.config.schema import EvaluateSettings
from medsgssl.evaluation import calibration
from medsgssl.evaluation.calibration_summary import (
    bins_for,
    frequency_band,
    summarize_calibration,
)
from medsgssl.evaluation.few_patients import (
    MIN_PATIENTS,
    MIN_VALIDATION_POSITIVES,
    class_patients,
)
from medsgssl.evaluation.intervals import RunIntervals
from medsgssl.evaluation.metric_registry import registered_metrics
from medsgssl.evaluation.metrics import mean_over
from medsgssl.evaluation.predictions import Predictions, Split
from medsgssl.evaluation.resampled_auc import Floats, RankedScores
from medsgssl.evaluation.subgroups import (
    mean_block,
    numeric,
    shortcut_audit,
    subgroup_results,
)
from medsgssl.evaluation.thresholds import Threshold, choose, rates
from medsgssl.runs.metrics_file import (
    CalibrationMetrics,
    DiseaseMetrics,
    MeanMetrics,
    Metrics,
    ValidationMetrics,
)


def evaluate_predictions(
    predictions: Predictions, settings: EvaluateSettings, seed: int
) -> Metrics:
    """Evaluate the test split, thresholds and temperatures coming from validation.

    Args:
        predictions: Checked predictions; the test split is required, validation is needed for
            thresholds and calibration.
        settings: Threshold rule, confidence, and whether there are intervals.
        seed: Seed of the run; kept in the file.

    Returns:
        What ``metrics.json`` holds; no number is NaN, absent ones are None.

    Raises:
        DataError: There is no test image.
    """
    test = predictions.split("test")
    val = predictions.split("val") if predictions.has("val") else None
    intervals = RunIntervals(
        test.labels,
        test.scores,
        test.patients,
        settings.confidence,
        wanted=settings.bootstrap > 0,
    )
    fewest = np.minimum(*class_patients(test))
    diseases = {
        name: _disease(d, test, val, intervals, settings, int(fewest[d]))
        for d, name in enumerate(test.names)
    }
    means = mean_block(test, intervals)
    return {
        "images": len(test),
        "patients": int(test.patients.max()) + 1,
        **means,
        "per_disease": diseases,
        "validation": None if val is None else _validation(val),
        "subgroups": subgroup_results(test, settings),
        "shortcuts": shortcut_audit(test, confidence=settings.confidence),
        "bootstrap": {
            "method": "jackknife",
            "unit": "patient",
            "resamples": settings.bootstrap,
            "confidence": settings.confidence,
            "seed": seed,
        },
        "warnings": _warnings(
            diseases, means, val, settings, dict(zip(test.names, map(int, fewest), strict=True))
        ),
    }


def _disease(
    d: int,
    test: Split,
    val: Split | None,
    intervals: RunIntervals,
    settings: EvaluateSettings,
    patients: int,
) -> DiseaseMetrics:
    column = test.column(d)
    labels, scores, owners, known = column
    positives = int(labels.sum())
    threshold = Threshold(None, "no validation split")
    temperature = None
    if val is not None:
        val_labels, val_scores, _, _ = val.column(d)
        threshold = choose(val_labels, val_scores, settings.threshold, settings.target)
        if settings.calibrate:
            temperature = calibration.fit_temperature(val_labels, val_scores)
    at = rates(labels, scores, threshold.value)
    missing = [
        kind
        for kind, count in (("positives", positives), ("negatives", len(labels) - positives))
        if count == 0
    ]
    notes = [f"no {kind} in test: AUC and AP are undefined" for kind in missing]
    if not missing and patients < MIN_PATIENTS:
        notes.append(f"{patients} test patients of the rarer class: no interval")
    notes += [f"no threshold: {threshold.note}"] if threshold.value is None else []
    more: Any = {
        name: numeric(metric(column, threshold.value))
        for name, metric in registered_metrics().items()
    }
    return {
        "auc": numeric(intervals.auc[d]),
        "auc_interval": intervals.auc_interval(d),
        "ap": numeric(intervals.ap[d]),
        "ap_interval": intervals.ap_interval(d),
        "threshold": threshold.value,
        "f1": at.f1,
        "precision": at.precision,
        "recall": at.recall,
        "specificity": at.specificity,
        "positives": positives,
        "negatives": len(labels) - positives,
        "unknown": int((~known).sum()),
        **_calibration(labels, scores, owners, temperature, settings.confidence, patients),
        **more,
        "note": "; ".join(notes),
    }


def _calibration(
    labels: NDArray[np.bool_],
    scores: Floats,
    owners: NDArray[np.int64],
    temperature: float | None,
    confidence: float,
    patients: int,
) -> CalibrationMetrics:
    """Calibration before and after the temperature; after is None without one."""
    if not len(labels):
        return _not_calibrated(temperature)
    bins = bins_for(labels)
    curve = calibration.reliability(labels, scores, bins)
    low, high = frequency_band(labels, scores, owners, bins, confidence)
    block: CalibrationMetrics = {
        "ece": curve.error(),
        "ece_width": calibration.expected_calibration_error(labels, scores, bins, binning="width"),
        "brier": calibration.brier_score(labels, scores),
        "temperature": temperature,
        "ece_calibrated": None,
        "ece_width_calibrated": None,
        "brier_calibrated": None,
        "reliability": {
            "score": curve.score.tolist(),
            "frequency": curve.frequency.tolist(),
            "count": curve.count.tolist(),
            "low": low,
            "high": high,
        },
    }
    enough = patients >= MIN_PATIENTS
    summary = summarize_calibration(labels, scores, owners)
    if summary is not None:
        block |= cast("CalibrationMetrics", summary.values(confidence, intervals=enough))
    if temperature is not None:
        scaled = calibration.apply_temperature(scores, temperature)
        block["ece_calibrated"] = calibration.expected_calibration_error(labels, scaled, bins)
        block["ece_width_calibrated"] = calibration.expected_calibration_error(
            labels, scaled, bins, binning="width"
        )
        block["brier_calibrated"] = calibration.brier_score(labels, scaled)
        summary = summarize_calibration(labels, scaled, owners)
        if summary is not None:
            after = summary.values(confidence, intervals=enough)
            block |= cast(
                "CalibrationMetrics",
                {_scaled_name(name): value for name, value in after.items()},
            )
    return block


def _not_calibrated(temperature: float | None) -> CalibrationMetrics:
    """What is said of a class whose label is known of no test image."""
    return {
        "ece": None,
        "ece_width": None,
        "brier": None,
        "temperature": temperature,
        "ece_calibrated": None,
        "ece_width_calibrated": None,
        "brier_calibrated": None,
        "reliability": {"score": [], "frequency": [], "count": [], "low": [], "high": []},
    }


def _scaled_name(name: str) -> str:
    plain = name.removesuffix("_interval")
    return f"{plain}_calibrated{name.removeprefix(plain)}"


def _validation(val: Split) -> ValidationMetrics:
    auc, ap = RankedScores(val.labels, val.scores).auc_and_ap()
    defined = np.isfinite(auc[0])
    return {
        "images": len(val),
        "mean_auc": numeric(mean_over(auc, defined)[0]),
        "mean_ap": numeric(mean_over(ap, defined)[0]),
        "diseases_in_mean": [
            name for name, chosen in zip(val.names, defined, strict=True) if chosen
        ],
        "auc": {name: numeric(value) for name, value in zip(val.names, auc[0], strict=True)},
        "positives": {
            name: int(count) for name, count in zip(val.names, val.positives(), strict=True)
        },
    }


def _warnings(
    diseases: dict[str, DiseaseMetrics],
    means: MeanMetrics,
    val: Split | None,
    settings: EvaluateSettings,
    patients: Mapping[str, int],
) -> list[str]:
    """Say in words what a reader of the numbers must know."""
    warnings = [] if val is not None else ["no validation split: no thresholds, no calibration"]
    learnt = {} if val is None else dict(zip(val.names, map(int, val.positives()), strict=True))
    for name, result in diseases.items():
        if result["auc"] is None:
            warnings.append(f"{name}: {result['note']}; left out of the means")
            continue
        if patients[name] < MIN_PATIENTS:
            warnings.append(
                f"{name}: only {patients[name]} test patients of the rarer class, fewer than "
                f"{MIN_PATIENTS}: no interval"
            )
        if val is not None and result["threshold"] is None:
            warnings.append(f"{name}: {result['note']}")
        elif learnt.get(name, MIN_VALIDATION_POSITIVES) < MIN_VALIDATION_POSITIVES:
            warnings.append(
                f"{name}: threshold, temperature and scaled ECE from only {learnt[name]} "
                "validation positives"
            )
    if not means["diseases_in_mean"]:
        warnings.append("no disease has both positives and negatives in test: no mean AUC")
    elif settings.bootstrap and means["mean_auc_interval"] is None:
        instead = "; see the mean over the frequent diseases" if means["mean_auc_20"] else ""
        warnings.append(
            f"mean AUC: no interval, because a disease has fewer than {MIN_PATIENTS} test patients "
            f"of the rarer class{instead}"
        )
    return warnings
