"""Intervals of one run: over patients, none from few of them, and right in nineteen of twenty."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from medsgssl.evaluation.few_patients import MIN_PATIENTS
from medsgssl.evaluation.intervals import RunIntervals
from medsgssl.evaluation.jackknife import JackknifedScores
from medsgssl.evaluation.resampled_auc import patient_counts
from tests.evaluation.simulate import study, true_auc


def test_counts_are_reproducible_and_prefix_stable():
    counts = patient_counts(50, 20, seed=3)
    assert (counts.sum(axis=1) == 50).all()
    np.testing.assert_array_equal(counts[:5], patient_counts(50, 5, seed=3))
    assert (counts != patient_counts(50, 20, seed=4)).any()


@pytest.mark.parametrize("positive", [1, MIN_PATIENTS - 1, MIN_PATIENTS])
def test_a_disease_of_few_patients_has_no_interval_however_many_images(positive: int):
    random = np.random.default_rng(0)
    owner = np.repeat(np.arange(60), 5)
    labels = np.stack([owner < positive, random.random(300) < 0.4], axis=1).astype(np.float32)
    found = RunIntervals(labels, random.random((300, 2)), owner, 0.95)
    assert np.isfinite(found.auc).all()
    assert (found.auc_interval(0) is None) == (positive < MIN_PATIENTS)
    assert (found.ap_interval(0) is None) == (positive < MIN_PATIENTS)
    assert (found.mean_auc_interval(np.array([True, True])) is None) == (positive < MIN_PATIENTS)
    assert found.auc_interval(1) is not None
    assert found.mean_auc_interval(np.array([False, True])) is not None


def test_an_auc_is_known_as_well_as_the_patients_of_the_rarer_class_allow():
    random = np.random.default_rng(3)
    owner = np.repeat(np.arange(200), 3)
    labels = ((owner < MIN_PATIENTS) & (random.random(600) < 0.9))[:, None].astype(np.float32)
    scores = random.normal(size=(600, 1)) + 0.2 * labels
    found = RunIntervals(labels, scores, owner, 0.9).auc_interval(0)
    assert found is not None
    one = JackknifedScores(labels, scores, owner, 200).auc_of(0)
    squares = one.influences**2
    assert 3 * squares.sum() ** 2 / (squares**2).sum() - 2 > MIN_PATIENTS
    reach = stats.t.ppf(0.95, MIN_PATIENTS - 1) * np.sqrt(squares.sum())
    assert found == pytest.approx([one.value - reach, one.value + reach])


def test_intervals_can_be_left_out():
    labels, (scores,), owner = study(np.random.default_rng(0), 80, diseases=2)
    found = RunIntervals(labels.astype(np.float32), scores, owner, 0.95, wanted=False)
    assert np.isfinite(found.auc).all()
    assert np.isfinite(found.ap).all()
    assert found.auc_interval(0) is None


def test_patients_make_wider_intervals_than_images():
    labels, (scores,), owner = study(np.random.default_rng(1), 150)
    truth, images = labels.astype(np.float32), np.arange(len(owner))
    by_patient = RunIntervals(truth, scores, owner, 0.95).auc_interval(0)
    by_image = RunIntervals(truth, scores, images, 0.95).auc_interval(0)
    assert by_patient is not None
    assert by_image is not None
    assert np.ptp(by_patient) > 1.3 * np.ptp(by_image)


def test_intervals_stay_between_0_and_1():
    random = np.random.default_rng(0)
    owner = np.arange(120)
    labels = (owner % 4 == 0)[:, None].astype(np.float32)
    scores = labels + random.normal(0, 0.3, (120, 1))
    ends = RunIntervals(labels, scores, owner, 0.999).auc_interval(0)
    assert ends is not None
    assert 0 <= ends[0] < ends[1] <= 1


def test_the_interval_of_an_average_precision_reaches_further_up_than_down():
    random = np.random.default_rng(2)
    labels = (random.random((300, 1)) < 0.15).astype(np.float32)
    scores = random.normal(size=(300, 1)) + 0.5 * labels
    found = RunIntervals(labels, scores, np.arange(300) // 2, 0.95)
    low, high = found.ap_interval(0)  # type: ignore[misc]
    ap = found.ap[0]
    assert ap < 0.5
    assert 0 < ap - low < high - ap < 1


def coverage(studies: int, patients: int) -> dict[str, float]:
    """Share of nominal 95 % intervals of AUC and mean AUC that hold the true AUC."""
    truth, hits, mean_hits = true_auc(), 0, 0
    for s in range(studies):
        labels, (scores,), owner = study(np.random.default_rng([s, 17]), patients, diseases=2)
        found = RunIntervals(labels.astype(np.float32), scores, owner, 0.95)
        for d in range(2):
            low, high = found.auc_interval(d)  # type: ignore[misc]
            hits += low <= truth <= high
        low, high = found.mean_auc_interval(np.ones(2, dtype=bool))  # type: ignore[misc]
        mean_hits += low <= truth <= high
    return {"disease": hits / studies / 2, "mean": mean_hits / studies}


def test_coverage_is_near_nominal():
    found = coverage(100, 80)
    assert 0.89 <= found["disease"] <= 0.99
    assert 0.89 <= found["mean"] <= 0.99


@pytest.mark.slow
def test_coverage_of_500_studies():
    found = coverage(500, 200)
    assert 0.93 <= found["disease"] <= 0.97
    assert 0.93 <= found["mean"] <= 0.97
