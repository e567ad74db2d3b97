"""AUC and average precision with each patient left out in turn.

The images of one patient resemble each other, so the patient is the unit. What a patient's absence
changes is that patient's influence; influences of several runs on the same patients are added or
subtracted like the statistics themselves, so every combination of runs has its variance without
any further resampling.

Sources:
    Efron and Stein, "The jackknife estimate of variance", Annals of Statistics 9, 1981 (its
    estimate is too large rather than too small).
    Arvesen, "Jackknifing U-statistics", Annals of Mathematical Statistics 40, 1969 (the AUC).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medsgssl.evaluation.resampled_auc import Floats, RankedDisease


@dataclass(frozen=True)
class Statistic:
    """A number computed from the test images.

    Attributes:
        value: Of all images; NaN where it is undefined.
        influences: ``(P,)`` of the patients: they sum to zero over the patients who have an image
            in it, and their squares sum to its variance over patients. NaN where leaving out
            some patient leaves nothing to compute.
    """

    value: float
    influences: Floats

    def __sub__(self, other: Statistic) -> Statistic:
        return Statistic(self.value - other.value, self.influences - other.influences)


class JackknifedScores:
    """One run's scores of one set of images, each patient left out in turn.

    Args:
        labels: ``(N, D)`` of 0 and 1, NaN where a label is unknown: the image then has no part in
            that disease.
        scores: ``(N, D)`` finite, higher means more likely positive.
        patients: ``(N,)`` codes in [0, count).
        count: ``P``, codes in use; patients without an image here have no influence.
    """

    def __init__(
        self,
        labels: NDArray[np.float32] | NDArray[np.bool_],
        scores: Floats,
        patients: NDArray[np.int64],
        count: int,
    ) -> None:
        self._labels, self._scores, self._patients = labels, scores, patients
        self._count = count
        self._aucs: dict[int, Statistic] = {}
        self._aps: dict[int, Statistic] = {}

    def auc_of(self, d: int) -> Statistic:
        """AUC of one disease."""
        if d not in self._aucs:
            self._aucs[d] = _auc(*self._disease(d), self._count)
        return self._aucs[d]

    def ap_of(self, d: int) -> Statistic:
        """Average precision of one disease."""
        if d not in self._aps:
            self._aps[d] = _ap(*self._disease(d), self._count)
        return self._aps[d]

    @property
    def auc(self) -> Floats:
        """``(D,)`` AUCs, NaN where undefined."""
        return np.array([self.auc_of(d).value for d in range(self._labels.shape[1])])

    @property
    def ap(self) -> Floats:
        """``(D,)`` average precisions, NaN where undefined."""
        return np.array([self.ap_of(d).value for d in range(self._labels.shape[1])])

    def mean_auc(self, among: NDArray[np.bool_]) -> Statistic:
        """Mean AUC over the ``(D,)`` selected diseases; undefined where one of them is."""
        return _mean([self.auc_of(d) for d in map(int, np.flatnonzero(among))], self._count)

    def mean_ap(self, among: NDArray[np.bool_]) -> Statistic:
        """Mean average precision over the ``(D,)`` selected diseases."""
        return _mean([self.ap_of(d) for d in map(int, np.flatnonzero(among))], self._count)

    def _disease(self, d: int) -> tuple[NDArray[np.bool_], Floats, NDArray[np.int64]]:
        labels = self._labels[:, d]
        known = np.isfinite(labels)
        if known.all():
            return labels == 1, self._scores[:, d], self._patients
        return self._labels[known, d] == 1, self._scores[known, d], self._patients[known]


def _mean(chosen: list[Statistic], count: int) -> Statistic:
    if not chosen:
        return Statistic(float("nan"), np.full(count, np.nan))
    return Statistic(
        float(np.mean([one.value for one in chosen])),
        np.mean([one.influences for one in chosen], axis=0),
    )


def _auc(
    labels: NDArray[np.bool_], scores: Floats, patients: NDArray[np.int64], count: int
) -> Statistic:
    """Mann-Whitney statistic, ties one half, without each patient: totals minus the patient's."""
    m, n = int(labels.sum()), int((~labels).sum())
    if not m or not n:
        return Statistic(float("nan"), np.full(count, np.nan))
    order = np.argsort(scores)
    scores, labels, patients = scores[order], labels[order], patients[order]
    won, beaten = _pairs_won(scores, labels)
    positives = np.bincount(patients[labels], minlength=count)
    negatives = np.bincount(patients[~labels], minlength=count)
    # Each pair of an image with one of the other class, half for ties: a patient's own pairs are
    # subtracted with both of their images, so they are added back once.
    total = float(won[labels].sum())
    involved = np.bincount(patients, weights=np.where(labels, won, beaten), minlength=count)
    within = _within(scores, labels, patients, (positives > 0) & (negatives > 0))
    pairs = (m - positives) * (n - negatives)
    left_out = np.divide(
        total - involved + within, pairs, out=np.full(count, np.nan), where=pairs > 0
    )
    return Statistic(total / (m * n), influences_of(left_out, positives + negatives > 0))


