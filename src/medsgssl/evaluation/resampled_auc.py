"""Exact AUC and average precision of many weighted resamples at once.

The scores of a disease are sorted once. A resample only changes how often each cluster (patient)
counts, so both statistics become sparse products: positives per cluster at each distinct positive
score, and negatives per cluster between neighboring ones. Work and memory follow the number of
positives, which is small for most diseases, and not the number of images.

The patient bootstrap tells which epochs of fine-tuning are equal within noise. The intervals that
are reported leave patients out in turn instead: ``intervals.py`` for a run, ``effects.py`` for a
study.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from medsgssl.utils.rng import generator

Floats = NDArray[np.float64]

# Resamples handled together: wide enough for the inner loops, narrow enough for the cache.
_BLOCK = 32


def patient_counts(
    patients: int, resamples: int, seed: int, purpose: str = "evaluation.bootstrap"
) -> NDArray[np.uint16]:
    """Draw how often each patient occurs in each resample of the patient bootstrap.

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


@dataclass(frozen=True)
class RankedDisease:
    """One disease, sorted and added up by cluster.

    With ``m`` distinct scores ``u_0 < ... < u_{m-1}`` of positives and ``C`` clusters:

    Attributes:
        positives: ``(m, C)``; positives of the cluster whose score is ``u_k``.
        gaps: ``(m, C)``; negatives of the cluster with ``u_{k-1} <= score < u_k``.
        ties: ``(t, C)``; negatives whose score is exactly ``u_k``, for the ``t`` rows below.
        tied: ``(t,)`` the rows ``k`` that have ties.
        negatives: ``(C,)`` negatives of each cluster.
    """

    positives: sparse.csr_array
    gaps: sparse.csr_array
    ties: sparse.csr_array
    tied: NDArray[np.int64]
    negatives: Floats

    @classmethod
    def build(
        cls,
        labels: NDArray[np.bool_],
        scores: Floats,
        clusters: NDArray[np.int64],
        count: int,
    ) -> RankedDisease:
        """Sort one disease.

        Args:
            labels: ``(N,)`` bool.
            scores: ``(N,)`` finite, higher means more likely positive.
            clusters: ``(N,)`` integers in [0, count).
            count: Number of clusters.
        """
        levels, rows = np.unique(scores[labels], return_inverse=True)
        negative, owners = scores[~labels], clusters[~labels]
        above = np.searchsorted(levels, negative, side="right")
        # Negatives at or above the highest positive score are below none.
        inside = above < len(levels)
        level = np.maximum(above - 1, 0)
        equal = (above > 0) & (negative == levels[level]) if len(levels) else inside
        tied, tie_rows = np.unique(level[equal], return_inverse=True)
        return cls(
            positives=_tally(rows, clusters[labels], (len(levels), count)),
            gaps=_tally(above[inside], owners[inside], (len(levels), count)),
            ties=_tally(tie_rows, owners[equal], (len(tied), count)),
            tied=tied.astype(np.int64),
            negatives=np.bincount(owners, minlength=count).astype(np.float64),
        )

    def auc(self, weights: Floats) -> Floats:
        """Return the weighted Mann-Whitney statistic, ties counting one half.

        Args:
            weights: ``(C, R)`` non-negative; exact for integers, as everything is a half-integer.

        Returns:
            ``(R,)`` in [0, 1]; NaN where the resample has no positive or no negative.
        """
        positive, below = self._counts(weights)
        return self._auc(positive, below, weights)

    def auc_and_ap(self, weights: Floats) -> tuple[Floats, Floats]:
        """Return AUC and average precision, ``(R,)`` each, NaN where undefined.

        Average precision is the sum of precision times the step in recall over the distinct
        thresholds, without interpolation. It is called undefined without negatives too, where
        it would be 1 whatever the scores.
        """
        positive, below = self._counts(weights)
        total, negatives = positive.sum(axis=0), self.negatives @ weights
        true = np.cumsum(positive[::-1], axis=0)[::-1]
        flagged = true + (negatives - below)
        precision = np.divide(true, flagged, out=np.zeros_like(true), where=flagged > 0)
        area = np.einsum("kr,kr->r", positive, precision)
        defined = (total > 0) & (negatives > 0)
        ap = np.divide(area, total, out=np.full_like(area, np.nan), where=defined)
        return self._auc(positive, below, weights), ap

    def _counts(self, weights: Floats) -> tuple[Floats, Floats]:
        """Weight of the positives at, and of the negatives strictly below, each ``u_k``."""
        below = self.gaps @ weights
        np.cumsum(below, axis=0, out=below)
        return self.positives @ weights, below

    def _auc(self, positive: Floats, below: Floats, weights: Floats) -> Floats:
        won: Floats = np.einsum("kr,kr->r", positive, below)
        if len(self.tied):
            won += 0.5 * np.einsum("kr,kr->r", positive[self.tied], self.ties @ weights)
        pairs = positive.sum(axis=0) * (self.negatives @ weights)
        auc: Floats = np.divide(won, pairs, out=np.full_like(won, np.nan), where=pairs > 0)
        return auc


