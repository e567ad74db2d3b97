"""Calibration in numbers with intervals over patients: skill, slope, intercept, debiased error.

Sources:
    Cox, "Two further applications of a model for binary regression", Biometrika 45, 1958, and
    Van Calster et al., "A calibration hierarchy for risk models was defined", Journal of Clinical
    Epidemiology 74, 2016 (slope; intercept at slope 1).
    Kumar, Liang and Ma, "Verified uncertainty calibration", NeurIPS 2019 (debiased error).
    Huber, "The behavior of maximum likelihood estimates under nonstandard conditions", 1967
    (variances with patients as clusters).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from medsgssl.evaluation.calibration import bin_of, logit
from medsgssl.evaluation.effects import average
from medsgssl.evaluation.jackknife import Statistic, influences_of
from medsgssl.evaluation.resampled_auc import Floats

#: Images of the rarer class that a bin must hold on average, and the most bins.
_PER_BIN = 10
_MOST_BINS = 15
_STEPS = 50
#: Names to numbers and their intervals, as ``metrics.json`` holds them.
Values = dict[str, float | list[float] | None]


@dataclass(frozen=True)
class CalibrationSummary:
    """How probabilities of one disease relate to its frequency.

    Attributes:
        brier_skill: 1 minus the Brier score relative to that of the prevalence for everyone: 1 is
            perfect, 0 no better than the prevalence.
        calibration_slope: Of a logistic regression of the label on the logit of the score; 1 is
            right, below 1 the scores are too extreme.
        calibration_intercept: Of the same with the slope held at 1; 0 is right, below 0 the scores
            are too high.
        ece_debiased: Root mean square gap between score and frequency of the bins, what chance
            alone puts there subtracted.
    """

    brier_skill: Statistic
    calibration_slope: Statistic | None
    calibration_intercept: Statistic | None
    ece_debiased: Statistic

    def values(self, confidence: float, *, intervals: bool) -> Values:
        """Return each number and its interval, ``NAME`` and ``NAME_interval``.

        Args:
            confidence: Nominal coverage.
            intervals: Whether there are enough patients for slope, intercept, error and intervals.
        """
        found: Values = {}
        for name in ("brier_skill", "calibration_slope", "calibration_intercept", "ece_debiased"):
            one: Statistic | None = getattr(self, name)
            told = one is not None and (intervals or name == "brier_skill")
            ends = None
            if told and intervals and one is not None:
                ends = average([one], difference=False).interval(1 - confidence)
            value = one.value if told and one is not None else None
            if name == "ece_debiased" and value is not None:  # until here the square
                value = float(np.sqrt(max(0.0, value)))
                ends = None if ends is None else (_root(ends[0]), _root(ends[1]))
            found[name] = value
            found[f"{name}_interval"] = None if ends is None else [*ends]
        return found


def _root(square: float) -> float:
    return float(np.sqrt(max(0.0, square)))


def bins_for(labels: NDArray[np.bool_]) -> int:
    """Return how many bins the images of one disease bear."""
    rarer = min(int(labels.sum()), int((~labels).sum()))
    return int(np.clip(rarer // _PER_BIN, 1, _MOST_BINS))


def summarize_calibration(
    labels: NDArray[np.bool_], scores: Floats, patients: NDArray[np.int64]
) -> CalibrationSummary | None:
    """Summarize the calibration of one disease; None where a class is absent.

    Args:
        labels: ``(N,)`` bool.
        scores: ``(N,)`` probabilities in [0, 1].
        patients: ``(N,)`` codes.
    """
    if labels.all() or not labels.any():
        return None
    _, codes = np.unique(patients, return_inverse=True)
    truth = labels.astype(float)
    logits = logit(scores)
    ones = np.ones_like(logits)
    slope = _logistic(truth, np.stack([ones, logits], axis=1), np.zeros_like(logits), codes)
    return CalibrationSummary(
        brier_skill=_skill(truth, scores, codes),
        calibration_slope=slope,
        calibration_intercept=_logistic(truth, ones[:, None], logits, codes),
        ece_debiased=_squared_error(truth, scores, codes, bins_for(labels)),
    )


def _skill(truth: Floats, scores: Floats, codes: NDArray[np.intp]) -> Statistic:
    parts = np.stack([np.ones_like(truth), truth, (scores - truth) ** 2])
    own = np.stack([np.bincount(codes, weights=part) for part in parts])
    total = parts.sum(axis=1, keepdims=True)

    def skill(sums: Floats) -> Floats:
        share = sums[1] / sums[0]
        chance = share * (1 - share)
        values: Floats = 1 - np.divide(
            sums[2] / sums[0], chance, out=np.full_like(chance, np.nan), where=chance > 0
        )
        return values

    left_out = skill(total - own)
    return Statistic(float(skill(total)[0]), influences_of(left_out, np.ones(len(left_out), bool)))


def _logistic(
    truth: Floats, columns: Floats, offset: Floats, codes: NDArray[np.intp]
) -> Statistic | None:
    """Fit by Newton's method and return the last coefficient; None where classes are separated.

    A full step can overshoot where scores are extreme, so steps are halved until the likelihood
    does not fall.
    """
    beta = np.zeros(columns.shape[1])

    def likelihood(at: Floats) -> float:
        linear = columns @ at + offset
        return float(truth @ linear - np.logaddexp(0, linear).sum())

    reached = likelihood(beta)
    for _ in range(_STEPS):
        chance = special.expit(columns @ beta + offset)
        weights = chance * (1 - chance)
        information = columns.T @ (weights[:, None] * columns)
        if not np.isfinite(information).all() or np.linalg.cond(information) > 1e12:
            return None
        step = np.linalg.solve(information, columns.T @ (truth - chance))
        tried = likelihood(beta + step)
        while not tried >= reached - 1e-9 and np.abs(step).max() > 1e-10:
            step = step / 2
            tried = likelihood(beta + step)
        beta, reached = beta + step, tried
        if np.abs(step).max() < 1e-10:
            break
    else:
        return None
    scores = (truth - chance)[:, None] * columns
    by_patient = np.stack([np.bincount(codes, weights=column) for column in scores.T], axis=1)
    # One Newton step without each patient: sandwich variances without it are too small where a few
    # patients have many images.
    own = np.stack(
        [
            [np.bincount(codes, weights=weights * left * right) for right in columns.T]
            for left in columns.T
        ]
    ).transpose(2, 0, 1)
    try:
        steps = np.linalg.solve(information - own, by_patient[:, :, None])[:, -1, 0]
    except np.linalg.LinAlgError:  # some patient alone tells the coefficients
        return None
    present = np.ones(len(by_patient), bool)
    return Statistic(float(beta[-1]), influences_of(beta[-1] - steps, present))


def _squared_error(truth: Floats, scores: Floats, codes: NDArray[np.intp], bins: int) -> Statistic:
    index = bin_of(scores, bins)
    size = int(index.max()) + 1
    count = int(codes.max()) + 1
    cells = codes * size + index
    parts = [np.ones_like(truth), truth, scores]
    own = np.stack(
        [np.bincount(cells, weights=part, minlength=count * size) for part in parts]
    ).reshape(3, count, size)
    total = own.sum(axis=1, keepdims=True)

    def error(sums: Floats) -> Floats:
        n, positive, score = sums
        with np.errstate(divide="ignore", invalid="ignore"):
            share = positive / n
            square = (score / n - share) ** 2 - share * (1 - share) / (n - 1)
        square = np.where(n > 1, square, 0.0)
        values: Floats = (n * square).sum(axis=1) / n.sum(axis=1)
        return values

    left_out = error(total - own)
    return Statistic(float(error(total)[0]), influences_of(left_out, np.ones(count, bool)))


def frequency_band(
    labels: NDArray[np.bool_], scores: Floats, patients: NDArray[np.int64], bins: int, z: float
) -> tuple[list[float], list[float]]:
    """Return the band of the share of positives in each bin of ``reliability``.

    Wilson's interval with as many images as would be as uncertain if they were of different
    patients.

    Args:
        labels: ``(N,)`` bool.
        scores: ``(N,)`` probabilities.
        patients: ``(N,)`` codes.
        bins: How many bins at most.
        z: Normal quantile of the band.
    """
    index = bin_of(scores, bins)
    low, high = [], []
    for number in np.unique(index):
        inside = index == number
        _, codes = np.unique(patients[inside], return_inverse=True)
        truth = labels[inside].astype(float)
        share, count = float(truth.mean()), float(len(truth))
        residuals = np.bincount(codes, weights=truth - share)
        variance = float((residuals**2).sum()) / count**2
        if variance > 0:
            count = min(count, share * (1 - share) / variance)
        else:
            count = float(codes.max()) + 1
        middle = (share + z**2 / (2 * count)) / (1 + z**2 / count)
        half = z * np.sqrt(share * (1 - share) / count + z**2 / (4 * count**2)) / (1 + z**2 / count)
        low.append(float(middle - half))
        high.append(float(middle + half))
    return low, high
