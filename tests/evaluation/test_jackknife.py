from __future__ import annotations

import numpy as np
import pytest

from medsgssl.evaluation.jackknife import JackknifedScores
from medsgssl.evaluation.metrics import auc_per_class
from medsgssl.evaluation.resampled_auc import RankedScores
from tests.evaluation.simulate import study


@pytest.mark.parametrize("digits", [1, 8])
def test_influences_are_those_of_recomputing_without_each_patient(digits: int) -> None:
    """One decimal makes ties between and within patients."""
    labels, (scores,), owner = study(np.random.default_rng(0), 30, 3)
    scores = scores.round(digits)
    count = owner.max() + 1
    one_out = np.ones((count, count)) - np.eye(count)
    wanted = RankedScores(labels, scores, owner).auc_and_ap(one_out)
    found = JackknifedScores(labels, scores, owner, count)
    assert found.auc == pytest.approx(auc_per_class(labels, scores), abs=1e-12)
    for left_out, pick in zip(wanted, (found.auc_of, found.ap_of), strict=True):
        for d in range(3):
            scale = np.sqrt((count - 1) / count)
            influences = scale * (left_out[:, d].mean() - left_out[:, d])
            assert pick(d).influences == pytest.approx(influences, abs=1e-12)


def test_patients_without_an_image_have_no_influence() -> None:
    labels, (scores,), owner = study(np.random.default_rng(1), 20)
    alone = JackknifedScores(labels, scores, owner, 20).auc_of(0)
    beside = JackknifedScores(labels, scores, owner + 5, 30).auc_of(0)
    assert beside.value == alone.value
    assert np.array_equal(beside.influences, np.r_[np.zeros(5), alone.influences, np.zeros(5)])


def test_unknown_labels_have_no_part() -> None:
    labels, (scores,), owner = study(np.random.default_rng(2), 20, 2)
    truth = labels.astype(np.float32)
    truth[::3, 0] = np.nan
    known = np.isfinite(truth[:, 0])
    found = JackknifedScores(truth, scores, owner, 20)
    part = JackknifedScores(labels[known], scores[known], owner[known], 20)
    assert found.auc_of(0).value == part.auc_of(0).value
    assert np.array_equal(found.auc_of(0).influences, part.auc_of(0).influences)
    assert found.auc_of(1).value == JackknifedScores(labels, scores, owner, 20).auc_of(1).value


def test_a_mean_is_the_mean_of_values_and_of_influences() -> None:
    labels, (scores,), owner = study(np.random.default_rng(3), 20, 3)
    found = JackknifedScores(labels, scores, owner, 20)
    mean = found.mean_auc(np.array([True, False, True]))
    parts = found.auc_of(0), found.auc_of(2)
    assert mean.value == pytest.approx((parts[0].value + parts[1].value) / 2)
    assert mean.influences == pytest.approx((parts[0].influences + parts[1].influences) / 2)


def test_one_positive_patient_leaves_no_variance() -> None:
    owner = np.array([0, 0, 1, 2, 3])
    labels = np.array([[True], [True], [False], [False], [False]])
    found = JackknifedScores(labels, np.arange(5.0)[:, None], owner, 4).auc_of(0)
    assert found.value == 0
    assert np.isnan(found.influences).any()