def _tally(
    rows: NDArray[np.intp], columns: NDArray[np.int64], shape: tuple[int, int]
) -> sparse.csr_array:
    """Count (row, column) pairs into a sparse matrix; repeated pairs add up."""
    ones = np.ones(len(rows), dtype=np.float64)
    return sparse.csr_array(sparse.coo_array((ones, (rows, columns)), shape=shape))


class RankedScores:
    """All diseases of one set of images, ready for resampling.

    Args:
        labels: ``(N, D)`` of 0 and 1; NaN where a label is unknown: the image then has no part
            in that disease.
        scores: ``(N, D)`` finite numbers.
        clusters: ``(N,)`` integers from 0, e.g. patient codes; None makes each image its own.
    """

    def __init__(
        self, labels: ArrayLike, scores: ArrayLike, clusters: NDArray[np.int64] | None = None
    ) -> None:
        truth = np.asarray(labels, dtype=np.float32)
        values = np.asarray(scores, dtype=np.float64)
        if truth.ndim != 2 or truth.shape != values.shape:
            raise ValueError(f"labels {truth.shape} and scores {values.shape} must be (N, D)")
        codes = np.arange(len(truth)) if clusters is None else clusters
        if codes.shape != truth.shape[:1]:
            raise ValueError(f"clusters {codes.shape} do not fit {len(truth)} images")
        self.clusters = int(codes.max()) + 1 if len(codes) else 0
        known = np.isfinite(truth)
        self.diseases = [
            RankedDisease.build(
                truth[known[:, d], d] == 1, values[known[:, d], d], codes[known[:, d]],
                self.clusters,
            )
            for d in range(truth.shape[1])
        ]  # fmt: skip

    def auc(self, counts: ArrayLike | None = None) -> Floats:
        """Return ``(R, D)`` AUCs of ``(R, C)`` multiplicities; None is the data as they are."""
        parts = [
            np.stack([disease.auc(weights) for disease in self.diseases], axis=-1)
            for weights in self._blocks(counts)
        ]
        return np.concatenate(parts)

    def auc_and_ap(self, counts: ArrayLike | None = None) -> tuple[Floats, Floats]:
        """Return AUC and average precision, ``(R, D)`` each, NaN where undefined."""
        parts = [
            np.array([disease.auc_and_ap(weights) for disease in self.diseases])
            for weights in self._blocks(counts)
        ]
        both = np.concatenate(parts, axis=-1)
        return both[:, 0].T, both[:, 1].T

    def _blocks(self, counts: ArrayLike | None) -> Iterator[Floats]:
        rows = np.ones((1, self.clusters)) if counts is None else np.asarray(counts)
        if rows.ndim != 2 or rows.shape[1] != self.clusters:
            raise ValueError(f"counts {rows.shape} must be (R, {self.clusters})")
        for start in range(0, len(rows), _BLOCK):
            yield np.ascontiguousarray(rows[start : start + _BLOCK].T, dtype=np.float64)
