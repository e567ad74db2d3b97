"""Many comparisons at once: Holm's p values and simultaneous intervals.

Sources:
    Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of
    Statistics 6, 1979.
    Westfall and Young, "Resampling-based multiple testing", 1993, section 2.3 (single-step minP).
    Sidak, "Rectangular confidence regions for the means of multivariate normal distributions",
    Journal of the American Statistical Association 62, 1967.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from scipy import special

from medsgssl.evaluation.effects import Effect
from medsgssl.utils.rng import generator

_DRAWS = 10_000


def holm(p_values: Mapping[str, float | None]) -> dict[str, float | None]:
    """Adjust p values by Holm's step-down method, which controls the family-wise error rate.

    Args:
        p_values: Name to p value in [0, 1]; None for a test that could not be made, which does
            not count toward the family.

    Returns:
        Adjusted p values in the same order, None where there was none.
    """
    made = sorted((p, name) for name, p in p_values.items() if p is not None)
    adjusted: dict[str, float | None] = dict.fromkeys(p_values)
    highest = 0.0
    for rank, (p, name) in enumerate(made):
        highest = max(highest, min(1.0, (len(made) - rank) * p))
        adjusted[name] = highest
    return adjusted


def simultaneous_level(family: Sequence[Effect], level: float, seed: int = 0) -> float:
    """Return the level of each interval at which all of them hold jointly with ``1 - level``.

    The smallest p value of the family is drawn jointly with every true difference zero: the
    patients' part with the correlations of the influences, the training part independently (which
    by Sidak's inequality errs on the safe side), both variances as uncertain as their degrees of
    freedom say. Of effects with equal degrees of freedom this is the maximum of |t|.

    Args:
        family: Effects on the same patients; those without a standard error do not count.
        level: Allowed probability of any interval missing its true value, e.g. 0.05.
        seed: Seed of the draws.

    Returns:
        A level of at most ``level``. It lies below Bonferroni's where few seeds decide.
    """
    made = [one for one in family if np.isfinite(one.standard_error) and one.standard_error > 0]
    if len(made) < 2:
        return level
    rng = generator(seed, "evaluation.simultaneous")
    shares = np.array(
        [one.patient_variance / (one.patient_variance + one.training) for one in made]
    )
    patients = np.stack([one.influences for one in made])
    covariance = patients @ patients.T
    scale = np.sqrt(np.diag(covariance))
    scale[scale == 0] = 1.0
    values, vectors = np.linalg.eigh(covariance / np.outer(scale, scale))
    root = vectors * np.sqrt(np.maximum(values, 0))
    drawn = np.sqrt(shares) * (rng.standard_normal((_DRAWS, len(made))) @ root.T)
    drawn += np.sqrt(1 - shares) * rng.standard_normal(drawn.shape)
    patient_df = np.minimum([one.patient_df for one in made], 1e6)
    training_df = np.array([one.spread.df if one.spread else 1.0 for one in made])
    # Degrees of freedom follow from the drawn variances, as they do in a study: Satterthwaite's
    # approximation errs where few seeds happen to agree, and this is where it is found out.
    parts = np.stack(
        [
            shares * rng.chisquare(patient_df, drawn.shape) / patient_df,
            (1 - shares) * rng.chisquare(training_df, drawn.shape) / training_df,
        ]
    )
    variance = parts.sum(axis=0)
    df = variance**2 / (parts[0] ** 2 / patient_df + parts[1] ** 2 / training_df)
    folds = np.flatnonzero([one.folds for one in made])
    if len(folds):  # one number for both parts
        whole = np.minimum([made[n].df for n in folds], 1e6)
        variance[:, folds] = rng.chisquare(whole, (_DRAWS, len(folds))) / whole
        df[:, folds] = whole
    smallest = (2 * special.stdtr(df, -np.abs(drawn) / np.sqrt(variance))).min(axis=1)
    return float(min(np.quantile(smallest, level), level))
