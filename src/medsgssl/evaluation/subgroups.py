"""Results by sex, age and view position, and the audit of shortcuts.

Portable (AP) X-rays are taken of sicker patients: the view position alone predicts some diseases,
and a model that reads it scores well without reading the lungs. The AUC within AP and within PA
cannot profit from that.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from medsgssl.config.schema import EvaluateSettings
from medsgssl.evaluation.effects import average, effective_patients
from medsgssl.evaluation.few_patients import MIN_PATIENTS, class_patients
from medsgssl.evaluation.intervals import RunIntervals
from medsgssl.evaluation.jackknife import JackknifedScores
from medsgssl.evaluation.metrics import mean_over
from medsgssl.evaluation.predictions import Split
from medsgssl.evaluation.resampled_auc import Floats
from medsgssl.runs.metrics_file import GroupMetrics, MeanMetrics, Shortcut

AGE_BANDS = (("0-17", 0, 17), ("18-39", 18, 39), ("40-59", 40, 59), ("60-79", 60, 79))
OLDEST = "80+"


def numeric(value: float) -> float | None:
    """Return a number for JSON: None for NaN."""
    return float(value) if np.isfinite(value) else None


def mean_block(split: Split, intervals: RunIntervals) -> MeanMetrics:
    """Return the means over all defined diseases and over those with enough patients.

    The latter (``_20``) have at least ``MIN_PATIENTS`` patients with a positive and as many with a
    negative image. A mean is None where no disease qualifies, and has no interval where one of its
    diseases has too few patients.
    """
    defined = np.isfinite(intervals.auc)
    frequent = defined & intervals.enough
    return {
        "mean_ap": _mean(intervals.ap, defined),
        "mean_auc": _mean(intervals.auc, defined),
        "mean_auc_interval": intervals.mean_auc_interval(defined),
        "diseases_in_mean": _chosen(split, defined),
        "mean_auc_20": _mean(intervals.auc, frequent),
        "mean_auc_20_interval": intervals.mean_auc_interval(frequent),
        "diseases_in_mean_20": _chosen(split, frequent),
    }


def _mean(values: Floats, among: NDArray[np.bool_]) -> float | None:
    return numeric(mean_over(values[None], among)[0])


def _chosen(split: Split, among: NDArray[np.bool_]) -> list[str]:
    return [name for name, chosen in zip(split.names, among, strict=True) if chosen]


def groups_of(split: Split) -> dict[str, dict[str, NDArray[np.bool_]]]:
    """Return the images of each subgroup as ``(N,)`` masks: ``sex``, ``age``, ``view_position``.

    Groups without images are left out, and so are images whose value is unknown.
    """
    sex, view_position = split.table["sex"].to_numpy(), split.table["view_position"].to_numpy()
    age = split.table["age"].to_numpy(dtype=np.float64, na_value=np.nan)
    bands = {name: (age >= low) & (age <= high) for name, low, high in AGE_BANDS}
    bands[OLDEST] = age > AGE_BANDS[-1][2]
    groups_by_kind = {
        "sex": {name: sex == name for name in ("F", "M")},
        "age": bands,
        "view_position": {name: view_position == name for name in ("AP", "PA", "LATERAL")},
    }
    return {
        kind: {name: keep for name, keep in groups.items() if keep.any()}
        for kind, groups in groups_by_kind.items()
    }


def subgroup_results(
    split: Split, settings: EvaluateSettings
) -> dict[str, dict[str, GroupMetrics]]:
    """Return the AUCs of each subgroup with intervals over patients, in JSON form.

    Args:
        split: The test images.
        settings: Confidence, and whether there are intervals.

    Returns:
        The metrics by kind of group and name of the group.
    """
    return {
        kind: {name: _group(split.where(keep), settings) for name, keep in sorted(groups.items())}
        for kind, groups in groups_of(split).items()
    }


def _group(part: Split, settings: EvaluateSettings) -> GroupMetrics:
    intervals = RunIntervals(
        part.labels,
        part.scores,
        part.patients,
        settings.confidence,
        wanted=settings.bootstrap > 0,
    )
    return {
        "images": len(part),
        "patients": int(part.patients.max()) + 1,
        **mean_block(part, intervals),
        "per_disease": {
            name: {
                "auc": numeric(intervals.auc[d]),
                "auc_interval": intervals.auc_interval(d),
                "positives": int((part.labels[:, d] == 1).sum()),
            }
            for d, name in enumerate(part.names)
        },
    }


def shortcut_audit(
    split: Split, follow_up: pd.Series | None = None, confidence: float = 0.95
) -> dict[str, Shortcut]:
    """Return how well attributes outside the lungs predict each disease, each one alone.

    Args:
        split: The images.
        follow_up: Follow-up numbers by image id, e.g. from the catalog. Without them they are
            read from names of the NIH form (``00000013_005.png``).
        confidence: Of the intervals over patients.

    Returns:
        For ``view_position`` (AP against PA), ``sex`` (M against F), ``age`` and ``follow_up``:
        ``images`` with a known value, ``auc.{disease}`` and its interval. Above 0.5 the disease
        goes with AP, men, age or later images, below with the opposite; 0.5 is no information.
    """
    names = split.table["image_id"]
    if follow_up is None:
        later = pd.to_numeric(names.str.extract(r"^\d{8}_(\d{3})\.\w+$")[0])
    else:
        later = names.map(follow_up)
    attributes = {
        "view_position": split.table["view_position"].map({"AP": 1, "PA": 0}),
        "sex": split.table["sex"].map({"M": 1, "F": 0}),
        "age": split.table["age"],
        "follow_up": later,
    }
    return {
        name: _predicted_by(split, values.to_numpy(dtype=np.float64, na_value=np.nan), confidence)
        for name, values in attributes.items()
    }


def _predicted_by(split: Split, values: Floats, confidence: float) -> Shortcut:
    known = np.isfinite(values)
    repeated = np.repeat(values[known, None], len(split.names), axis=1)
    count = int(split.patients.max()) + 1
    intervals = JackknifedScores(split.labels[known], repeated, split.patients[known], count)
    aucs = [intervals.auc_of(d) for d in range(len(split.names))]
    fewest = np.minimum(*class_patients(split, known))
    # A fact such as the view position has few values: one patient with many images can decide.
    limits = [
        max(1.0, min(count - 1, effective_patients(one.influences)))
        for one, count in zip(aucs, map(int, fewest), strict=True)
    ]
    ends = [
        average([one], difference=False, max_patient_df=limit).interval(1 - confidence)
        if count >= MIN_PATIENTS
        else None
        for one, count, limit in zip(aucs, map(int, fewest), limits, strict=True)
    ]
    return {
        "images": int(known.sum()),
        "auc": {name: numeric(one.value) for name, one in zip(split.names, aucs, strict=True)},
        "auc_interval": {
            name: None if pair is None else [max(0.0, pair[0]), min(1.0, pair[1])]
            for name, pair in zip(split.names, ends, strict=True)
        },
    }
