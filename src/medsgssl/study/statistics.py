"""Estimates of one set of test images: resampled once per run, then combined at will.

Every run is resampled with the same patients, so any difference of runs is a paired one. Over
seeds the components of variance of ``evaluation.seeds`` are used; of one run each, the percentile
interval of the patient bootstrap (``evaluation.paired``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from medsgssl.evaluation.bootstrap import MAX_LEFT_OUT, interval, patient_counts
from medsgssl.evaluation.metrics import mean_over
from medsgssl.evaluation.paired import bootstrap_p
from medsgssl.evaluation.predictions import Split
from medsgssl.evaluation.resampled_auc import Floats, RankedScores
from medsgssl.evaluation.seeds import MethodRuns, interval_over_seeds
from medsgssl.evaluation.subgroups import MIN_POSITIVES

#: A statistic of one run: its value, and ``(R,)`` values of the resamples, NaN where undefined.
Statistic = tuple[float, Floats]
Chosen = NDArray[np.bool_]


@dataclass(frozen=True)
class BootstrapDraws:
    """AUC and average precision of one run: ``(D,)``, and ``(R, D)`` of the resamples."""

    auc: Floats
    ap: Floats
    auc_draws: Floats
    ap_draws: Floats

    def mean_auc(self, among: Chosen) -> Statistic:
        """Mean AUC over the ``(D,)`` selected diseases."""
        return _mean(self.auc, self.auc_draws, among)

    def mean_ap(self, among: Chosen) -> Statistic:
        """Mean average precision over the ``(D,)`` selected diseases."""
        return _mean(self.ap, self.ap_draws, among)

    def disease_auc(self, disease: int) -> Statistic:
        """AUC of one disease."""
        return float(self.auc[disease]), self.auc_draws[:, disease]

    def disease_ap(self, disease: int) -> Statistic:
        """Average precision of one disease."""
        return float(self.ap[disease]), self.ap_draws[:, disease]


@dataclass(frozen=True)
class Estimate:
    """A number with its uncertainty.

    Attributes:
        value: Mean over the seeds; None where it is undefined.
        interval: Low and high end; None where no interval can be given.
        sd: Standard deviation between the seeds, None with one of them.
        p: Two-sided p value of its being zero; for differences alone.
        seeds_included: Whether the interval holds the variance of training seeds.
    """

    value: float | None
    interval: tuple[float, float] | None = None
    sd: float | None = None
    p: float | None = None
    seeds_included: bool = False

    def columns(self, name: str) -> dict[str, float | None]:
        """Return the columns of a table that hold it: ``name``, ``name_low``, ``name_high``."""
        low, high = self.interval or (None, None)
        return {name: self.value, f"{name}_low": low, f"{name}_high": high}


class ResampledTestSet:
    """The common test images, and the resamples of their patients.

    Args:
        test: The images.
        resamples: How many.
        confidence: Nominal coverage.
        seed: Any non-negative integer.
    """

    def __init__(self, test: Split, resamples: int, confidence: float, seed: int = 0) -> None:
        self.test = test
        self.resamples = resamples
        self.confidence = confidence
        self.patients = int(test.patients.max()) + 1
        self._counts = patient_counts(self.patients, resamples, seed)

    def drawn(
        self, scores: Floats, rows: Chosen | None = None, resamples: int = -1
    ) -> BootstrapDraws:
        """Resample one run.

        Args:
            scores: ``(N, D)`` of all test images.
            rows: ``(N,)`` the images to look at; None for all. The patients drawn are the same
                for every choice, so choices can be compared with each other.
            resamples: The first so many alone, for side questions; all by default.
        """
        keep = np.ones(len(self.test), bool) if rows is None else rows
        owners = self.test.patients[keep]
        ranked = RankedScores(self.test.labels[keep], scores[keep], owners)
        counts = self._counts[: resamples if resamples >= 0 else None, : ranked.clusters]
        auc, ap = ranked.auc_and_ap()
        return BootstrapDraws(auc[0], ap[0], *ranked.auc_and_ap(counts))

    def defined(self, rows: Chosen | None = None) -> Chosen:
        """Return the ``(D,)`` diseases with both classes among the images."""
        labels = self.test.labels if rows is None else self.test.labels[rows]
        return np.asarray((labels == 1).any(axis=0) & (labels == 0).any(axis=0))

    def frequent(self, rows: Chosen | None = None) -> Chosen:
        """Return those of them with at least ``MIN_POSITIVES`` positives."""
        labels = self.test.labels if rows is None else self.test.labels[rows]
        return np.asarray(self.defined(rows) & ((labels == 1).sum(axis=0) >= MIN_POSITIVES))

    @cached_property
    def headline(self) -> Chosen:
        """The diseases of the mean that verdicts rest on.

        All that are defined; only the frequent ones where a disease is so rare that more than a
        tenth of the resamples lack it, because then the mean of all has no interval.
        """
        defined = self.defined()
        positive = [
            np.unique(self.test.patients[column == 1]) for column in self.test.labels.T[defined]
        ]
        lacking = np.zeros(self.resamples, bool)
        for owners in positive:
            lacking |= ~self._counts[:, owners].any(axis=1)
        if lacking.mean() <= MAX_LEFT_OUT or not self.frequent().any():
            return defined
        return self.frequent()

    def estimate(self, runs: Sequence[Statistic]) -> Estimate:
        """Combine the seeds of one method."""
        found = _runs(runs)
        if not np.isfinite(found.values).all():
            return Estimate(None)
        value = float(found.values.mean())
        sd = float(found.values.std(ddof=1)) if found.several else None
        if not found.several:
            return Estimate(value, _pair(interval(runs[0][1], self.confidence).pair()))
        total = len(runs[0][1])
        draws = found.draws.mean(axis=1)
        spread, _ = interval_over_seeds(value, draws, [found], self.confidence, total)
        return Estimate(value, _pair(spread.pair()), sd, None, seeds_included=True)

    def difference(self, a: Sequence[Statistic], b: Sequence[Statistic]) -> Estimate:
        """Compare two methods: the same patients in both, their seeds independent."""
        first, second = _runs(a), _runs(b)
        value = float(first.values.mean() - second.values.mean())
        if not np.isfinite(value):
            return Estimate(None)
        if not first.several and not second.several:
            draws = a[0][1] - b[0][1]
            found = interval(draws, self.confidence).pair()
            return Estimate(value, _pair(found), p=bootstrap_p(draws) if found else None)
        draws = first.draws.mean(axis=1) - second.draws.mean(axis=1)
        total = len(a[0][1])
        spread, p = interval_over_seeds(value, draws, [first, second], self.confidence, total)
        both = first.several and second.several
        return Estimate(value, _pair(spread.pair()), p=p, seeds_included=both)


def minus(high: Sequence[Statistic], low: Sequence[Statistic]) -> list[Statistic]:
    """Return the change of each run's statistic from one choice of images to another."""
    return [
        (value - other, draws - others)
        for (value, draws), (other, others) in zip(high, low, strict=True)
    ]


def each(
    runs: Sequence[BootstrapDraws], pick: Callable[[BootstrapDraws], Statistic]
) -> list[Statistic]:
    """Pick the same statistic of every run."""
    return [pick(run) for run in runs]


def _mean(point: Floats, draws: Floats, among: Chosen) -> Statistic:
    return float(mean_over(point[None], among)[0]), mean_over(draws, among)


def _runs(runs: Sequence[Statistic]) -> MethodRuns:
    draws = np.stack([found for _, found in runs], axis=1)
    # A resample lacks a disease for all runs or for none: labels and patients decide it.
    return MethodRuns(np.array([value for value, _ in runs]), draws[np.isfinite(draws).all(axis=1)])


def _pair(found: list[float] | None) -> tuple[float, float] | None:
    return None if found is None else (found[0], found[1])
