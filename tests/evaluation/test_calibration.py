from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit, logit
from sklearn.metrics import brier_score_loss

from medsgssl.evaluation.calibration import (
    apply_temperature,
    brier_score,
    expected_calibration_error,
    fit_temperature,
    reliability,
)


def calibrated(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    scores = expit(random.normal(-1, 1.5, n))
    return random.random(n) < scores, scores


@pytest.mark.parametrize("temperature", [0.4, 1.0, 2.5])
def test_recovers_a_known_temperature(temperature):
    labels, scores = calibrated(60_000)
    distorted = expit(logit(scores) * temperature)
    found = fit_temperature(labels, distorted)
    assert found == pytest.approx(temperature, rel=0.03)
    np.testing.assert_allclose(apply_temperature(distorted, temperature), scores, atol=2e-3)


def test_temperature_lowers_the_error():
    labels, scores = calibrated(20_000)
    sharp = expit(3 * logit(scores))
    mended = apply_temperature(sharp, fit_temperature(labels, sharp))
    for binning in ("mass", "width"):
        before = expected_calibration_error(labels, sharp, binning=binning)
        after = expected_calibration_error(labels, mended, binning=binning)
        assert before > 0.1
        assert after < 0.02


def test_temperatures_lie_between_a_hundredth_and_a_hundred():
    scores = np.array([0.2, 0.3, 0.6, 0.8])
    assert fit_temperature(scores > 0.5, scores) == pytest.approx(0.01, rel=1e-3)
    assert fit_temperature(scores < 0.5, scores) == pytest.approx(100, rel=1e-3)


def test_no_temperature_without_both_classes():
    assert fit_temperature(np.zeros(3, dtype=bool), np.full(3, 0.4)) is None
    assert fit_temperature(np.ones(3, dtype=bool), np.full(3, 0.4)) is None


def test_scores_of_zero_and_one_are_finite():
    scores = np.array([0.0, 1.0, 0.5])
    found = fit_temperature(np.array([True, False, True]), scores)
    assert np.isfinite(found)
    assert np.isfinite(apply_temperature(scores, found)).all()


def test_equal_width_by_hand():
    scores = np.array([0.1, 0.2, 0.6, 0.9])
    labels = np.array([False, True, True, True])
    found = reliability(labels, scores, bins=2, binning="width")
    assert found.count.tolist() == [2, 2]
    np.testing.assert_allclose(found.score, [0.15, 0.75])
    np.testing.assert_allclose(found.frequency, [0.5, 1.0])
    assert found.error() == pytest.approx(0.3)
    # A score on an edge goes to the upper bin.
    edge = reliability(np.ones(3, bool), np.array([0.4, 0.5, 0.6]), bins=2, binning="width")
    assert edge.count.tolist() == [1, 2]


def test_the_error_weighs_bins_by_their_images():
    scores = np.array([0.1, 0.2, 0.3, 0.9])
    labels = np.array([False, True, False, True])
    found = reliability(labels, scores, bins=2, binning="width")
    assert found.count.tolist() == [3, 1]
    assert found.error() == pytest.approx(0.75 * (1 / 3 - 0.2) + 0.25 * 0.1)


def test_equal_mass_keeps_ties_together():
    scores = np.array([0.2] * 90 + [0.8] * 10)
    labels = np.arange(100) % 2 == 0
    found = reliability(labels, scores, bins=10)
    assert found.count.tolist() == [90, 10]
    shuffled = np.random.default_rng(0).permutation(100)
    again = reliability(labels[shuffled], scores[shuffled], bins=10)
    np.testing.assert_allclose(again.frequency, found.frequency)


def test_equal_mass_bins_hold_equally_many():
    labels, scores = calibrated(1500)
    assert expected_calibration_error(labels, scores) == reliability(labels, scores).error()
    assert reliability(labels, scores, bins=15).count.tolist() == [100] * 15


def test_brier_agrees_with_sklearn():
    labels, scores = calibrated(500)
    assert brier_score(labels, scores) == pytest.approx(brier_score_loss(labels, scores))
