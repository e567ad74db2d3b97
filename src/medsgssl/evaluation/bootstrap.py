"""Bootstrap intervals that resample patients, not images.

The images of one patient resemble each other; resampling images as if they were independent
makes intervals too narrow. Source of the intervals: Efron and Tibshirani, "An introduction to
the bootstrap", 1993, chapters 13 (percentile) and 14 (BCa).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from medsgssl.evaluation.metrics import mean_over
from medsgssl.evaluation.resampled_auc import Floats, RankedScores
from medsgssl.utils.rng import generator

Method = Literal["percentile", "bca"]

# An interval is refused when a larger share of resamples is undefined: what remains is then
# conditional on the very patients that make the statistic defined. Two positive patients are
# both missed in 13.5 % of the resamples, three in 5 %.
MAX_LEFT_OUT = 0.1


@dataclass(frozen=True)
class Interval:
    """A bootstrap interval.

    Attributes:
        low: Lower end, None where no interval can be given.
        high: Upper end, likewise.
        resamples: How many were drawn.
        left_out: How many of them were undefined (no positives or no negatives).
    """

    low: float | None
    high: float | None
    resamples: int
    left_out: int

    def pair(self) -> list[float] | None:
        """Return ``[low, high]`` for JSON, or None."""
        return None if self.low is None or self.high is None else [self.low, self.high]


def patient_counts(
    patients: int, resamples: int, seed: int, purpose: str = "evaluation.bootstrap"
) -> NDArray[np.uint16]:
    """Draw how often each patient occurs in each resample.

    Resample ``r`` depends on (seed, purpose, r) alone, so asking for more resamples keeps the
    first ones, and two runs on the same patients are resampled alike.

    Returns:
        ``(resamples, patients)`` uint16; each row sums to ``patients``.
    """
    counts = np.empty((resamples, patients), dtype=np.uint16)
    for r in range(resamples):
        drawn = generator(seed, purpose, r).integers(patients, size=patients)
        counts[r] = np.bincount(drawn, minlength=patients)
    return counts


def interval(
    values: Floats,
    confidence: float,
    *,
    estimate: float | None = None,
    jackknife: Floats | None = None,
) -> Interval:
    """Turn the resampled values of one statistic into an interval.

    Args:
        values: ``(R,)`` resampled statistics, NaN where undefined.
        confidence: Nominal coverage in (0, 1).
        estimate: The statistic of the data as they are; BCa needs it.
        jackknife: ``(C,)`` the statistic without each cluster in turn; its presence asks for
            BCa, else the percentile interval is given.

    Returns:
        The interval; its ends are None when more than ``MAX_LEFT_OUT`` of the resamples are
        undefined, or there are none.
    """
    kept = values[np.isfinite(values)]
    left_out = len(values) - len(kept)
    if len(kept) == 0 or left_out > MAX_LEFT_OUT * len(values):
        return Interval(None, None, len(values), left_out)
    tail = (1 - confidence) / 2
    levels = np.array([tail, 1 - tail])
    if jackknife is not None and estimate is not None:
        levels = _bca_levels(levels, kept, estimate, jackknife[np.isfinite(jackknife)])
    low, high = np.quantile(kept, levels)
    return Interval(float(low), float(high), len(values), left_out)


def _bca_levels(levels: Floats, values: Floats, estimate: float, jackknife: Floats) -> Floats:
    """Correct the quantile levels for bias and acceleration (equations 14.10, 14.14, 14.15)."""
    # Counting ties as half keeps the correction zero for a symmetric discrete distribution.
    share = np.mean(values < estimate) + 0.5 * np.mean(values == estimate)
    deviation = jackknife.mean() - jackknife
    scale = float((deviation**2).sum()) ** 1.5
    if not 0 < share < 1 or scale == 0:
        return levels
    bias = stats.norm.ppf(share)
    acceleration = float((deviation**3).sum()) / (6 * scale)
    shifted = bias + stats.norm.ppf(levels)
    corrected: Floats = stats.norm.cdf(bias + shifted / (1 - acceleration * shifted))
    return corrected


@dataclass(frozen=True)
class Resampled:
    """AUC and average precision of the data and of all their resamples.

    Attributes:
        auc: ``(D,)`` of the data, NaN where undefined.
        ap: ``(D,)`` likewise.
        auc_draws: ``(R, D)`` of the resamples.
        ap_draws: ``(R, D)`` likewise.
        auc_jackknife: ``(C, D)`` without each patient in turn; None without BCa.
        ap_jackknife: ``(C, D)`` likewise.
    """

    auc: Floats
    ap: Floats
    auc_draws: Floats
    ap_draws: Floats
    auc_jackknife: Floats | None = None
    ap_jackknife: Floats | None = None

    def auc_interval(self, disease: int, confidence: float) -> Interval:
        """Interval of one disease's AUC."""
        return _column(self.auc, self.auc_draws, self.auc_jackknife, disease, confidence)

    def ap_interval(self, disease: int, confidence: float) -> Interval:
        """Interval of one disease's average precision."""
        return _column(self.ap, self.ap_draws, self.ap_jackknife, disease, confidence)

    def mean_auc_interval(self, among: NDArray[np.bool_], confidence: float) -> Interval:
        """Interval of the mean AUC over the ``(D,)`` selected diseases."""
        draws = mean_over(self.auc_draws, among)
        left_out = None if self.auc_jackknife is None else mean_over(self.auc_jackknife, among)
        point = float(mean_over(self.auc[None], among)[0])
        return interval(draws, confidence, estimate=point, jackknife=left_out)


def _column(
    point: Floats, draws: Floats, jackknife: Floats | None, disease: int, confidence: float
) -> Interval:
    return interval(
        draws[:, disease],
        confidence,
        estimate=float(point[disease]),
        jackknife=None if jackknife is None else jackknife[:, disease],
    )


def resample(
    labels: NDArray[np.float32] | NDArray[np.bool_],
    scores: Floats,
    patients: NDArray[np.int64],
    *,
    resamples: int,
    seed: int,
    method: Method = "percentile",
) -> Resampled:
    """Resample patients and compute AUC and average precision of every disease.

    Args:
        labels: ``(N, D)`` of 0 and 1, NaN where a label is unknown.
        scores: ``(N, D)`` float64.
        patients: ``(N,)`` codes 0..P-1.
        resamples: How many; 0 gives the point values alone.
        seed: Any non-negative integer.
        method: ``"bca"`` adds the jackknife over patients, P more evaluations.
    """
    ranked = RankedScores(labels, scores, patients)
    auc, ap = ranked.auc_and_ap()
    count = ranked.clusters
    if resamples:
        auc_draws, ap_draws = ranked.auc_and_ap(patient_counts(count, resamples, seed))
    else:
        auc_draws = ap_draws = np.empty((0, labels.shape[1]))
    if method == "percentile":
        return Resampled(auc[0], ap[0], auc_draws, ap_draws)
    one_out = np.ones((count, count), dtype=np.uint8) - np.eye(count, dtype=np.uint8)
    return Resampled(auc[0], ap[0], auc_draws, ap_draws, *ranked.auc_and_ap(one_out))
