from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medsgssl.evaluation.delong import (
    clustered_covariance,
    compare_aucs,
    components,
    delong_covariance,
)
from tests.evaluation.simulate import study


def slow_covariance(labels, scores, clusters=None):
    """The definitions themselves, all pairs: DeLong 1988 (4)-(6), Obuchowski 1997 section 3."""
    models = len(scores)
    x, y = scores[:, labels], scores[:, ~labels]
    m, n = x.shape[1], y.shape[1]
    psi = np.zeros((models, m, n))
    for k in range(models):
        for i in range(m):
            for j in range(n):
                psi[k, i, j] = 1 if x[k, i] > y[k, j] else 0.5 if x[k, i] == y[k, j] else 0
    theta = psi.mean(axis=(1, 2))
    v10, v01 = psi.mean(axis=2), psi.mean(axis=1)
    s = np.zeros((models, models))
    if clusters is None:
        for k in range(models):
            for q in range(models):
                s10 = ((v10[k] - theta[k]) * (v10[q] - theta[q])).sum() / (m - 1)
                s01 = ((v01[k] - theta[k]) * (v01[q] - theta[q])).sum() / (n - 1)
                s[k, q] = s10 / m + s01 / n
        return theta, s
    cx, cy, ids = clusters[labels], clusters[~labels], np.unique(clusters)
    i10, i01, total = len(np.unique(cx)), len(np.unique(cy)), len(ids)
    for k in range(models):
        for q in range(models):
            s10 = s01 = s11 = s11_back = 0.0
            for c in ids:
                mi, ni = (cx == c).sum(), (cy == c).sum()
                a_k, a_q = (v10[z][cx == c].sum() - mi * theta[z] for z in (k, q))
                b_k, b_q = (v01[z][cy == c].sum() - ni * theta[z] for z in (k, q))
                s10 += a_k * a_q
                s01 += b_k * b_q
                s11 += a_k * b_q
                s11_back += a_q * b_k
            s10 *= i10 / ((i10 - 1) * m)
            s01 *= i01 / ((i01 - 1) * n)
            s11, s11_back = (total / (total - 1) * v for v in (s11, s11_back))
            s[k, q] = s10 / m + s01 / n + (s11 + s11_back) / (m * n)
    return theta, s


@given(st.integers(0, 10**6), st.sampled_from([3, 1000]))
@settings(max_examples=60, deadline=None)
def test_agrees_with_the_definition(seed, levels):
    random = np.random.default_rng(seed)
    labels = random.permutation(np.arange(24) < random.integers(2, 22))
    scores = np.round(random.random((3, 24)) * levels) / levels
    for mine, slow in zip(
        delong_covariance(labels, scores), slow_covariance(labels, scores), strict=True
    ):
        np.testing.assert_allclose(mine, slow, atol=1e-12)


def test_clustered_agrees_with_the_definition():
    random = np.random.default_rng(0)
    for _ in range(30):
        labels = random.random(30) < 0.4
        scores = np.round(random.random((2, 30)), 1)
        owner = random.integers(0, 9, 30)
        if min(len(set(owner[labels])), len(set(owner[~labels]))) < 2:
            continue
        mine = clustered_covariance(labels, scores, owner)
        slow = slow_covariance(labels, scores, owner)
        np.testing.assert_allclose(mine[0], slow[0], atol=1e-12)
        np.testing.assert_allclose(mine[1], slow[1], atol=1e-12)


def test_one_image_per_patient_is_plain_delong():
    random = np.random.default_rng(0)
    labels, scores = random.random(50) < 0.3, random.random((2, 50))
    plain = delong_covariance(labels, scores)[1]
    np.testing.assert_allclose(
        clustered_covariance(labels, scores, np.arange(50))[1], plain, atol=1e-14
    )


def test_clustered_variance_is_that_of_repeated_studies():
    """Mean of the estimates against the variance over studies; plain DeLong is far too small."""
    aucs, clustered, plain = [], [], []
    for s in range(300):
        labels, (scores,), owner = study(np.random.default_rng([s, 5]), 60)
        auc, covariance = clustered_covariance(labels[:, 0], scores.T, owner)
        aucs.append(auc[0])
        clustered.append(covariance[0, 0])
        plain.append(delong_covariance(labels[:, 0], scores.T)[1][0, 0])
    observed = np.var(aucs, ddof=1)
    assert np.mean(clustered) / observed == pytest.approx(1, abs=0.2)
    assert np.mean(plain) / observed < 0.7


def test_symmetry_and_interval():
    labels, (a, b), owner = study(np.random.default_rng(2), 60, models=2)
    labels, a, b = labels[:, 0], a[:, 0], b[:, 0]
    one, two = compare_aucs(labels, a, b, owner), compare_aucs(labels, b, a, owner)
    assert one.difference == pytest.approx(-two.difference)
    assert one.p == pytest.approx(two.p)
    low, high = one.interval(0.95)
    assert (low > 0 or high < 0) == (one.p < 0.05)


def test_equal_rankings_give_p_of_one():
    labels, (a,), owner = study(np.random.default_rng(2), 40)
    assert compare_aucs(labels[:, 0], a[:, 0], 3 * a[:, 0] + 1).p == 1.0
    assert compare_aucs(labels[:, 0], a[:, 0], 3 * a[:, 0] + 1, owner).p == 1.0


def test_too_few_images_are_refused():
    labels = np.array([True, False, False])
    with pytest.raises(ValueError, match="two positives"):
        delong_covariance(labels, np.random.default_rng(0).random((1, 3)))
    with pytest.raises(ValueError, match="undefined"):
        components(np.zeros(3, dtype=bool), np.zeros((1, 3)))
    with pytest.raises(ValueError, match="two patients"):
        compare_aucs(np.array([True, True, False]), np.ones(3), np.ones(3), np.array([0, 0, 1]))
    perfect = np.array([1.0, 1.0, 0.0, 0.0])
    with pytest.raises(ValueError, match="zero"):
        compare_aucs(perfect > 0, perfect, np.zeros(4))
