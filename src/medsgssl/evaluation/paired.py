"""Comparison of two runs on the same images: per disease, and of the mean AUC."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medsgssl.config.schema import EvaluateSettings
from medsgssl.errors import DataError
from medsgssl.evaluation.bootstrap import Interval, interval, patient_counts
from medsgssl.evaluation.delong import AucTest, compare_aucs, holm
from medsgssl.evaluation.metrics import mean_over
from medsgssl.evaluation.predictions import Predictions, Split, differing_rows, label_columns
from medsgssl.evaluation.resampled_auc import Floats, RankedScores


@dataclass(frozen=True)
class MeanDifference:
    """Difference ``a - b`` of the mean AUC, its interval and two-sided p value."""

    difference: float
    interval: Interval
    p: float | None


def bootstrap_p(draws: Floats) -> float | None:
    """Return the two-sided p value of "the difference is zero" from bootstrap differences.

    It inverts the percentile interval: p < 1 - confidence exactly when the interval excludes
    zero, up to the one added to numerator and denominator, which keeps p above zero
    (Davison and Hinkley, "Bootstrap methods and their application", 1997, equation 4.11).

    Args:
        draws: ``(R,)`` differences, NaN where undefined.
    """
    kept = draws[np.isfinite(draws)]
    if len(kept) == 0:
        return None
    side = min(int((kept <= 0).sum()), int((kept >= 0).sum()))
    return min(1.0, 2 * (side + 1) / (len(kept) + 1))


def mean_difference(
    labels: NDArray[np.float32] | NDArray[np.bool_],
    scores_a: Floats,
    scores_b: Floats,
    patients: NDArray[np.int64],
    *,
    resamples: int,
    confidence: float,
    seed: int,
) -> MeanDifference:
    """Compare mean AUCs, both models seeing the same resampled patients.

    Args:
        labels: ``(N, D)`` bool.
        scores_a: ``(N, D)`` of the first model.
        scores_b: ``(N, D)`` of the second.
        patients: ``(N,)`` codes from 0.
        resamples: How many; 0 gives neither interval nor p value.
        confidence: Nominal coverage of the interval.
        seed: Any non-negative integer.

    Raises:
        ValueError: No disease has both classes.
    """
    a, b = RankedScores(labels, scores_a, patients), RankedScores(labels, scores_b, patients)
    gap = a.auc() - b.auc()
    defined = np.isfinite(gap[0])
    if not defined.any():
        raise ValueError("no disease has both positives and negatives")
    difference = float(mean_over(gap, defined)[0])
    if resamples == 0:
        return MeanDifference(difference, Interval(None, None, 0, 0), None)
    counts = patient_counts(a.clusters, resamples, seed)
    draws = mean_over(a.auc(counts) - b.auc(counts), defined)
    found = interval(draws, confidence)
    # Where the interval is refused, a p value from the same draws would be no better.
    return MeanDifference(difference, found, bootstrap_p(draws) if found.pair() else None)


def compare(
    a: Predictions, b: Predictions, settings: EvaluateSettings, seed: int
) -> dict[str, Any]:
    """Compare two runs on their common test split, in JSON form.

    Args:
        a: Predictions of the first run.
        b: Predictions of the second.
        settings: Resamples and confidence.
        seed: Any non-negative integer.

    Returns:
        ``mean_auc_difference`` (a - b), ``interval``, ``p``, ``left_out``, and ``per_disease``
        with ``auc_a``, ``auc_b``, ``difference``, ``interval`` and ``p`` (patients as clusters),
        ``p_holm`` (the same, over the diseases), ``p_delong`` (images as independent), ``note``.

    Raises:
        DataError: The runs differ in their test images, patients or labels.
    """
    first, second = _aligned(a, b)
    tests: dict[str, AucTest | None] = {}
    plain: dict[str, float | None] = {}
    notes: dict[str, str] = {}
    for d, name in enumerate(first.names):
        labels, scores, patients, known = first.column(d)
        columns = labels, scores, second.scores[known, d]
        try:
            tests[name] = compare_aucs(*columns, clusters=patients)
            plain[name] = compare_aucs(*columns).p
        except ValueError as error:
            tests[name], notes[name] = None, str(error)
            plain[name] = None
    corrected = holm({name: None if test is None else test.p for name, test in tests.items()})
    whole = mean_difference(
        first.labels,
        first.scores,
        second.scores,
        first.patients,
        resamples=settings.bootstrap,
        confidence=settings.confidence,
        seed=seed,
    )
    return {
        "mean_auc_difference": whole.difference,
        "interval": whole.interval.pair(),
        "p": whole.p,
        "left_out": whole.interval.left_out,
        "per_disease": {
            name: {
                **_entry(test, settings.confidence),
                "p_holm": corrected[name],
                "p_delong": plain[name],
                "note": notes.get(name, ""),
            }
            for name, test in tests.items()
        },
    }


def _entry(test: AucTest | None, confidence: float) -> dict[str, Any]:
    if test is None:
        return dict.fromkeys(("auc_a", "auc_b", "difference", "interval", "p"))
    return {
        "auc_a": test.auc_a,
        "auc_b": test.auc_b,
        "difference": test.difference,
        "interval": list(test.interval(confidence)),
        "p": test.p,
    }


def _aligned(a: Predictions, b: Predictions) -> tuple[Split, Split]:
    """Bring the second run's test images into the order of the first."""
    first, second = a.split("test"), b.split("test")
    left = first.table.set_index("image_id")
    right = second.table.set_index("image_id")
    apart = left.index.symmetric_difference(right.index)
    if len(apart):
        raise DataError(
            f"{a.origin} and {b.origin} differ in {len(apart)} test images ({apart[0]})",
            "compare runs evaluated on the same test split",
        )
    right = right.loc[left.index]
    if first.names != second.names:
        raise DataError(
            f"{a.origin} and {b.origin} score other classes: {', '.join(first.names)} and "
            f"{', '.join(second.names)}",
            "compare runs made from the same catalog",
        )
    for column in ("patient_id", *label_columns(first.names)):
        differing = differing_rows(left[column], right[column])
        if differing:
            raise DataError(
                f"{a.origin} and {b.origin} differ in {column} of {differing} test images",
                "compare runs made from the same catalog",
            )
    return first, Split.of(right.reset_index())
