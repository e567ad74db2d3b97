"""Everything that is reported of one run, from its predictions alone."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from medsgssl.config.schema import EvaluateSettings
from medsgssl.evaluation import calibration
from medsgssl.evaluation.bootstrap import Resampled, resample
from medsgssl.evaluation.metric_registry import registered_metrics
from medsgssl.evaluation.metrics import mean_over
from medsgssl.evaluation.predictions import Predictions, Split
from medsgssl.evaluation.resampled_auc import Floats, RankedScores
from medsgssl.evaluation.subgroups import (
    MIN_POSITIVES,
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
        settings: Threshold rule, resamples and confidence.
        seed: Seed of the resampling.

    Returns:
        What ``metrics.json`` holds; no number is NaN, absent ones are None.

    Raises:
        DataError: There is no test image.
    """
    test = predictions.split("test")
    val = predictions.split("val") if predictions.has("val") else None
    resampled = resample(
        test.labels, test.scores, test.patients, resamples=settings.bootstrap, seed=seed
    )
    diseases = {
        name: _disease(d, test, val, resampled, settings) for d, name in enumerate(test.names)
    }
    means = mean_block(test, resampled, settings.confidence)
    return {
        "images": len(test),
        "patients": int(test.patients.max()) + 1,
        **means,
        "per_disease": diseases,
        "validation": None if val is None else _validation(val),
        "subgroups": subgroup_results(test, settings, seed),
        "shortcuts": shortcut_audit(test),
        "bootstrap": {
            "method": "percentile",
            "unit": "patient",
            "resamples": settings.bootstrap,
            "confidence": settings.confidence,
            "seed": seed,
        },
        "warnings": _warnings(diseases, means, val is not None, settings),
    }


def _disease(
    d: int, test: Split, val: Split | None, resampled: Resampled, settings: EvaluateSettings
) -> DiseaseMetrics:
    column = test.column(d)
    labels, scores, _, known = column
    positives = int(labels.sum())
    threshold = Threshold(None, "no validation split")
    temperature = None
    if val is not None:
        val_labels, val_scores, _, _ = val.column(d)
        threshold = choose(val_labels, val_scores, settings.threshold, settings.target)
        if settings.calibrate:
            temperature = calibration.fit_temperature(val_labels, val_scores)
    at = rates(labels, scores, threshold.value)
    auc_spread = resampled.auc_interval(d, settings.confidence)
    ap_spread = resampled.ap_interval(d, settings.confidence)
    missing = [
        kind
        for kind, count in (("positives", positives), ("negatives", len(labels) - positives))
        if count == 0
    ]
    notes = [f"no {kind} in test: AUC and AP are undefined" for kind in missing]
    notes += [f"no threshold: {threshold.note}"] if threshold.value is None else []
    more: Any = {
        name: numeric(metric(column, threshold.value))
        for name, metric in registered_metrics().items()
    }
    return {
        "auc": numeric(resampled.auc[d]),
        "auc_interval": auc_spread.pair(),
        "auc_left_out": auc_spread.left_out,
        "ap": numeric(resampled.ap[d]),
        "ap_interval": ap_spread.pair(),
        "ap_left_out": ap_spread.left_out,
        "threshold": threshold.value,
        "f1": at.f1,
        "precision": at.precision,
        "recall": at.recall,
        "specificity": at.specificity,
        "positives": positives,
        "negatives": len(labels) - positives,
        "unknown": int((~known).sum()),
        **_calibration(labels, scores, temperature),
        **more,
        "note": "; ".join(notes),
    }


def _calibration(
    labels: NDArray[np.bool_], scores: Floats, temperature: float | None
) -> CalibrationMetrics:
    """Calibration before and after the temperature; after is None without one."""
    curve = calibration.reliability(labels, scores)
    block: CalibrationMetrics = {
        "ece": curve.error(),
        "ece_width": calibration.expected_calibration_error(labels, scores, binning="width"),
        "brier": calibration.brier_score(labels, scores),
        "temperature": temperature,
        "ece_calibrated": None,
        "ece_width_calibrated": None,
        "brier_calibrated": None,
        "reliability": {
            "score": curve.score.tolist(),
            "frequency": curve.frequency.tolist(),
            "count": curve.count.tolist(),
        },
    }
    if temperature is not None:
        scaled = calibration.apply_temperature(scores, temperature)
        block["ece_calibrated"] = calibration.expected_calibration_error(labels, scaled)
        block["ece_width_calibrated"] = calibration.expected_calibration_error(
            labels, scaled, binning="width"
        )
        block["brier_calibrated"] = calibration.brier_score(labels, scaled)
    return block


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
    has_validation: bool,
    settings: EvaluateSettings,
) -> list[str]:
    """Say in words what a reader of the numbers must know."""
    warnings = [] if has_validation else ["no validation split: no thresholds, no calibration"]
    for name, result in diseases.items():
        if result["auc"] is None:
            warnings.append(f"{name}: {result['note']}; left out of the means")
            continue
        if result["positives"] < MIN_POSITIVES:
            warnings.append(f"{name}: only {result['positives']} positives in test")
        if settings.bootstrap and result["auc_interval"] is None:
            warnings.append(
                f"{name}: no interval, {result['auc_left_out']} of {settings.bootstrap} resamples "
                "have no positives or no negatives"
            )
        if has_validation and result["threshold"] is None:
            warnings.append(f"{name}: {result['note']}")
    if not means["diseases_in_mean"]:
        warnings.append("no disease has both positives and negatives in test: no mean AUC")
    elif settings.bootstrap and means["mean_auc_interval"] is None:
        warnings.append(
            f"mean AUC: no interval, {means['mean_auc_left_out']} of {settings.bootstrap} "
            "resamples lack a disease; see the mean over the frequent diseases"
        )
    return warnings
