"""Training seeds as a source of variance, beside the choice of test patients.

An interval from one run's predictions answers "other patients, same weights". A claim about a
method also needs "other seeds". Two components of variance are added: of patients, from the
patient bootstrap of the mean over runs, and of seeds, from the spread between runs divided by
their number. The spread between runs also holds what is due to these patients (each run errs on
others of them); the bootstrap measures that part, and it is taken off so as not to count twice.
The interval is Student's t with Satterthwaite's degrees of freedom.

A bootstrap of three or five seeds was tried first: with the seeds dominating, it called one
comparison in nine of equal methods significant with two seeds, against the nominal one in twenty.

Source: Satterthwaite, "An approximate distribution of estimates of variance components",
Biometrics Bulletin 2, 1946.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from medsgssl.evaluation.bootstrap import MAX_LEFT_OUT, Interval, patient_counts
from medsgssl.evaluation.metrics import mean_over
from medsgssl.evaluation.resampled_auc import Floats, RankedScores


@dataclass(frozen=True)
class SeedSummary:
    """Mean AUC of one method over its seeds.

    Attributes:
        mean: Mean over seeds of the mean AUC over diseases.
        sd: Standard deviation between seeds (``K - 1``), None with one seed.
        values: Mean AUC of each seed.
        interval: Over seeds and patients; with one seed over patients alone.
        seeds_included: Whether the interval includes the variance of seeds.
    """

    mean: float
    sd: float | None
    values: list[float]
    interval: Interval
    seeds_included: bool


@dataclass(frozen=True)
class SeedDifference:
    """Difference ``a - b`` of two methods' mean AUC over seeds and patients.

    ``seeds_included`` is False when a method has one seed only: the interval and p value then
    miss the variance of its seeds.
    """

    difference: float
    interval: Interval
    p: float | None
    seeds_included: bool


@dataclass(frozen=True)
class MethodRuns:
    """Mean AUC of each of ``K`` runs: ``(K,)``, and in each resample of patients ``(R, K)``."""

    values: Floats
    draws: Floats

    @property
    def several(self) -> bool:
        """Whether there is more than one run."""
        return len(self.values) > 1

    def seed_variance(self) -> float:
        """Variance of the mean of the runs as their spread has it."""
        return float(self.values.var(ddof=1)) / len(self.values)

    def patients_share(self) -> float:
        """The part of ``seed_variance`` that is due to the patients drawn."""
        count = len(self.values)
        apart = self.draws - self.draws.mean(axis=1, keepdims=True)
        # Deviations from a mean of K have (K - 1) / K of their variance.
        return float(apart.var(axis=0, ddof=1).mean()) * count / (count - 1) / count


def summarize(
    labels: NDArray[np.bool_],
    runs: Sequence[Floats],
    patients: NDArray[np.int64],
    *,
    resamples: int,
    confidence: float,
    seed: int,
) -> SeedSummary:
    """Summarize one method trained with several seeds.

    Args:
        labels: ``(N, D)`` bool.
        runs: ``K`` arrays ``(N, D)`` of scores, one per seed, for the same images.
        patients: ``(N,)`` codes from 0.
        resamples: Resamples of patients.
        confidence: Nominal coverage.
        seed: Any non-negative integer.

    Raises:
        ValueError: No run is given, or no disease has both classes.
    """
    found = _run_means(labels, runs, patients, resamples, seed)
    mean = float(found.values.mean())
    spread, _ = interval_over_seeds(mean, found.draws.mean(axis=1), [found], confidence, resamples)
    return SeedSummary(
        mean=mean,
        sd=float(found.values.std(ddof=1)) if found.several else None,
        values=[float(value) for value in found.values],
        interval=spread,
        seeds_included=found.several,
    )


def compare_methods(
    labels: NDArray[np.bool_],
    runs_a: Sequence[Floats],
    runs_b: Sequence[Floats],
    patients: NDArray[np.int64],
    *,
    resamples: int,
    confidence: float,
    seed: int,
) -> SeedDifference:
    """Compare two methods: the same resampled patients for both, seeds independent.

    Args:
        labels: ``(N, D)`` bool.
        runs_a: Scores of the first method, one ``(N, D)`` array per seed.
        runs_b: Scores of the second; the numbers of seeds may differ.
        patients: ``(N,)`` codes from 0.
        resamples: Resamples of patients.
        confidence: Nominal coverage.
        seed: Any non-negative integer.

    Raises:
        ValueError: A method has no run, or no disease has both classes.
    """
    a = _run_means(labels, runs_a, patients, resamples, seed)
    b = _run_means(labels, runs_b, patients, resamples, seed)
    difference = float(a.values.mean() - b.values.mean())
    draws = a.draws.mean(axis=1) - b.draws.mean(axis=1)
    spread, p = interval_over_seeds(difference, draws, [a, b], confidence, resamples)
    return SeedDifference(difference, spread, p, seeds_included=a.several and b.several)


def _run_means(
    labels: NDArray[np.bool_],
    runs: Sequence[Floats],
    patients: NDArray[np.int64],
    resamples: int,
    seed: int,
) -> MethodRuns:
    """Compute each run's mean AUC; resamples that lack a disease are left out (NaN in all)."""
    if not runs:
        raise ValueError("no run to summarize")
    counts = patient_counts(int(patients.max()) + 1, resamples, seed)
    values, draws = [], []
    for scores in runs:
        ranked = RankedScores(labels, scores, patients)
        auc = ranked.auc()
        defined = np.isfinite(auc[0])
        if not defined.any():
            raise ValueError("no disease has both positives and negatives")
        values.append(mean_over(auc, defined)[0])
        resampled = ranked.auc(counts) if resamples else np.empty((0, labels.shape[1]))
        draws.append(mean_over(resampled, defined))
    stacked = np.stack(draws, axis=1)
    return MethodRuns(np.array(values), stacked[np.isfinite(stacked).all(axis=1)])


def interval_over_seeds(
    estimate: float, draws: Floats, groups: Sequence[MethodRuns], confidence: float, resamples: int
) -> tuple[Interval, float | None]:
    """Return the t interval of the estimate and the p value of its being zero."""
    left_out = resamples - len(draws)
    if len(draws) < 2 or left_out > MAX_LEFT_OUT * resamples:
        return Interval(None, None, resamples, left_out), None
    several = [group for group in groups if group.several]
    by_runs = sum(group.seed_variance() for group in several)
    by_patients = sum(group.patients_share() for group in several)
    variance = float(draws.var(ddof=1)) + max(0.0, by_runs - by_patients)
    # Of the parts, only the spread between few runs is itself uncertain.
    doubt = sum(group.seed_variance() ** 2 / (len(group.values) - 1) for group in several)
    freedom = variance**2 / doubt if doubt > 0 else np.inf
    # Runs that vary together can push the approximation below what the fewest runs alone have.
    freedom = max(freedom, min((len(group.values) - 1 for group in several), default=1))
    error = float(np.sqrt(variance))
    reach = float(stats.t.ppf(0.5 + confidence / 2, freedom)) * error if error > 0 else 0.0
    found = Interval(estimate - reach, estimate + reach, resamples, left_out)
    if error == 0:
        return found, 1.0 if estimate == 0 else None
    return found, float(2 * stats.t.sf(abs(estimate) / error, freedom))
