from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from medsgssl.evaluation.bootstrap import interval, patient_counts, resample
from tests.evaluation.simulate import study, true_auc


def test_counts_are_reproducible_and_prefix_stable():
    counts = patient_counts(50, 20, seed=3)
    assert (counts.sum(axis=1) == 50).all()
    np.testing.assert_array_equal(counts[:5], patient_counts(50, 5, seed=3))
    assert (counts != patient_counts(50, 20, seed=4)).any()


def test_percentile_interval_and_left_out():
    values = np.append(np.linspace(0, 1, 96), [np.nan] * 4)
    found = interval(values, 0.9)
    assert found.pair() == pytest.approx([0.05, 0.95])
    assert (found.resamples, found.left_out) == (100, 4)


def test_too_many_undefined_resamples_give_no_interval():
    found = interval(np.append(np.linspace(0, 1, 80), [np.nan] * 20), 0.9)
    assert found.pair() is None
    assert found.left_out == 20
    assert interval(np.empty(0), 0.9).pair() is None


def test_bca_agrees_with_scipy():
    """SciPy's BCa of a mean, from the same resamples."""
    random = np.random.default_rng(0)
    data = random.exponential(size=40)
    found = stats.bootstrap(
        (data,), np.mean, n_resamples=999, method="BCa", rng=np.random.default_rng(1)
    )
    jackknife = (data.sum() - data) / 39
    mine = interval(
        found.bootstrap_distribution, 0.95, estimate=data.mean(), jackknife=jackknife
    ).pair()
    assert mine == pytest.approx(list(found.confidence_interval), abs=1e-9)


def test_a_disease_of_one_patient_is_counted_and_given_no_interval():
    random = np.random.default_rng(0)
    labels = np.zeros((60, 2), dtype=bool)
    labels[:2, 0] = True
    labels[::3, 1] = True
    owner = np.repeat(np.arange(20), 3)
    found = resample(labels, random.random((60, 2)), owner, resamples=400, seed=0)
    rare = found.auc_interval(0, 0.95)
    assert rare.pair() is None
    assert rare.left_out / 400 == pytest.approx(np.exp(-1), abs=0.1)
    assert found.auc_interval(1, 0.95).pair() is not None
    assert found.mean_auc_interval(np.array([True, True]), 0.95).left_out == rare.left_out


def test_no_resamples_give_points_alone():
    labels, (scores,), owner = study(np.random.default_rng(0), 20, diseases=2)
    found = resample(labels, scores, owner, resamples=0, seed=0)
    assert np.isfinite(found.auc).all()
    assert found.auc_interval(0, 0.95).pair() is None


def test_patients_make_wider_intervals_than_images():
    labels, (scores,), owner = study(np.random.default_rng(1), 150)
    images = np.arange(len(owner))
    by_patient = resample(labels, scores, owner, resamples=500, seed=0).auc_interval(0, 0.95)
    by_image = resample(labels, scores, images, resamples=500, seed=0).auc_interval(0, 0.95)
    assert np.ptp(by_patient.pair()) > 1.3 * np.ptp(by_image.pair())


def coverage(studies: int, patients: int, resamples: int, method: str) -> dict[str, float]:
    """Share of nominal 95 % intervals of AUC and mean AUC that hold the true AUC."""
    truth, hits, mean_hits = true_auc(), 0, 0
    for s in range(studies):
        labels, (scores,), owner = study(np.random.default_rng([s, 17]), patients, diseases=2)
        found = resample(labels, scores, owner, resamples=resamples, seed=s, method=method)
        for d in range(2):
            low, high = found.auc_interval(d, 0.95).pair()
            hits += low <= truth <= high
        low, high = found.mean_auc_interval(np.ones(2, dtype=bool), 0.95).pair()
        mean_hits += low <= truth <= high
    return {"disease": hits / studies / 2, "mean": mean_hits / studies}


def test_coverage_is_near_nominal():
    found = coverage(60, 80, 300, "percentile")
    assert 0.87 <= found["disease"] <= 1
    assert 0.87 <= found["mean"] <= 1


@pytest.mark.slow
@pytest.mark.parametrize("method", ["percentile", "bca"])
def test_coverage_of_500_studies(method):
    found = coverage(500, 200, 1000, method)
    print(method, found)
    assert 0.93 <= found["disease"] <= 0.97
    assert 0.93 <= found["mean"] <= 0.97
