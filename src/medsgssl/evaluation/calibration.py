"""Calibration: do images scored 0.3 have the disease in three of ten cases?

Sources:
    Guo, Pleiss, Sun and Weinberger, "On calibration of modern neural networks", ICML 2017.
    Nixon et al., "Measuring calibration in deep learning", CVPR workshops 2019 (equal-mass bins).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special

from medsgssl.evaluation.resampled_auc import Floats

Binning = Literal["mass", "width"]

# Probabilities of exactly 0 or 1 have no logit; single precision does not resolve closer to 1.
_EDGE = 1e-7
_LOG_TEMPERATURES = (np.log(0.01), np.log(100.0))


@dataclass(frozen=True)
class Reliability:
    """A reliability curve, one entry per bin that holds images.

    Attributes:
        score: Mean score of the bin.
        frequency: Share of positives in the bin.
        count: Images in the bin.
    """

    score: Floats
    frequency: Floats
    count: NDArray[np.int64]

    def error(self) -> float:
        """Return the expected calibration error: the mean gap, bins weighted by their images."""
        gaps = np.abs(self.score - self.frequency)
        return float(np.average(gaps, weights=self.count))


def reliability(
    labels: NDArray[np.bool_], scores: Floats, bins: int = 15, binning: Binning = "mass"
) -> Reliability:
    """Bin the images of one disease by score.

    Args:
        labels: ``(N,)`` bool, N > 0.
        scores: ``(N,)`` probabilities in [0, 1].
        bins: How many at most.
        binning: ``"mass"``: about equally many images per bin, tied scores kept together, so
            fewer bins where ties abound. ``"width"``: equally wide bins of [0, 1], empty ones
            dropped.
    """
    index = bin_of(scores, bins, binning)
    count = np.bincount(index)
    filled = count > 0
    score = np.bincount(index, weights=scores, minlength=len(count))[filled] / count[filled]
    positive = np.bincount(index, weights=labels, minlength=len(count))[filled]
    return Reliability(score, positive / count[filled], count[filled].astype(np.int64))


def bin_of(scores: Floats, bins: int, binning: Binning = "mass") -> NDArray[np.intp]:
    """Return the number of the bin of each score, as ``reliability`` bins them."""
    if binning == "mass":
        inner = np.unique(np.quantile(scores, np.arange(1, bins) / bins))
    else:
        inner = np.arange(1, bins) / bins
    # A score on an edge goes to the upper bin.
    return np.searchsorted(inner, scores, side="right")


def expected_calibration_error(
    labels: NDArray[np.bool_], scores: Floats, bins: int = 15, binning: Binning = "mass"
) -> float:
    """Return the expected calibration error of one disease, in [0, 1]; see ``reliability``."""
    return reliability(labels, scores, bins, binning).error()


def brier_score(labels: NDArray[np.bool_], scores: Floats) -> float:
    """Return the mean squared distance of ``(N,)`` probabilities from the labels, in [0, 1].

    Source: Brier, "Verification of forecasts expressed in terms of probability", 1950 (the
    two-class form, half of the original).
    """
    return float(np.mean((scores - labels) ** 2))


def fit_temperature(val_labels: NDArray[np.bool_], val_scores: Floats) -> float | None:
    """Find the temperature that minimizes the log loss of one disease on validation.

    Args:
        val_labels: ``(N,)`` bool of the validation split.
        val_scores: ``(N,)`` probabilities.

    Returns:
        The temperature in (0.01, 100), or None where validation lacks a class.
    """
    if val_labels.all() or not val_labels.any():
        return None
    logits = logit(val_scores)
    signed = np.where(val_labels, logits, -logits)

    def loss(log_temperature: float) -> float:
        return float(np.mean(np.logaddexp(0, -signed * np.exp(-log_temperature))))

    # The loss is convex in 1/T, hence has one minimum in log T too.
    optimum = optimize.minimize_scalar(
        loss, bounds=_LOG_TEMPERATURES, method="bounded", options={"xatol": 1e-6}
    )
    return float(np.exp(optimum.x))


def apply_temperature(scores: Floats, temperature: float) -> Floats:
    """Return the probabilities at another temperature; their order stays."""
    scaled: Floats = special.expit(logit(scores) / temperature)
    return scaled


def logit(scores: Floats) -> Floats:
    """Return the logits of probabilities, finite for 0 and 1 too."""
    logits: Floats = special.logit(np.clip(scores, _EDGE, 1 - _EDGE))
    return logits
