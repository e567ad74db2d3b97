from __future__ import annotations

import warnings

import numpy as np
import pytest

from medsgssl.evaluation.jackknife import Classes, JackknifedScores, Statistic, mean_by_patient
from medsgssl.evaluation.metrics import auc_per_class
from medsgssl.evaluation.resampled_auc import RankedScores
from tests.evaluation.simulate import study


@pytest.mark.parametrize("listed", [True, False])
@pytest.mark.parametrize("digits", [1, 8])
def test_influences_are_those_of_recomputing_without_each_patient(
    digits: int, listed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One decimal makes ties between and within patients; pairs within are listed if not many."""
    labels, (scores,), owner = study(np.random.default_rng(0), 70, 3)
    scores = scores.round(digits)
    count = owner.max() + 1
    numbers = [np.bincount(owner[labels[:, 0] == one]) for one in (0, 1)]
    pairs = sum(a * b for a, b in zip(*numbers, strict=False))  # of images of one patient
    monkeypatch.setattr("medsgssl.evaluation.jackknife._MOST_PAIRS", pairs if listed else pairs - 1)
    assert (Classes.of(labels[:, 0], owner, count).within is not None) == listed
    one_out = np.ones((count, count)) - np.eye(count)
    wanted = RankedScores(labels, scores, owner).auc_and_ap(one_out)
    found = JackknifedScores(labels, scores, owner, count + 2)
    assert found.auc == pytest.approx(auc_per_class(labels, scores), abs=1e-12)
    for left_out, pick in zip(wanted, (found.auc_of, found.ap_of), strict=True):
        for d in range(3):
            scale = np.sqrt((count - 1) / count)
            influences = scale * (left_out[:, d].mean() - left_out[:, d])
            assert pick(d).influences == pytest.approx(np.r_[influences, 0, 0], abs=1e-12)


def test_patients_without_an_image_have_no_influence() -> None:
    labels, (scores,), owner = study(np.random.default_rng(1), 20)
    alone = JackknifedScores(labels, scores, owner, 20)
    beside = JackknifedScores(labels, scores, owner + 5, 30)
    for one, other in (
        (alone.auc_of(0), beside.auc_of(0)),
        (alone.ap_of(0), beside.ap_of(0)),
        (mean_by_patient(scores[:, 0], owner, 20), mean_by_patient(scores[:, 0], owner + 5, 30)),
    ):
        assert other.value == one.value
        assert other.influences[5:25] == pytest.approx(one.influences, abs=1e-12)
        assert not np.delete(other.influences, np.s_[5:25]).any()


def test_unknown_labels_have_no_part() -> None:
    labels, (scores,), owner = study(np.random.default_rng(2), 20, 2)
    truth = labels.astype(np.float32)
    truth[::3, 0] = np.nan
    known = np.isfinite(truth[:, 0])
    found = JackknifedScores(truth, scores, owner, 20)
    part = JackknifedScores(labels[known], scores[known], owner[known], 20)
    assert found.auc_of(0).value == part.auc_of(0).value
    assert np.array_equal(found.auc_of(0).influences, part.auc_of(0).influences)
    assert found.ap_of(0).value == part.ap_of(0).value
    assert np.array_equal(found.ap_of(0).influences, part.ap_of(0).influences)
    assert found.auc_of(1).value == JackknifedScores(labels, scores, owner, 20).auc_of(1).value


def test_a_mean_is_the_mean_of_values_and_of_influences() -> None:
    labels, (scores,), owner = study(np.random.default_rng(3), 20, 3)
    found = JackknifedScores(labels, scores, owner, 20)
    mean = found.mean_auc(np.array([True, False, True]))
    parts = found.auc_of(0), found.auc_of(2)
    assert mean.value == pytest.approx((parts[0].value + parts[1].value) / 2)
    assert mean.influences == pytest.approx((parts[0].influences + parts[1].influences) / 2)
    mean, parts = found.mean_ap(np.array([True, False, True])), (found.ap_of(0), found.ap_of(2))
    assert mean.value == pytest.approx((parts[0].value + parts[1].value) / 2)
    assert mean.influences == pytest.approx((parts[0].influences + parts[1].influences) / 2)
    nothing = found.mean_auc(np.zeros(3, bool))
    assert np.isnan(nothing.value)
    assert nothing.influences.shape == (20,)
    assert np.isnan(nothing.influences).all()


def test_one_positive_patient_leaves_no_variance() -> None:
    owner = np.array([0, 0, 1, 2, 3])
    labels = np.array([[True], [True], [False], [False], [False]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = JackknifedScores(labels, np.arange(5.0)[:, None], owner, 4).auc_of(0)
    assert found.value == 0
    assert np.isnan(found.influences).any()


def test_the_mean_of_known_values_is_recomputed_without_each_patient() -> None:
    rng = np.random.default_rng(4)
    owner, values = rng.integers(12, size=60), rng.normal(3, 1, 60)
    values[::4] = np.nan
    found = mean_by_patient(values, owner, 12)
    assert found.value == pytest.approx(np.nanmean(values))
    left_out = np.array([np.nanmean(values[owner != patient]) for patient in range(12)])
    assert found.influences == pytest.approx(np.sqrt(11 / 12) * (left_out.mean() - left_out))
    unknown = mean_by_patient(np.full(60, np.nan), owner, 12)
    assert np.isnan(unknown.value)
    assert np.isnan(unknown.influences).all()


def test_scores_that_are_all_alike_say_nothing_whoever_is_left_out() -> None:
    labels, _, owner = study(np.random.default_rng(5), 20)
    found = JackknifedScores(labels, np.full(labels.shape, 0.3), owner, 20).auc_of(0)
    assert found.value == 0.5
    assert found.influences == pytest.approx(np.zeros(20), abs=1e-12)


def test_patients_of_one_image_each_have_no_pairs_within() -> None:
    rng = np.random.default_rng(6)
    labels, scores = np.arange(20) < 8, rng.random((20, 1))
    found = JackknifedScores(labels[:, None], scores, np.arange(20), 20).auc_of(0)
    left_out = [
        auc_per_class(np.delete(labels, n)[:, None], np.delete(scores, n, 0))[0] for n in range(20)
    ]
    assert found.influences == pytest.approx(np.sqrt(19 / 20) * (np.mean(left_out) - left_out))


def test_two_patients_have_a_variance_and_one_has_none() -> None:
    values = np.array([0.2, 0.6])
    two = mean_by_patient(values, np.array([0, 1]), 2)
    # The variance of a mean of two is a quarter of their squared distance.
    assert (two.influences**2).sum() == pytest.approx(0.4**2 / 4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.isnan(mean_by_patient(values, np.array([0, 0]), 2).influences).all()


def test_a_difference_is_one_of_values_and_of_influences() -> None:
    one, other = Statistic(0.75, np.array([0.5, -0.5])), Statistic(0.5, np.array([0.25, 1.0]))
    assert (one - other).value == 0.25
    assert (one - other).influences.tolist() == [0.25, -1.5]
