"""How far seeds or folds lie apart: what training adds to the uncertainty of a difference.

Three seeds or five folds of one difference know their spread badly. The arms of a study share it
about, so it is pooled over them: the mean square that is left of ``(arms, seeds)`` values once the
means of arms and of seeds are taken out, as in an analysis of variance. Half of the weight
stays with the difference's own spread, for a method that trains less steadily than the others.

Source: Smyth, "Linear models and empirical Bayes methods for assessing differential expression in
microarray experiments", Statistical Applications in Genetics and Molecular Biology 3, 2004
(shrinking a variance toward that of its family).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from medsgssl.evaluation.jackknife import Statistic

#: Fewer seeds or folds than these bear no verdict.
MIN_REPEATS = 3
#: Weight of a difference's own spread beside the pooled one. By simulation: where all arms are
#: alike, any weight up to a half holds the error; where one is less steady, more weight helps it.
_OWN = 0.5


@dataclass(frozen=True)
class Spread:
    """Variance of one seed's or fold's value around its mean.

    Attributes:
        variance: The variance.
        patients: Part of it that comes from folds having different patients; 0 for seeds.
        df: Degrees of freedom of ``variance``.
    """

    variance: float
    patients: float
    df: float

    def toward(self, pooled: Spread) -> Spread:
        """Return this spread shrunk toward the pooled one, which it is a part of."""
        rest = 1 - _OWN
        return Spread(
            _OWN * self.variance + rest * pooled.variance,
            _OWN * self.patients + rest * pooled.patients,
            1 / (_OWN**2 / self.df + (1 - _OWN**2) / pooled.df),
        )


def pooled_spread(arms: Sequence[Mapping[int, Statistic]], *, folds: bool) -> Spread | None:
    """Pool the spread of a difference of two arms over all pairs of them.

    Args:
        arms: The statistic of each arm by seed or fold. Arms with fewer than ``MIN_REPEATS``, or
            where the statistic is undefined, have no part.
        folds: Whether the repeats are folds, whose patients differ.

    Returns:
        The spread; None where fewer than two arms have two repeats in common.
    """
    whole = [arm for arm in arms if len(arm) >= MIN_REPEATS and _defined(arm)]
    if len(whole) < 2:
        return None
    common = sorted(set.intersection(*(set(arm) for arm in whole)))
    if len(common) < 2:
        return None
    values = np.array([[arm[key].value for key in common] for arm in whole])
    values = values - values.mean(axis=0)
    values = values - values.mean(axis=1, keepdims=True)
    others = len(whole) - 1
    df = others * (len(common) - 1)
    patients = 0.0
    if folds:
        # The folds' patients are disjoint, so the variance of one fold's value is the mean's
        # times the number of folds, on average.
        means = np.array([np.mean([arm[key].influences for key in common], 0) for arm in whole])
        patients = 2 * len(common) * float(((means - means.mean(axis=0)) ** 2).sum()) / others
    return Spread(2 * float((values**2).sum()) / df, patients, float(df))


def _defined(arm: Mapping[int, Statistic]) -> bool:
    return all(
        np.isfinite(one.value) and bool(np.isfinite(one.influences).all()) for one in arm.values()
    )
