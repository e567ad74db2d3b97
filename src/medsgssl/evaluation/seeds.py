"""Training seeds as a source of variance, beside the choice of test patients.

An interval from one run's predictions answers "other patients, same weights". A claim about a
method also needs "other seeds", so both are resampled: patients, and runs within each method.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medsgssl.evaluation.bootstrap import Interval, interval, patient_counts
from medsgssl.evaluation.paired import bootstrap_p
from medsgssl.evaluation.ranking import Floats, RankedScores, mean_over
from medsgssl.randomness import generator


@dataclass(frozen=True)
class SeedSummary:
    """Mean AUC of one method over its seeds.

    Attributes:
        mean: Mean over seeds of the mean AUC over diseases.
        sd: Standard deviation between seeds (``K - 1``), None with one seed.
        values: Mean AUC of each seed.
        interval: Over seeds and patients; with one seed over patients alone.
        seeds_resampled: Whether the interval includes the seeds.
    """

    mean: float
    sd: float | None
    values: list[float]
    interval: Interval
    seeds_resampled: bool


@dataclass(frozen=True)
class SeedDifference:
    """Difference ``a - b`` of two methods' mean AUC over seeds and patients."""

    difference: float
    interval: Interval
    p: float | None
    seeds_resampled: bool


def summarise(
    labels: NDArray[np.bool_],
    runs: Sequence[Floats],
    patients: NDArray[np.int64],
    *,
    resamples: int,
    confidence: float,
    seed: int,
) -> SeedSummary:
    """Summarise one method trained with several seeds by a hierarchical bootstrap.

    Args:
        labels: ``(N, D)`` bool.
        runs: ``K`` arrays ``(N, D)`` of scores, one per seed, for the same images.
        patients: ``(N,)`` codes from 0.
        resamples: How many.
        confidence: Nominal coverage.
        seed: Any non-negative integer.

    Raises:
        ValueError: No run is given, or no disease has both classes.
    """
    values, draws = _run_means(labels, runs, patients, resamples, seed)
    mixed = _resample_runs(draws, seed, "evaluation.seeds")
    return SeedSummary(
        mean=float(values.mean()),
        sd=float(values.std(ddof=1)) if len(values) > 1 else None,
        values=[float(value) for value in values],
        interval=interval(mixed, confidence),
        seeds_resampled=len(values) > 1,
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
    """Compare two methods: the same resampled patients for both, seeds resampled within each.

    Args:
        labels: ``(N, D)`` bool.
        runs_a: Scores of the first method, one ``(N, D)`` array per seed.
        runs_b: Scores of the second; the numbers of seeds may differ.
        patients: ``(N,)`` codes from 0.
        resamples: How many.
        confidence: Nominal coverage.
        seed: Any non-negative integer.

    Raises:
        ValueError: A method has no run, or no disease has both classes.
    """
    values_a, draws_a = _run_means(labels, runs_a, patients, resamples, seed)
    values_b, draws_b = _run_means(labels, runs_b, patients, resamples, seed)
    draws = _resample_runs(draws_a, seed, "evaluation.seeds") - _resample_runs(
        draws_b, seed, "evaluation.seeds.other"
    )
    found = interval(draws, confidence)
    return SeedDifference(
        difference=float(values_a.mean() - values_b.mean()),
        interval=found,
        p=bootstrap_p(draws) if found.pair() else None,
        seeds_resampled=len(values_a) > 1 and len(values_b) > 1,
    )


def _run_means(
    labels: NDArray[np.bool_],
    runs: Sequence[Floats],
    patients: NDArray[np.int64],
    resamples: int,
    seed: int,
) -> tuple[Floats, Floats]:
    """Return the mean AUC of each run ``(K,)`` and in each resample of patients ``(R, K)``."""
    if not runs:
        raise ValueError("no run to summarise")
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
    return np.array(values), np.stack(draws, axis=1)


def _resample_runs(draws: Floats, seed: int, purpose: str) -> Floats:
    """Draw ``K`` of the ``K`` runs with replacement in each of ``R`` resamples; ``(R,)`` means.

    Plain resampling of K values understates their variance by (K - 1) / K, a third for three
    seeds, so deviations from the mean of all runs are stretched by sqrt(K / (K - 1)).
    """
    count = draws.shape[1]
    centre: Floats = draws.mean(axis=1)
    if count == 1:
        return centre
    chosen = generator(seed, purpose).integers(count, size=draws.shape)
    deviation = np.take_along_axis(draws, chosen, axis=1).mean(axis=1) - centre
    stretched: Floats = centre + np.sqrt(count / (count - 1)) * deviation
    return stretched
