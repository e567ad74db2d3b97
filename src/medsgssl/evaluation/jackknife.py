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

# Pairs within patients are listed up to here: 80 MB.
_MOST_PAIRS = 5_000_000


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
        classes: What was counted from these labels and patients already; runs on the same images
            share it.
    """

    def __init__(
        self,
        labels: NDArray[np.float32] | NDArray[np.bool_],
        scores: Floats,
        patients: NDArray[np.int64],
        count: int,
        classes: dict[int, Classes] | None = None,
    ) -> None:
        self._labels, self._scores, self._patients = labels, scores, patients
        self._count = count
        self._classes = {} if classes is None else classes
        self._aucs: dict[int, Statistic] = {}
        self._aps: dict[int, Statistic] = {}

    def auc_of(self, d: int) -> Statistic:
        """AUC of one disease."""
        if d not in self._aucs:
            self._aucs[d] = self._classes_of(d).auc(self._scores[:, d])
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

    def _classes_of(self, d: int) -> Classes:
        if d not in self._classes:
            self._classes[d] = Classes.of(self._labels[:, d], self._patients, self._count)
        return self._classes[d]

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


@dataclass(frozen=True)
class Classes:
    """What the AUC of one disease needs of labels and patients, whatever the scores.

    Attributes:
        known: ``(N,)`` images whose label is known; None for all.
        labels: ``(n,)`` of them.
        patients: ``(n,)`` likewise.
        present: ``(P,)`` patients with such an image.
        pairs: ``(P,)`` pairs of images of either class without the patient's; NaN for none.
        within: Positive and negative image, and patient, of each pair within a patient; None where
            they are too many to list.
    """

    known: NDArray[np.bool_] | None
    labels: NDArray[np.bool_]
    patients: NDArray[np.int64]
    present: NDArray[np.bool_]
    pairs: Floats
    within: tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.int64]] | None

    @classmethod
    def of(
        cls,
        labels: NDArray[np.float32] | NDArray[np.bool_],
        patients: NDArray[np.int64],
        count: int,
    ) -> Classes:
        """Count the classes of one disease; arguments as of ``JackknifedScores``."""
        known: NDArray[np.bool_] | None = np.isfinite(labels)
        if known is not None and known.all():
            known = None
        truth = (labels if known is None else labels[known]) == 1
        owners = patients if known is None else patients[known]
        positives = np.bincount(owners[truth], minlength=count)
        negatives = np.bincount(owners[~truth], minlength=count)
        pairs = (truth.sum() - positives) * ((~truth).sum() - negatives)
        return cls(
            known,
            truth,
            owners,
            positives + negatives > 0,
            np.where(pairs > 0, pairs, np.nan),
            _pairs_within(truth, owners, positives * negatives),
        )

    def auc(self, scores: Floats) -> Statistic:
        """Mann-Whitney statistic, ties one half, without each patient: totals minus the patient's.

        Args:
            scores: ``(N,)``.
        """
        count, m = len(self.present), int(self.labels.sum())
        n = len(self.labels) - m
        if not m or not n:
            return Statistic(float("nan"), np.full(count, np.nan))
        scores = scores if self.known is None else scores[self.known]
        order = np.argsort(scores)
        ascending, labels, patients = scores[order], self.labels[order], self.patients[order]
        won, beaten = _pairs_won(ascending, labels)
        # Each pair of an image with one of the other class, half for ties: a patient's own pairs
        # are subtracted with both of their images, so they are added back once.
        involved = np.bincount(patients, weights=np.where(labels, won, beaten), minlength=count)
        total = float(involved.sum()) / 2
        within: Floats
        if self.within is None:
            positives = np.bincount(patients[labels], minlength=count)
            negatives = np.bincount(patients[~labels], minlength=count)
            mixed = (positives > 0) & (negatives > 0)
            within = _within(ascending, labels, patients, mixed)
        else:
            high, low, owners = self.within
            above = (scores[high] > scores[low]) + 0.5 * (scores[high] == scores[low])
            within = np.bincount(owners, weights=above, minlength=count).astype(float)
        left_out = (total - involved + within) / self.pairs
        return Statistic(total / (m * n), influences_of(left_out, self.present))


def _pairs_within(
    labels: NDArray[np.bool_], patients: NDArray[np.int64], sizes: NDArray[np.int64]
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.int64]] | None:
    """List the pairs of a positive and a negative image of the same patient."""
    if int(sizes.sum()) > _MOST_PAIRS:
        return None
    high, low, owners = [], [], []
    for patient in np.flatnonzero(sizes):
        images = np.flatnonzero(patients == patient)
        positive, negative = images[labels[images]], images[~labels[images]]
        high.append(np.repeat(positive, len(negative)))
        low.append(np.tile(negative, len(positive)))
        owners.append(np.full(len(high[-1]), patient))
    if not high:
        none = np.empty(0, np.intp)
        return none, none, none
    return np.concatenate(high), np.concatenate(low), np.concatenate(owners)


def _pairs_won(scores: Floats, labels: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """Return the negatives below, and the positives above, each image of ascending scores."""
    below: NDArray[np.int64] = np.cumsum(~labels) - ~labels
    above = labels.sum() - np.cumsum(labels)
    if not (scores[1:] == scores[:-1]).any():
        return below.astype(float), above.astype(float)
    starts = _starts(scores[1:] != scores[:-1])
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
        mixed: ``(P,)`` patients with images of both classes, at least one.
    """
    rows = np.flatnonzero(mixed[patients])
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


def mean_by_patient(
    values: NDArray[np.float64], patients: NDArray[np.int64], count: int
) -> Statistic:
    """Return the mean of ``(N,)`` values, those that are NaN left out, over patients.

    Args:
        values: ``(N,)``.
        patients: ``(N,)`` codes in [0, count).
        count: ``P``.
    """
    known = np.isfinite(values)
    if not known.any():
        return Statistic(float("nan"), np.full(count, np.nan))
    owners = patients[known]
    sums = np.bincount(owners, weights=values[known], minlength=count)
    sizes = np.bincount(owners, minlength=count)
    rest = sizes.sum() - sizes
    left_out = np.divide(sums.sum() - sums, rest, out=np.full(count, np.nan), where=rest > 0)
    return Statistic(float(values[known].mean()), influences_of(left_out, sizes > 0))
