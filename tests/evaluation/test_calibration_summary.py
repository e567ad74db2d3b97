"""Skill, slope, intercept and debiased error, and their intervals over patients."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from scipy import stats
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss

from benchmarks.levels import LEVEL, probabilities, true_values
from medsgssl.evaluation.calibration import bin_of, reliability
from medsgssl.evaluation.calibration_summary import (
    SquaredGap,
    bins_for,
    frequency_band,
    summarize_calibration,
)


def drawn(
    patients: int, seed: int, slope: float = 1.0, shift: float = 0.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, scores and patients, two images each, whose true slope and intercept are known."""
    random = np.random.default_rng(seed)
    owner = np.repeat(np.arange(patients), 2)
    truth = np.repeat(random.normal(-1, 1, patients), 2) + random.normal(0, 1, len(owner))
    labels = random.random(len(owner)) < expit(truth)
    return labels, expit((truth - shift) / slope), owner


def test_values_agree_with_other_libraries() -> None:
    labels, scores, owner = drawn(2000, 0, slope=0.6, shift=0.3)
    found = summarize_calibration(labels, scores, owner)
    assert found is not None
    share = labels.mean()
    skill = 1 - brier_score_loss(labels, scores) / (share * (1 - share))
    assert found.brier_skill.value == pytest.approx(skill)
    fitted = LogisticRegression(C=np.inf, tol=1e-10).fit(logit(scores)[:, None], labels)
    assert found.calibration_slope is not None
    assert found.calibration_slope.value == pytest.approx(fitted.coef_[0, 0], rel=1e-4)
    # The intercept at slope 1 makes the mean score that of the labels.
    assert found.calibration_intercept is not None
    shifted = expit(logit(scores) + found.calibration_intercept.value)
    assert shifted.mean() == pytest.approx(share)


def test_calibrated_scores_have_no_debiased_error_and_others_have() -> None:
    plain, debiased = [], []
    for seed in range(30):
        labels, scores, owner = drawn(150, seed)
        found = summarize_calibration(labels, scores, owner)
        assert found is not None
        debiased.append(found.ece_debiased.value)
        plain.append(reliability(labels, scores, bins_for(labels)).error())
    assert np.mean(plain) > 0.03, "chance alone"
    error = np.std(debiased) / np.sqrt(len(debiased))
    assert abs(np.mean(debiased)) < 3 * error
    assert 6 * error < np.mean(np.square(plain)), "the test sees what is subtracted"
    labels, scores, owner = drawn(4000, 0, shift=1.0)
    found = summarize_calibration(labels, scores, owner)
    assert found is not None
    told = found.values(0.95, intervals=True)
    gap = np.sqrt(np.mean((scores - expit(logit(scores) + 1.0)) ** 2))
    assert told["ece_debiased"] == pytest.approx(gap, rel=0.1)


def test_intervals_hold_with_patients_as_clusters() -> None:
    hits = {"calibration_slope": 0, "calibration_intercept": 0, "brier_skill": 0}
    labels, scores, owner = drawn(100_000, 10**6, slope=0.8, shift=0.2)
    large = summarize_calibration(labels, scores, owner)
    assert large is not None
    truth = {"calibration_slope": 0.8, "brier_skill": large.brier_skill.value}
    assert large.calibration_intercept is not None
    truth["calibration_intercept"] = large.calibration_intercept.value
    for seed in range(200):
        found = summarize_calibration(*drawn(120, seed, slope=0.8, shift=0.2))
        assert found is not None
        told = found.values(0.95, intervals=True)
        for name in hits:
            ends = told[f"{name}_interval"]
            assert isinstance(ends, list)
            hits[name] += ends[0] <= truth[name] <= ends[1]
    for name, count in hits.items():
        assert 0.9 <= count / 200 <= 0.985, name


def test_interval_of_the_debiased_error_misses_on_neither_side() -> None:
    labels, scores, owner = drawn(50_000, 10**6, slope=0.6, shift=0.5)
    large = summarize_calibration(labels, scores, owner)
    assert large is not None
    truth, below, above, shows = np.sqrt(large.ece_debiased.value), 0, 0, 0
    for seed in range(200):
        found = summarize_calibration(*drawn(60, seed, slope=0.6, shift=0.5))
        assert found is not None
        ends = found.values(0.95, intervals=True)["ece_debiased_interval"]
        assert isinstance(ends, list)
        below += ends[1] < truth
        above += ends[0] > truth
        shows += ends[0] > 0
    assert below + above <= 20
    assert below <= 10, "an interval from the observed square alone ends too low"
    assert shows > 150


def test_few_patients_get_no_interval() -> None:
    labels, scores, owner = drawn(30, 0)
    found = summarize_calibration(labels, scores, owner)
    assert found is not None
    told = found.values(0.95, intervals=False)
    assert told["brier_skill"] is not None
    assert [name for name, value in told.items() if value is not None] == ["brier_skill"]


def test_separated_classes_have_no_slope_and_one_class_nothing() -> None:
    scores = np.array([0.1, 0.2, 0.8, 0.9])
    found = summarize_calibration(scores > 0.5, scores, np.arange(4))
    assert found is not None
    assert found.calibration_slope is None
    assert summarize_calibration(np.ones(4, bool), scores, np.arange(4)) is None


