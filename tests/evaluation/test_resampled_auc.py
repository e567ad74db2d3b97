from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from medsgssl.evaluation.metrics import mean_over
from medsgssl.evaluation.resampled_auc import RankedScores


@st.composite
def problems(draw):
    n = draw(st.integers(2, 60))
    levels = draw(st.sampled_from([2, 5, 1000]))
    labels = np.array(draw(st.lists(st.booleans(), min_size=n, max_size=n)))
    scores = np.array(draw(st.lists(st.integers(0, levels), min_size=n, max_size=n))) / levels
    clusters = np.array(draw(st.lists(st.integers(0, 7), min_size=n, max_size=n)))
    counts = np.array(draw(st.lists(st.integers(0, 4), min_size=8, max_size=8)))
    return labels, scores, clusters, counts


@given(problems())
@settings(max_examples=200, deadline=None)
def test_agrees_with_sklearn_with_ties_and_multiplicities(problem):
    labels, scores, clusters, counts = problem
    ranked = RankedScores(labels[:, None], scores[:, None], clusters)
    counts = counts[: ranked.clusters]
    auc, ap = ranked.auc_and_ap(counts[None])
    weights = counts[clusters].astype(float)
    if (weights * labels).sum() == 0 or (weights * ~labels).sum() == 0:
        assert np.isnan(auc[0, 0])
        assert np.isnan(ap[0, 0])
        return
    expected = roc_auc_score(labels, scores, sample_weight=weights)
    assert auc[0, 0] == pytest.approx(expected, abs=1e-12)
    expected = average_precision_score(labels, scores, sample_weight=weights)
    assert ap[0, 0] == pytest.approx(expected, abs=1e-12)


def test_many_diseases_and_resamples_across_blocks():
    random = np.random.default_rng(0)
    labels = random.random((400, 5)) < [0.5, 0.4, 0.3, 0.2, 0.1]
    scores = np.round(random.random((400, 5)) + 0.3 * labels, 2)
    owner = random.integers(0, 90, 400)
    owner[0] = 89
    counts = random.multinomial(90, np.full(90, 1 / 90), size=70)
    auc, ap = RankedScores(labels, scores, owner).auc_and_ap(counts)
    assert auc.shape == ap.shape == (70, 5)
    np.testing.assert_array_equal(auc, RankedScores(labels, scores, owner).auc(counts))
    for r in range(70):
        for d in range(5):
            weight = counts[r][owner]
            assert auc[r, d] == pytest.approx(
                roc_auc_score(labels[:, d], scores[:, d], sample_weight=weight), abs=1e-12
            )
            assert ap[r, d] == pytest.approx(
                average_precision_score(labels[:, d], scores[:, d], sample_weight=weight),
                abs=1e-12,
            )


def test_undefined_is_nan_never_a_half():
    labels = np.array([[True, False], [True, False], [True, False]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        auc, ap = RankedScores(labels, np.random.default_rng(0).random((3, 2))).auc_and_ap()
    assert np.isnan(auc).all()
    assert np.isnan(ap).all()


@pytest.mark.parametrize(("scores", "auc"), [([0.2, 0.7], 1.0), ([0.7, 0.2], 0.0)])
def test_one_image_of_each_class_is_enough(scores, auc):
    found = RankedScores([[0], [1]], np.array(scores)[:, None]).auc_and_ap()
    assert found[0][0, 0] == auc
    assert found[1][0, 0] == (1 if auc else 0.5)


def test_constant_scores_give_exactly_a_half():
    labels = np.array([[True], [False], [False]])
    assert RankedScores(labels, np.full((3, 1), 0.3)).auc()[0, 0] == 0.5


def test_mean_over_refuses_a_resample_that_lost_a_disease():
    values = np.array([[0.6, 0.8, np.nan], [np.nan, 0.8, np.nan]])
    mean = mean_over(values, np.array([True, True, False]))
    assert mean[0] == pytest.approx(0.7)
    assert np.isnan(mean[1])
    assert np.isnan(mean_over(values, np.zeros(3, dtype=bool))).all()


def test_shapes_are_checked():
    with pytest.raises(ValueError, match="labels"):
        RankedScores(np.zeros((3, 2)), np.zeros((3, 1)))
    with pytest.raises(ValueError, match="clusters"):
        RankedScores(np.zeros((3, 2)), np.zeros((3, 2)), np.zeros(2, dtype=np.int64))
    with pytest.raises(ValueError, match="counts"):
        RankedScores(np.zeros((3, 2)), np.zeros((3, 2))).auc(np.ones((1, 4)))
