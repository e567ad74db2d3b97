"""Estimates on the test images of a study, each patient left out in turn.

Every run is jackknifed with the same patients, so any difference of runs is a paired one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from medsgssl.evaluation.effects import Effect, average
from medsgssl.evaluation.few_patients import (
    MIN_PATIENTS,
    MIN_PATIENTS_PER_FOLD,
    enough_patients,
)
from medsgssl.evaluation.jackknife import Classes, JackknifedScores, Statistic
from medsgssl.evaluation.predictions import Split
from medsgssl.evaluation.resampled_auc import Floats
from medsgssl.evaluation.spread import MIN_REPEATS, Spread, pooled_spread

Chosen = NDArray[np.bool_]


@dataclass(frozen=True)
class PointEstimate:
    """A number with its uncertainty.

    Attributes:
        value: Mean over the seeds or folds; None where it is undefined.
        interval: Low and high end of the interval of this number alone; None where none can be
            given.
        sd: Standard deviation between the seeds or folds, None with one of them.
        p: Two-sided p value of its being zero; for differences of enough seeds or folds alone.
        seeds_included: Whether the interval holds the variance of training.
        repeats: Seeds or folds behind it; of a difference those that both sides have.
    """

    value: float | None
    interval: tuple[float, float] | None = None
    sd: float | None = None
    p: float | None = None
    seeds_included: bool = False
    repeats: int = 0

    def bare(self) -> PointEstimate:
        """Return the number alone, for one that too few patients stand behind."""
        return PointEstimate(self.value, sd=self.sd, repeats=self.repeats)

    def columns(self, name: str) -> dict[str, float | None]:
        """Return the columns of a table that hold it: ``name``, ``name_low``, ``name_high``."""
        low, high = self.interval or (None, None)
        return {name: self.value, f"{name}_low": low, f"{name}_high": high}


class ResampledTestSet:
    """The common test images, each of their patients left out in turn.

    Args:
        tests: The test images of each fold, patients disjoint; a single one where all runs are
            tested on the same images.
        confidence: Nominal coverage of intervals.
        folds: The number of each fold, in the order of ``tests``; empty for seeds.
        primary: ``(D,)`` diseases of the primary mean as the plan fixed them; those with enough
            patients by default.

    Attributes:
        test: All test images together.
        patients: How many patients they are of.
    """

    def __init__(
        self,
        tests: Sequence[Split],
        confidence: float = 0.95,
        *,
        folds: Sequence[int] = (),
        primary: Chosen | None = None,
    ) -> None:
        self.test = tests[0] if len(tests) == 1 else Split.join(tests)
        self.confidence = confidence
        self.folds = tuple(folds)
        self.patients = int(self.test.patients.max()) + 1
        ends = np.cumsum([0, *(len(test) for test in tests)])
        numbers = folds or [0]
        self._rows = {
            number: slice(int(start), int(end))
            for number, start, end in zip(numbers, ends[:-1], ends[1:], strict=True)
        }
        self._primary = primary
        # What is counted from labels and patients alone: all runs on the same images share it.
        self._classes: dict[tuple[int | None, bytes | None], dict[int, Classes]] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """The ``D`` diseases."""
        return self.test.names

    @property
    def level(self) -> float:
        """Allowed probability of an interval missing the true value."""
        return 1 - self.confidence

    def block(self, fold: int | None) -> slice:
        """Return where the images of a fold lie in ``test``."""
        return self._rows[fold or 0] if self.folds else self._rows[0]

    def patients_of(self, fold: int | None) -> Chosen:
        """Return the ``(P,)`` patients that a fold tests."""
        inside = np.zeros(self.patients, bool)
        inside[self.test.patients[self.block(fold)]] = True
        return inside

    def jackknife(
        self, scores: Floats, fold: int | None = None, rows: Chosen | None = None
    ) -> JackknifedScores:
        """Jackknife one run.

        Args:
            scores: ``(N, D)`` of the images that the run was tested on.
            fold: The fold that it was tested on; None for seeds.
            rows: ``(N_all,)`` the images of ``test`` to look at; None for all.
        """
        block = self.block(fold)
        test = self.test
        keep = slice(None) if rows is None else rows[block]
        return JackknifedScores(
            test.labels[block][keep],
            scores[keep],
            test.patients[block][keep],
            self.patients,
            self._classes.setdefault((fold, None if rows is None else rows.tobytes()), {}),
        )

    def defined(self, rows: Chosen | None = None) -> Chosen:
        """Return the ``(D,)`` diseases with both classes among the images (of every fold)."""
        return self._at_least(1, 1, rows)

    def frequent(self, rows: Chosen | None = None) -> Chosen:
        """Return those with enough patients for an interval (and some in every fold)."""
        return self._at_least(MIN_PATIENTS, MIN_PATIENTS_PER_FOLD, rows)

    def _at_least(self, total: int, per_fold: int, rows: Chosen | None) -> Chosen:
        enough = enough_patients(self.test, total, rows)
        if not self.folds:
            return enough
        for block in self._rows.values():
            inside = np.zeros(len(self.test), bool)
            inside[block] = True
            enough &= enough_patients(
                self.test, per_fold, inside if rows is None else inside & rows
            )
        return enough

    @cached_property
    def primary(self) -> Chosen:
        """The ``(D,)`` diseases of the primary mean, from labels alone; may be none."""
        return self.frequent() if self._primary is None else self._primary

    @property
    def judged_on(self) -> Chosen:
        """The diseases of the mean that is shown first: the primary ones, else all defined."""
        return self.primary if self.primary.any() else self.defined()

    def spread(self, arms: Sequence[Mapping[int, Statistic]]) -> Spread | None:
        """Pool the spread of a difference over the arms of a study, given their statistics."""
        return pooled_spread(arms, folds=bool(self.folds))

    def effect(
        self,
        differences: Sequence[Statistic],
        max_patient_df: float = np.inf,
        pooled: Spread | None = None,
    ) -> Effect:
        """Average the differences of two arms over seeds or folds."""
        return average(
            differences, folds=bool(self.folds), pooled=pooled, max_patient_df=max_patient_df
        )

    def estimate(self, repeats: Mapping[int, Statistic], *, skewed: bool = False) -> PointEstimate:
        """Average a statistic of one arm, by seed or fold: a share, from 0 to 1.

        ``skewed``: with the interval for the average precision of one disease.
        """
        if not repeats:
            return PointEstimate(None)
        effect = average(list(repeats.values()), folds=bool(self.folds), difference=False)
        point = self.point(effect, test=False)
        if skewed and point.interval is not None:
            point = replace(point, interval=effect.skewed_interval(self.level))
        if point.interval is None:
            return point
        low, high = point.interval
        return replace(point, interval=(max(0.0, low), min(1.0, high)))

    def difference(
        self,
        a: Mapping[int, Statistic],
        b: Mapping[int, Statistic],
        max_patient_df: float = np.inf,
        pooled: Spread | None = None,
    ) -> PointEstimate:
        """Average the difference of two arms over the seeds or folds that both have."""
        pairs = paired(a, b)
        if not pairs:
            return PointEstimate(None)
        return self.point(self.effect(pairs, max_patient_df, pooled), test=True)

    def point(self, effect: Effect, *, test: bool) -> PointEstimate:
        """Turn an effect into a number with its own interval.

        ``test`` is of a difference: it asks for a p value too, and fewer than ``MIN_REPEATS`` seeds
        or folds bear neither. With one of them the interval would hold patients alone, and a column
        would have two kinds of intervals.
        """
        if not np.isfinite(effect.value):
            return PointEstimate(None)
        several = effect.repeats > 1
        enough = not test or effect.repeats >= MIN_REPEATS
        return PointEstimate(
            value=effect.value,
            interval=effect.interval(self.level) if enough else None,
            sd=float(effect.values.std(ddof=1)) if several else None,
            p=effect.p if test and enough else None,
            seeds_included=several,
            repeats=effect.repeats,
        )


def paired(a: Mapping[int, Statistic], b: Mapping[int, Statistic]) -> list[Statistic]:
    """Return ``a - b`` of each seed or fold that both have."""
    return [a[key] - b[key] for key in sorted(a.keys() & b.keys())]
