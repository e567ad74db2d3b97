"""The one definition of the AUC, of its mean, and of what an absent class does to both."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from medsgssl.evaluation.metrics import (
    auc,
    auc_per_class,
    classes_to_select_by,
    mean_auc,
    mean_over,
    positive_patients,
)
from medsgssl.evaluation.resampled_auc import RankedScores

RNG = np.random.default_rng(0)
LABELS = (RNG.random((60, 3)) < 0.4).astype(float)
SCORES = np.round(RNG.random((60, 3)), 1)  # one decimal, so that there are ties


def test_the_auc_is_that_of_scikit_learn_and_of_the_resampled_one() -> None:
    wanted = [roc_auc_score(LABELS[:, c], SCORES[:, c]) for c in range(3)]
    np.testing.assert_allclose(auc_per_class(LABELS, SCORES), wanted, rtol=0, atol=1e-12)
    np.testing.assert_allclose(RankedScores(LABELS, SCORES).auc()[0], wanted, rtol=0, atol=1e-12)
    assert mean_auc(LABELS, SCORES) == pytest.approx(np.mean(wanted), abs=1e-12)
    assert RankedScores(LABELS, SCORES).auc().shape == (1, 3)
    precise = [average_precision_score(LABELS[:, c], SCORES[:, c]) for c in range(3)]
    np.testing.assert_allclose(RankedScores(LABELS, SCORES).auc_and_ap()[1][0], precise, atol=1e-12)


def test_unknown_labels_are_neither_positives_nor_negatives() -> None:
    labels = LABELS[:, 0].copy()
    labels[::3] = np.nan
    known = np.isfinite(labels)
    assert auc(labels, SCORES[:, 0]) == pytest.approx(
        roc_auc_score(labels[known], SCORES[known, 0])
    )


@pytest.mark.parametrize("absent", [0.0, 1.0])
def test_an_absent_class_is_left_out_of_the_mean_unless_the_list_names_it(absent: float) -> None:
    labels = LABELS.copy()
    labels[:, 1] = absent
    values = auc_per_class(labels, SCORES)
    assert np.isnan(values[1])
    assert mean_auc(labels, SCORES) == pytest.approx(values[[0, 2]].mean())
    assert np.isnan(mean_auc(labels, SCORES, np.array([True, True, False])))
    assert mean_auc(labels, SCORES, np.array([False, False, True])) == values[2]


def test_no_class_at_all_has_no_mean() -> None:
    assert np.isnan(mean_auc(np.zeros((4, 2)), SCORES[:4, :2]))
    assert np.isnan(mean_over(np.ones((2, 2)), np.zeros(2, dtype=bool))).all()


def test_patients_are_counted_and_not_images() -> None:
    labels = np.array([[1, 0], [1, 0], [1, 1], [np.nan, 1], [0, 1]], float)
    patients = np.array(["a", "a", "b", "c", "d"])
    assert list(positive_patients(labels, patients)) == [2, 3]
    # The first class has two patients with a positive and one with a negative, the second three
    # and one.
    assert list(classes_to_select_by(labels, patients, least=2)) == [False, False]
    assert list(classes_to_select_by(labels, patients, least=1)) == [True, True]
    more = np.vstack([labels, [0, 0], [0, np.nan]])
    found = classes_to_select_by(more, np.r_[patients, ["e", "f"]], least=2)
    assert list(found) == [True, True]
    assert list(classes_to_select_by(more, np.r_[patients, ["e", "f"]], least=3)) == [False, False]