def test_copies_of_an_image_do_not_narrow_the_band() -> None:
    labels, scores, owner = drawn(200, 0)
    once = frequency_band(labels, scores, owner, 5, 0.95)
    copied = frequency_band(
        np.repeat(labels, 4), np.repeat(scores, 4), np.repeat(owner, 4), 5, 0.95
    )
    np.testing.assert_allclose(once, copied, atol=0.02)
    curve = reliability(labels, scores, 5)
    assert all(
        low < share < high
        for low, share, high in zip(once[0], curve.frequency, once[1], strict=True)
    )


@pytest.mark.parametrize("factor", [1.0, 2.0])
def test_many_patients_give_the_values_that_simulations_call_true(factor: float) -> None:
    random = np.random.default_rng(3)
    count, share, bins = 60_000, 0.2, 15
    labels = random.random(count) < share
    latent = random.standard_normal(count) + LEVEL * labels
    chance = probabilities(latent, np.array(share), LEVEL)
    found = summarize_calibration(labels, expit(factor * logit(chance)), np.arange(count) // 30)
    truth = true_values(share, share, factor, 0.0, bins)
    assert truth.calibration_slope == pytest.approx(1 / factor)
    assert (truth.ece_squared < 1e-8) == (factor == 1)
    assert found is not None
    assert found.brier_skill.value == pytest.approx(truth.brier_skill, abs=0.01)
    assert found.ece_debiased.value == pytest.approx(truth.ece_squared, rel=0.1, abs=1e-4)
    for one, value in (
        (found.calibration_slope, truth.calibration_slope),
        (found.calibration_intercept, truth.calibration_intercept),
    ):
        assert one is not None
        assert one.value == pytest.approx(value, abs=0.06)


@pytest.mark.parametrize(("slope", "shift"), [(0.2, 1.0), (0.1, -6.0), (0.5, 6.0), (0.05, 3.0)])
def test_extreme_scores_have_an_intercept_too(slope: float, shift: float) -> None:
    """Full Newton steps overshoot here: the fit must not give up."""
    labels, scores, owner = drawn(300, 0, slope=slope, shift=shift)
    found = summarize_calibration(labels, scores, owner)
    assert found is not None
    assert found.calibration_intercept is not None
    at = expit(logit(np.clip(scores, 1e-7, 1 - 1e-7)) + found.calibration_intercept.value)
    assert at.mean() == pytest.approx(labels.mean(), abs=1e-6)


def test_influences_are_those_of_recomputing_without_each_patient() -> None:
    labels, scores, owner = drawn(60, 2, slope=0.7, shift=0.4)
    found = summarize_calibration(labels, scores, owner)
    assert found is not None
    rest = [
        summarize_calibration(labels[keep], scores[keep], owner[keep])
        for keep in (owner != patient for patient in range(60))
    ]

    def exact(name: str) -> np.ndarray:
        left_out = np.array([getattr(one, name).value for one in rest])
        return np.sqrt(59 / 60) * (left_out.mean() - left_out)

    assert found.brier_skill.influences == pytest.approx(exact("brier_skill"), rel=1e-9)
    assert found.ece_debiased.influences.shape == (60,)
    # Slope and intercept take one step of the fit without each patient.
    for one, name, tolerance in (
        (found.calibration_slope, "calibration_slope", 0.2),
        (found.calibration_intercept, "calibration_intercept", 0.02),
    ):
        assert one is not None
        wanted = exact(name)
        assert np.corrcoef(one.influences, wanted)[0, 1] > 0.99
        assert (one.influences**2).sum() == pytest.approx((wanted**2).sum(), rel=tolerance)


def test_the_ends_of_the_debiased_interval_just_explain_what_was_observed() -> None:
    gap = SquaredGap(0.02, np.full(30, 1e-3), at_zero=1e-5, slope=4e-3, max_df=12)
    low, high = gap.interval(0.1) or (0.0, 0.0)
    t = stats.t.ppf(0.95, 12)  # the fewer of thirty patients of equal influence and the limit
    assert low < gap.value < high
    for end in (low, high):
        assert abs(gap.value - end) == pytest.approx(t * np.sqrt(gap.at_zero + gap.slope * end))
    for few in (0, 1):  # no fewer than one degree of freedom
        wide = SquaredGap(0.02, np.full(30, 1e-3), at_zero=1e-5, slope=4e-3, max_df=few)
        _, high = wide.interval(0.1) or (0.0, 0.0)
        t = stats.t.ppf(0.95, 1)
        assert high - gap.value == pytest.approx(t * np.sqrt(gap.at_zero + gap.slope * high))
    small = SquaredGap(-0.001, np.full(30, 1e-3), at_zero=1e-5, slope=4e-3, max_df=12)
    assert (small.interval(0.1) or (1, 0))[0] == 0
    undefined = SquaredGap(np.nan, np.full(30, 1e-3), at_zero=1e-5, slope=4e-3, max_df=12)
    assert undefined.interval(0.1) is None


def test_the_error_is_known_as_well_as_the_patients_of_the_rarer_class_allow() -> None:
    labels, scores, owner = drawn(200, 0)
    labels = labels & (owner < 30)
    found = summarize_calibration(labels, scores, owner)
    assert found is not None
    assert found.ece_debiased.max_df == len(np.unique(owner[labels])) - 1
    inverted = summarize_calibration(~labels, 1 - scores, owner)
    assert inverted is not None
    assert inverted.ece_debiased.max_df == found.ece_debiased.max_df


def test_a_patient_with_all_positives_leaves_a_skill_without_interval() -> None:
    owner = np.repeat(np.arange(40), 2)
    labels, scores = owner == 0, np.random.default_rng(0).random(80)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = summarize_calibration(labels, scores, owner)
        assert found is not None
        told = found.values(0.95, intervals=True)
    assert told["brier_skill"] is not None
    assert told["brier_skill_interval"] is None


@pytest.mark.parametrize(("positive", "count"), [(1, 2), (6, 12), (3, 12), (11, 12)])
def test_the_band_of_single_images_is_wilsons_with_students_t(positive: int, count: int) -> None:
    labels = np.arange(count) < positive
    low, high = frequency_band(labels, np.full(count, 0.4), np.arange(count), 1, 0.9)
    residuals = labels - labels.mean()
    df = min(count - 1, (residuals**2).sum() ** 2 / (residuals**4).sum())
    level = 1 - 2 * stats.norm.sf(stats.t.ppf(0.95, max(df, 1)))
    wanted = stats.binomtest(positive, count).proportion_ci(level, method="wilson")
    assert (low[0], high[0]) == pytest.approx((wanted.low, wanted.high))


@pytest.mark.parametrize("patients", [1, 2, 5])
def test_a_band_without_negatives_counts_patients(patients: int) -> None:
    owner = np.repeat(np.arange(patients), 3)
    labels, scores = np.ones(len(owner), bool), np.full(len(owner), 0.9)
    (low,), (high,) = frequency_band(labels, scores, owner, 1, 0.9)
    squared_t = stats.t.ppf(0.95, max(patients - 1, 1)) ** 2
    assert high == pytest.approx(1)
    assert low == pytest.approx(patients / (patients + squared_t))


@pytest.mark.parametrize("bins", [1, 3])
def test_of_single_images_the_error_is_that_of_the_gaps_less_their_variances(bins: int) -> None:
    random = np.random.default_rng(0)
    scores, labels = random.random(80), np.arange(80) < 10 * bins + 2
    assert bins_for(labels) == bins_for(~labels) == bins
    found = summarize_calibration(labels, scores, np.arange(80))
    assert found is not None
    parts = [scores[inside] - labels[inside]
             for inside in (bin_of(scores, bins) == number for number in range(bins))]  # fmt: skip
    weights = np.array([len(part) / 80 for part in parts])
    squares = np.array([part.mean() ** 2 for part in parts])
    variances = np.array([part.var() / len(part) * 80 / 79 for part in parts])
    error, raw = found.ece_debiased, float((weights * squares).sum())
    assert error.value == pytest.approx(raw - (weights * variances).sum())
    # Of normal gaps: the variances of their squares about 0, and about the gaps.
    assert error.at_zero == pytest.approx(2 * ((weights * variances) ** 2).sum())
    assert error.slope * raw == pytest.approx(4 * (weights**2 * squares * variances).sum())


def test_scores_that_equal_the_prevalence_have_no_error() -> None:
    found = summarize_calibration(np.arange(60) < 30, np.full(60, 0.5), np.arange(60))
    assert found is not None
    assert found.ece_debiased.value < 0
    assert found.ece_debiased.slope == 0
    assert found.values(0.95, intervals=True)["ece_debiased"] == 0


def test_the_errors_influences_keep_the_bins_and_drop_those_of_the_patient_alone() -> None:
    random = np.random.default_rng(1)
    owner = np.r_[np.zeros(30, int), np.repeat(np.arange(1, 16), 2)]
    scores = np.where(owner == 0, random.uniform(0.6, 1, 60), random.uniform(0, 0.5, 60))
    labels = random.random(60) < scores
    index = bin_of(scores, bins_for(labels))
    assert set(index[owner == 0]).isdisjoint(index[owner > 0])
    found = summarize_calibration(labels, scores, owner)
    assert found is not None
    left_out = []
    for patient in range(16):
        keep = owner != patient
        gaps = scores[keep] - labels[keep]
        bins = [gaps[index[keep] == number] for number in np.unique(index[keep])]
        left_out.append(sum(len(one) * one.mean() ** 2 for one in bins) / len(gaps))
    wanted = np.sqrt(15 / 16) * (np.mean(left_out) - left_out)
    assert found.ece_debiased.influences == pytest.approx(wanted)


def test_as_many_bins_as_ten_images_of_the_rarer_class_each_at_most_fifteen() -> None:
    for positives, bins in ((1, 1), (19, 1), (20, 2), (59, 5), (149, 14), (150, 15), (400, 15)):
        labels = np.arange(1000) < positives
        assert bins_for(labels) == bins_for(~labels) == bins
