"""Decision thresholds from validation data, and what they do on other data.

``choose`` takes validation arrays and nothing else, so test labels cannot reach it.
An image is called positive when its score is at least the threshold (``>=``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from medsgssl.evaluation.resampled_auc import Floats

Aim = Literal["f1", "sensitivity", "specificity"]


@dataclass(frozen=True)
class Threshold:
    """A threshold or the reason why there is none.

    Attributes:
        value: One of the validation scores; None where none can be chosen.
        note: Why there is none; empty otherwise.
    """

    value: float | None
    note: str = ""


@dataclass(frozen=True)
class Rates:
    """How a threshold does; None where the denominator is zero."""

    f1: float | None
    precision: float | None
    recall: float | None
    specificity: float | None


def choose(
    val_labels: NDArray[np.bool_], val_scores: Floats, aim: Aim = "f1", target: float = 0.9
) -> Threshold:
    """Choose the threshold of one disease on validation.

    Candidates are the distinct validation scores, so images with tied scores are never parted.

    Args:
        val_labels: ``(N,)`` bool.
        val_scores: ``(N,)`` finite scores.
        aim: ``"f1"``: the largest F1, and of equal ones the highest threshold (fewest false
            alarms). ``"sensitivity"``: the highest threshold that reaches the target.
            ``"specificity"``: the lowest threshold that reaches the target.
        target: Sensitivity or specificity to reach, in (0, 1); unused for F1.

    Returns:
        A threshold without a value where validation has no positives, no negatives, or so many
        tied scores that the target specificity is out of reach.
    """
    positives, negatives = int(val_labels.sum()), int((~val_labels).sum())
    if positives == 0 or negatives == 0:
        return Threshold(None, f"no {'negatives' if positives else 'positives'} in validation")
    candidates, level = np.unique(val_scores, return_inverse=True)
    # Images flagged at each candidate: all those at this score or above.
    true = _at_least(level[val_labels], len(candidates))
    false = _at_least(level[~val_labels], len(candidates))
    if aim == "f1":
        f1 = 2 * true / (true + false + positives)
        # Reversed, because argmax returns the first of equal values.
        return Threshold(float(candidates[::-1][np.argmax(f1[::-1])]))
    if aim == "sensitivity":
        reached = np.flatnonzero(true / positives >= target)
        return Threshold(float(candidates[reached[-1]]))
    reached = np.flatnonzero((negatives - false) / negatives >= target)
    if len(reached) == 0:
        return Threshold(None, f"specificity {target:g} is out of reach: tied scores in validation")
    return Threshold(float(candidates[reached[0]]))


def _at_least(levels: NDArray[np.intp], count: int) -> NDArray[np.int64]:
    """Count, for each of ``count`` levels, the images at that level or above."""
    tally = np.bincount(levels, minlength=count)
    return np.cumsum(tally[::-1])[::-1].astype(np.int64)


def rates(labels: NDArray[np.bool_], scores: Floats, threshold: float | None) -> Rates:
    """Apply a threshold to any images.

    Args:
        labels: ``(N,)`` bool.
        scores: ``(N,)`` scores.
        threshold: As chosen on validation; None makes every rate None.

    Returns:
        Precision is None when nothing is flagged, recall and F1 without positives, specificity
        without negatives.
    """
    if threshold is None:
        return Rates(None, None, None, None)
    flagged = scores >= threshold
    true = int((flagged & labels).sum())
    false = int((flagged & ~labels).sum())
    positives, negatives = int(labels.sum()), int((~labels).sum())
    return Rates(
        f1=_ratio(2 * true, true + false + positives) if positives else None,
        precision=_ratio(true, true + false),
        recall=_ratio(true, positives),
        specificity=_ratio(negatives - false, negatives),
    )


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None