def _pairs_won(scores: Floats, labels: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """Return the negatives below, and the positives above, each image of ascending scores."""
    below: NDArray[np.int64] = np.cumsum(~labels) - ~labels
    above = labels.sum() - np.cumsum(labels)
    starts = _starts(scores[1:] != scores[:-1])
    if len(starts) == len(scores):
        return below.astype(float), above.astype(float)
    sizes = np.diff(starts, append=len(scores))
    group = np.repeat(np.arange(len(starts)), sizes)
    negative: Floats = np.add.reduceat(~labels, starts, dtype=float)[group]
    positive: Floats = np.add.reduceat(labels, starts, dtype=float)[group]
    last = (starts + sizes - 1)[group]
    return below[starts[group]] + negative / 2, above[last] + positive / 2


def _within(
    scores: Floats, labels: NDArray[np.bool_], patients: NDArray[np.int64], mixed: NDArray[np.bool_]
) -> Floats:
    """Return ``(P,)`` won pairs whose positive and negative are of the same patient.

    Args:
        scores: ``(N,)`` ascending.
        labels: ``(N,)``.
        patients: ``(N,)``.
        mixed: ``(P,)`` patients with images of both classes.
    """
    rows = np.flatnonzero(mixed[patients])
    if not len(rows):
        return np.zeros(len(mixed))
    # By patient, then by score; unlike a stable sort this one is vectorized.
    rows = rows[np.argsort(patients[rows] * len(rows) + np.arange(len(rows)))]
    scores, labels, owner = scores[rows], labels[rows], patients[rows]
    first: NDArray[np.intp] = _starts(owner[1:] != owner[:-1])
    sizes = np.diff(first, append=len(owner))
    below: NDArray[np.int64] = np.cumsum(~labels) - ~labels
    won: Floats = (below - np.repeat(below[first], sizes)).astype(float)
    starts = _starts((owner[1:] != owner[:-1]) | (scores[1:] != scores[:-1]))
    if len(starts) < len(owner):
        group = np.repeat(np.arange(len(starts)), np.diff(starts, append=len(owner)))
        tied: Floats = np.add.reduceat(~labels, starts, dtype=float)[group]
        won = np.asarray(won[starts][group] + tied / 2)
    return np.bincount(owner[labels], weights=won[labels], minlength=len(mixed)).astype(float)


def _starts(changes: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Return where groups of equal neighbors begin; ``changes`` is of each pair of neighbors."""
    mask = np.ones(len(changes) + 1, bool)
    mask[1:] = changes
    return np.flatnonzero(mask)


def _ap(
    labels: NDArray[np.bool_], scores: Floats, patients: NDArray[np.int64], count: int
) -> Statistic:
    ranked = RankedDisease.build(labels, scores, patients, count)
    value = float(ranked.auc_and_ap(np.ones((count, 1)))[1][0])
    left_out = np.empty(count)
    block = 64  # columns together, so that memory stays small
    for start in range(0, count, block):
        weights = np.ones((count, min(block, count - start)))
        weights[np.arange(start, start + weights.shape[1]), np.arange(weights.shape[1])] = 0
        left_out[start : start + weights.shape[1]] = ranked.auc_and_ap(weights)[1]
    present = np.bincount(patients, minlength=count) > 0
    return Statistic(value, influences_of(left_out, present))


def influences_of(left_out: Floats, present: NDArray[np.bool_]) -> Floats:
    """Turn the values without each patient into influences, scaled as ``Statistic`` says.

    Args:
        left_out: ``(P,)`` values without each patient.
        present: ``(P,)`` whether the patient has an image in the statistic.
    """
    total = int(present.sum())
    if total < 2:
        return np.full(len(left_out), np.nan)
    scale = np.sqrt((total - 1) / total)
    centered = scale * (left_out[present].mean() - left_out)
    return np.where(present, centered, 0.0)
