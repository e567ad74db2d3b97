"""Tests of two correlated AUCs on the same images, one disease at a time, in closed form.

DeLong's test takes images as independent. Where patients have several images its variance is
usually too small, so the clustered version beside it is the one to report.

Sources:
    DeLong, DeLong and Clarke-Pearson, "Comparing the areas under two or more correlated receiver
    operating characteristic curves: a nonparametric approach", Biometrics 44, 1988.
    Sun and Xu, "Fast implementation of DeLong's algorithm for comparing the areas under
    correlated receiver operating characteristic curves", IEEE Signal Processing Letters 21, 2014.
    Obuchowski, "Nonparametric analysis of clustered ROC curve data", Biometrics 53, 1997.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from medsgssl.evaluation.resampled_auc import Floats


@dataclass(frozen=True)
class AucTest:
    """Two AUCs, their difference ``a - b``, its standard error and the two-sided p value."""

    auc_a: float
    auc_b: float
    difference: float
    standard_error: float
    p: float

    def interval(self, confidence: float) -> tuple[float, float]:
        """Return the normal interval of the difference."""
        reach = float(stats.norm.ppf(0.5 + confidence / 2)) * self.standard_error
        return self.difference - reach, self.difference + reach


def components(labels: NDArray[np.bool_], scores: Floats) -> tuple[Floats, Floats]:
    """Return the structural components of each curve from midranks (Sun and Xu, algorithm 2).

    Args:
        labels: ``(N,)`` bool with both classes.
        scores: ``(K, N)`` scores of ``K`` models.

    Returns:
        ``V10`` ``(K, m)``: for each positive, the share of negatives it beats, ties one half;
        ``V01`` ``(K, n)``: for each negative, the share of positives that beat it.
        The mean of either is the AUC.

    Raises:
        ValueError: A class is missing.
    """
    m, n = int(labels.sum()), int((~labels).sum())
    if m == 0 or n == 0:
        raise ValueError("AUC is undefined without positives and negatives")
    everywhere = stats.rankdata(scores, axis=1)
    within_positives = stats.rankdata(scores[:, labels], axis=1)
    within_negatives = stats.rankdata(scores[:, ~labels], axis=1)
    v10 = (everywhere[:, labels] - within_positives) / n
    v01 = 1 - (everywhere[:, ~labels] - within_negatives) / m
    return v10, v01


def delong_covariance(labels: NDArray[np.bool_], scores: Floats) -> tuple[Floats, Floats]:
    """Return ``(K,)`` AUCs and their ``(K, K)`` covariance, images taken as independent.

    Raises:
        ValueError: Fewer than two positives or negatives.
    """
    v10, v01 = components(labels, scores)
    m, n = v10.shape[1], v01.shape[1]
    if m < 2 or n < 2:
        raise ValueError("DeLong's variance needs two positives and two negatives")
    covariance = np.atleast_2d(np.cov(v10)) / m + np.atleast_2d(np.cov(v01)) / n
    return v10.mean(axis=1), covariance


def clustered_covariance(
    labels: NDArray[np.bool_], scores: Floats, clusters: NDArray[np.int64]
) -> tuple[Floats, Floats]:
    """Return ``(K,)`` AUCs and their ``(K, K)`` covariance with images clustered in patients.

    Obuchowski's estimator: the components are added up within each cluster before their
    covariances are taken, and positives and negatives of one cluster may be correlated. With one
    image per cluster it is DeLong's.

    Args:
        labels: ``(N,)`` bool.
        scores: ``(K, N)``.
        clusters: ``(N,)`` integers from 0.

    Raises:
        ValueError: Fewer than two clusters hold positives, or negatives.
    """
    v10, v01 = components(labels, scores)
    m, n = v10.shape[1], v01.shape[1]
    aucs = v10.mean(axis=1)
    total = len(np.unique(clusters))
    with_positives = len(np.unique(clusters[labels]))
    with_negatives = len(np.unique(clusters[~labels]))
    if with_positives < 2 or with_negatives < 2:
        raise ValueError("the clustered variance needs two patients of either class")
    size = int(clusters.max()) + 1
    sums10 = _cluster_sums(v10 - aucs[:, None], clusters[labels], size)
    sums01 = _cluster_sums(v01 - aucs[:, None], clusters[~labels], size)
    s10 = with_positives / ((with_positives - 1) * m) * sums10 @ sums10.T
    s01 = with_negatives / ((with_negatives - 1) * n) * sums01 @ sums01.T
    s11 = total / (total - 1) * sums10 @ sums01.T
    return aucs, s10 / m + s01 / n + (s11 + s11.T) / (m * n)


def _cluster_sums(values: Floats, clusters: NDArray[np.int64], size: int) -> Floats:
    return np.stack([np.bincount(clusters, weights=row, minlength=size) for row in values])


def compare_aucs(
    labels: NDArray[np.bool_],
    scores_a: Floats,
    scores_b: Floats,
    clusters: NDArray[np.int64] | None = None,
) -> AucTest:
    """Test whether two models have the same AUC for one disease.

    Args:
        labels: ``(N,)`` bool.
        scores_a: ``(N,)`` scores of the first model.
        scores_b: ``(N,)`` scores of the second, for the same images.
        clusters: ``(N,)`` patient codes for Obuchowski's variance; None for DeLong's.

    Raises:
        ValueError: Too few positives or negatives for a variance, or it is zero although the
            AUCs differ.
    """
    both = np.stack([scores_a, scores_b])
    aucs, covariance = (
        delong_covariance(labels, both)
        if clusters is None
        else clustered_covariance(labels, both, clusters)
    )
    difference = float(aucs[0] - aucs[1])
    variance = float(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    # Cancellation leaves dust of the covariances' size where both models rank alike.
    dust = 1e-12 * float(covariance[0, 0] + covariance[1, 1])
    error = float(np.sqrt(variance)) if variance > dust else 0.0
    if error == 0 and abs(difference) > 1e-12:
        raise ValueError("the AUCs differ but their variance is zero: too few images to test")
    p = float(2 * stats.norm.sf(abs(difference) / error)) if error > 0 else 1.0
    return AucTest(float(aucs[0]), float(aucs[1]), difference, error, p)


def holm(p_values: Mapping[str, float | None]) -> dict[str, float | None]:
    """Adjust p values by Holm's step-down method, which controls the family-wise error rate.

    Source: Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal
    of Statistics 6, 1979.

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
