"""Calibration in numbers with intervals over patients: skill, slope, intercept, debiased error.

Sources:
    Cox, "Two further applications of a model for binary regression", Biometrika 45, 1958, and
    Van Calster et al., "A calibration hierarchy for risk models was defined", Journal of Clinical
    Epidemiology 74, 2016 (slope; intercept at slope 1).
    Kumar, Liang and Ma, "Verified uncertainty calibration", NeurIPS 2019 (debiased error).
    Huber, "The behavior of maximum likelihood estimates under nonstandard conditions", 1967
    (variances with patients as clusters).
    Wilson, "Probable inference, the law of succession, and statistical inference", Journal of the
    American Statistical Association 22, 1927 (shares; an interval holds the values whose own
    variance explains what was observed).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from medsgssl.evaluation.calibration import bin_of, logit
from medsgssl.evaluation.effects import average, effective_patients
from medsgssl.evaluation.jackknife import Statistic, influences_of
from medsgssl.evaluation.resampled_auc import Floats

#: Images of the rarer class that a bin must hold on average, and the most bins.
_PER_BIN = 10
_MOST_BINS = 15
_STEPS = 50
#: Names to numbers and their intervals, as ``metrics.json`` holds them.
Values = dict[str, float | list[float] | None]


@dataclass(frozen=True)
class SquaredGap(Statistic):
    """Mean square gap between score and frequency, the part that is chance subtracted.

    The variance of such a square grows with it: ``at_zero + slope * square``. An interval from the
    observed square alone ends too low where the square came out small, and covered 91 %.

    Attributes:
        at_zero: Variance where scores are frequencies.
        slope: By how much it grows with the square.
        max_df: Upper limit of the degrees of freedom.
    """

    at_zero: float
    slope: float
    max_df: float

    def interval(self, level: float) -> tuple[float, float] | None:
        """Return the squares that a test at ``level`` does not reject, as Wilson's for a share."""
        df = min(effective_patients(self.influences), self.max_df)
        if not np.isfinite([self.value, self.at_zero, self.slope, df]).all():
            return None
        squared_t = float(special.stdtrit(max(df, 1.0), 1 - level / 2)) ** 2
        middle = self.value + squared_t * self.slope / 2
        product = self.value**2 - squared_t * self.at_zero
        reach = float(np.sqrt(max(0.0, middle**2 - product)))
        return max(0.0, middle - reach), max(0.0, middle + reach)


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
        ece_debiased: Square of the root mean square gap between score and frequency of the bins,
            what chance alone puts there subtracted.
    """

    brier_skill: Statistic
    calibration_slope: Statistic | None
    calibration_intercept: Statistic | None
    ece_debiased: SquaredGap

    def values(self, confidence: float, *, intervals: bool) -> Values:
        """Return each number and its interval, ``NAME`` and ``NAME_interval``.

        Args:
            confidence: Nominal coverage.
            intervals: Whether there are enough patients for slope, intercept, error and intervals.
        """
        metrics: Values = {}
        for name in ("brier_skill", "calibration_slope", "calibration_intercept", "ece_debiased"):
            one: Statistic | None = getattr(self, name)
            defined = one is not None and (intervals or name == "brier_skill")
            ends = None
            if defined and intervals and one is not None:
                whole = one if isinstance(one, SquaredGap) else average([one], difference=False)
                ends = whole.interval(1 - confidence)
            value = one.value if defined and one is not None else None
            if name == "ece_debiased" and value is not None:  # until here the square
                value = float(np.sqrt(max(0.0, value)))
                ends = None if ends is None else (_root(ends[0]), _root(ends[1]))
            metrics[name] = value
            metrics[f"{name}_interval"] = None if ends is None else [*ends]
        return metrics


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
    patient_sums = np.stack([np.bincount(codes, weights=part) for part in parts])
    total = parts.sum(axis=1, keepdims=True)

    def skill(sums: Floats) -> Floats:
        share = sums[1] / sums[0]
        chance = share * (1 - share)
        values: Floats = 1 - np.divide(
            sums[2] / sums[0], chance, out=np.full_like(chance, np.nan), where=chance > 0
        )
        return values

    left_out = skill(total - patient_sums)
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
    patient_sums = np.stack(
        [
            [np.bincount(codes, weights=weights * left * right) for right in columns.T]
            for left in columns.T
        ]
    ).transpose(2, 0, 1)
    try:
        steps = np.linalg.solve(information - patient_sums, by_patient[:, :, None])[:, -1, 0]
    except np.linalg.LinAlgError:  # some patient alone tells the coefficients
        return None
    present = np.ones(len(by_patient), bool)
    return Statistic(float(beta[-1]), influences_of(beta[-1] - steps, present))


def _squared_error(truth: Floats, scores: Floats, codes: NDArray[np.intp], bins: int) -> SquaredGap:
    numbers, index = np.unique(bin_of(scores, bins), return_inverse=True)
    size, count = len(numbers), int(codes.max()) + 1
    cells = codes * size + index
    patient_sums = np.stack(
        [
            np.bincount(cells, weights=part, minlength=count * size).reshape(count, size)
            for part in (np.ones_like(truth), scores - truth)
        ]
    )
    images, sums = patient_sums.sum(axis=1)
    weight, gap = images / images.sum(), sums / images

    # Chance moves the gaps of bins by what patients add to them, images of one together.
    moves = (patient_sums[1] - patient_sums[0] * gap) / images
    noise = moves.T @ moves * (count / max(1, count - 1))
    weighted = weight[:, None] * noise
    raw = float(weight @ gap**2)
    linear = 4 * float((weight * gap) @ noise @ (weight * gap))

    rest = patient_sums.sum(axis=1, keepdims=True) - patient_sums
    squares = np.divide(rest[1] ** 2, rest[0], out=np.zeros_like(rest[0]), where=rest[0] > 0)
    left_out = squares.sum(axis=1) / rest[0].sum(axis=1)
    patients = [len(np.unique(codes[truth == one])) for one in (0, 1)]
    return SquaredGap(
        value=raw - float(np.trace(weighted)),
        influences=influences_of(left_out, np.ones(count, bool)),
        at_zero=2 * float((weighted * weighted.T).sum()),
        slope=linear / raw if raw > 0 else 0.0,
        max_df=min(patients) - 1,
    )


def frequency_band(
    labels: NDArray[np.bool_],
    scores: Floats,
    patients: NDArray[np.int64],
    bins: int,
    confidence: float,
) -> tuple[list[float], list[float]]:
    """Return the band of the share of positives in each bin of ``reliability``.

    Wilson's interval with as many images as would be as uncertain if they were of different
    patients, and Student's t for as many patients as decide it.

    Args:
        labels: ``(N,)`` bool.
        scores: ``(N,)`` probabilities.
        patients: ``(N,)`` codes.
        bins: How many bins at most.
        confidence: Nominal coverage of each bin's part of the band.
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
        df = max(1.0, min(float(codes.max()), effective_patients(residuals.astype(float))))
        z = float(special.stdtrit(df, (1 + confidence) / 2))
        if variance > 0:
            count = min(count, share * (1 - share) / variance)
        else:
            count = float(codes.max()) + 1
        middle = (share + z**2 / (2 * count)) / (1 + z**2 / count)
        half = z * np.sqrt(share * (1 - share) / count + z**2 / (4 * count**2)) / (1 + z**2 / count)
        low.append(float(middle - half))
        high.append(float(middle + half))
    return low, high
