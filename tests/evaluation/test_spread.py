"""Pooled spreads: the analysis of variance of arms and seeds, and what it does to folds."""

from __future__ import annotations

import numpy as np
import pytest

from medsgssl.evaluation.effects import average
from medsgssl.evaluation.jackknife import Statistic
from medsgssl.evaluation.multiplicity import holm
from medsgssl.evaluation.spread import Spread, pooled_spread

PATIENTS = 50


def _arm(values: np.ndarray, influences: np.ndarray | None = None) -> dict[int, Statistic]:
    none = np.zeros(PATIENTS) if influences is None else influences
    return {seed: Statistic(float(value), none) for seed, value in enumerate(values)}


def test_two_arms_have_the_spread_of_their_difference() -> None:
    a, b = np.random.default_rng(0).normal(size=(2, 4))
    pooled = pooled_spread([_arm(a), _arm(b)], folds=False)
    assert pooled is not None
    assert pooled.variance == pytest.approx(np.var(a - b, ddof=1))
    assert (pooled.df, pooled.patients) == (3, 0)


def test_the_pooled_spread_is_the_mean_over_all_pairs() -> None:
    values = np.random.default_rng(1).normal(size=(4, 5))
    pooled = pooled_spread([_arm(one) for one in values], folds=False)
    pairs = [np.var(values[i] - values[j], ddof=1) for i in range(4) for j in range(i)]
    assert pooled is not None
    assert pooled.variance == pytest.approx(np.mean(pairs))
    assert pooled.df == 3 * 4


def test_what_all_arms_share_of_a_seed_is_no_spread() -> None:
    values = np.random.default_rng(2).normal(size=(3, 4))
    plain = pooled_spread([_arm(one) for one in values], folds=False)
    shifted = values + 10 * np.arange(4)
    pooled = pooled_spread([_arm(one) for one in shifted], folds=False)
    assert plain is not None
    assert pooled is not None
    assert pooled.variance == pytest.approx(plain.variance)


def test_the_patients_part_of_folds_is_that_of_a_difference() -> None:
    rng = np.random.default_rng(3)
    inside = rng.integers(3, size=PATIENTS)
    parts = rng.normal(size=(2, PATIENTS))
    arms = [
        {fold: Statistic(0.0, np.where(inside == fold, part, 0.0)) for fold in range(3)}
        for part in parts
    ]
    pooled = pooled_spread(arms, folds=True)
    difference = average([arms[0][fold] - arms[1][fold] for fold in range(3)], folds=True)
    assert pooled is not None
    assert pooled.patients == pytest.approx(3 * difference.patient_variance)


def test_arms_without_enough_seeds_have_no_part() -> None:
    values = np.random.default_rng(4).normal(size=(3, 3))
    arms = [_arm(one) for one in values]
    few = dict(list(_arm(100 * values[0]).items())[:2])
    undefined = _arm(np.array([0.1, np.nan, 0.2]))
    assert pooled_spread([*arms, few, undefined], folds=False) == pooled_spread(arms, folds=False)
    assert pooled_spread([arms[0], few], folds=False) is None
    shared = {seed + 1: one for seed, one in arms[1].items()}  # two seeds
    found, wanted = (
        pooled_spread([arms[0], shared], folds=False),
        np.var([arms[0][seed].value - shared[seed].value for seed in (1, 2)], ddof=1),
    )
    assert found is not None
    assert (found.variance, found.df) == (pytest.approx(wanted), 1)
    apart = {seed + 3: one for seed, one in arms[1].items()}
    assert pooled_spread([arms[0], apart], folds=False) is None


def test_shrinking_lies_between_and_gains_degrees_of_freedom() -> None:
    own, pooled = Spread(1.0, 0.5, 4), Spread(3.0, 0.7, 24)
    shrunk = own.toward(pooled)
    assert own.variance < shrunk.variance < pooled.variance
    assert own.patients < shrunk.patients < pooled.patients
    assert own.df < shrunk.df < pooled.df
    # Half of each: the variance of a half, and what the own part has in common with the pooled.
    assert 1 / shrunk.df == pytest.approx((0.25 + 2 * 0.25 * 4 / 24) / 4 + 0.25 / 24)


def test_folds_hold_the_error_of_a_family() -> None:
    """Six equal methods in five folds whose training sets overlap, drawn again and again."""
    rng = np.random.default_rng(5)
    folds, methods, studies = 5, 6, 400
    inside = np.repeat(np.arange(folds), 40)

    def arm() -> dict[int, Statistic]:
        patients = rng.normal(size=len(inside)) / np.sqrt(len(inside))
        training = np.sqrt(1 / folds) * rng.normal() + np.sqrt(1 - 1 / folds) * rng.normal(
            size=folds
        )
        return {
            fold: Statistic(
                float(folds * patients[inside == fold].sum() + 2 * training[fold]),
                np.where(inside == fold, folds * patients, 0.0),
            )
            for fold in range(folds)
        }

    missed = 0
    for _ in range(studies):
        control, *others = arms = [arm() for _ in range(methods + 1)]
        pooled = pooled_spread(arms, folds=True)
        effects = [
            average([one[fold] - control[fold] for fold in range(folds)], folds=True, pooled=pooled)
            for one in others
        ]
        adjusted = holm({str(n): one.p for n, one in enumerate(effects)})
        missed += min(p for p in adjusted.values() if p is not None) < 0.05
    assert missed / studies <= 0.06
