"""Intervals of one run's AUC and average precision: Student's t over patients left out in turn.

The images of one patient resemble each other, so the patient is the unit. On real patients these
intervals cover 95 %; percentiles of a patient bootstrap, with standard errors a tenth too small,
covered 92 % (``make simulations`` has the structure). Those of the average precision are symmetric
on the logit scale, see ``Effect.skewed_interval``; percentiles covered 92 % there, BCa 90 %.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from medsgssl.evaluation.effects import Effect, average
from medsgssl.evaluation.few_patients import MIN_PATIENTS, count_patients
from medsgssl.evaluation.jackknife import JackknifedScores, Statistic
from medsgssl.evaluation.resampled_auc import Floats

Ends = list[float]


class RunIntervals:
    """AUC and average precision of every disease, with intervals where enough patients bear them.

    Args:
        labels: ``(N, D)`` of 0 and 1, NaN where a label is unknown.
        scores: ``(N, D)`` float64.
        patients: ``(N,)`` codes from 0.
        confidence: Nominal coverage.
        wanted: Whether intervals are wanted at all; they take most of the time.

    Attributes:
        auc: ``(D,)``, NaN where undefined.
        ap: ``(D,)`` likewise.
        enough: ``(D,)`` diseases with ``MIN_PATIENTS`` patients of either class.
    """

    def __init__(
        self,
        labels: NDArray[np.float32],
        scores: Floats,
        patients: NDArray[np.int64],
        confidence: float,
        *,
        wanted: bool = True,
    ) -> None:
        count = int(patients.max()) + 1
        self._scores = JackknifedScores(labels, scores, patients, count)
        self._level = 1 - confidence
        self._wanted = wanted
        self._fewest = np.minimum(*count_patients(labels, patients, count))
        self.enough: NDArray[np.bool_] = self._fewest >= MIN_PATIENTS
        self.auc = self._scores.auc
        self.ap = self._scores.ap

    def auc_interval(self, d: int) -> Ends | None:
        """Interval of one disease's AUC."""
        return self._interval(self._scores.auc_of(d), self._fewest[d]) if self.enough[d] else None

    def ap_interval(self, d: int) -> Ends | None:
        """Interval of one disease's average precision."""
        if not self.enough[d] or not self._wanted:
            return None
        effect = _effect(self._scores.ap_of(d), self._fewest[d])
        return _ends(effect.skewed_interval(self._level))

    def mean_auc_interval(self, among: NDArray[np.bool_]) -> Ends | None:
        """Interval of the mean AUC over the ``(D,)`` selected diseases."""
        if not among.any() or (among & ~self.enough).any():
            return None
        return self._interval(self._scores.mean_auc(among), np.inf)

    def _interval(self, statistic: Statistic, fewest: float) -> Ends | None:
        if not self._wanted:
            return None
        return _ends(_effect(statistic, fewest).interval(self._level))


def _effect(statistic: Statistic, fewest: float) -> Effect:
    return average([statistic], difference=False, max_patient_df=max(fewest - 1, 1))


def _ends(interval: tuple[float, float] | None) -> Ends | None:
    return None if interval is None else [max(0.0, interval[0]), min(1.0, interval[1])]
