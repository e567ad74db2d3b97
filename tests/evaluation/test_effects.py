from __future__ import annotations

import numpy as np
import pytest
from scipy import special, stats

from medsgssl.evaluation.effects import Effect, average, effective_patients, pooled_folds
from medsgssl.evaluation.jackknife import Statistic, mean_by_patient
from medsgssl.evaluation.multiplicity import simultaneous_level
from medsgssl.evaluation.spread import Spread

NOTHING = np.zeros(10)


def _seeds(*values: float, influences: np.ndarray = NOTHING) -> Effect:
    return average([Statistic(value, influences) for value in values])


def test_without_patients_the_interval_is_students() -> None:
    values = np.array([0.02, 0.05, 0.01, 0.04])
    effect = _seeds(*values)
    wanted = stats.ttest_1samp(values, 0)
    assert effect.p == pytest.approx(wanted.pvalue)
    assert effect.interval(0.05) == pytest.approx(tuple(wanted.confidence_interval(0.95)))
    for null in (0.02, -0.01):
        assert effect.p_against(null) == pytest.approx(stats.ttest_1samp(values, null).pvalue)
    low, _ = effect.interval(0.05) or (0, 0)
    assert effect.p_against(low) == pytest.approx(0.05)


def test_without_spread_of_seeds_the_patients_alone_remain() -> None:
    influences = np.random.default_rng(0).normal(0, 0.01, 400)
    effect = _seeds(0.03, 0.03, 0.03, influences=influences)
    assert effect.standard_error == pytest.approx(np.sqrt((influences**2).sum()))
    # Influences alike in size: as many degrees of freedom as patients, about.
    assert effect.df == pytest.approx(400, rel=0.25)


def test_two_seeds_have_a_spread() -> None:
    influences = np.full(100, 0.001)
    effect = _seeds(0.01, 0.05, influences=influences)
    assert effect.standard_error**2 == pytest.approx(0.04**2 / 4 + 100 * 0.001**2)
    assert effect.spread == Spread(pytest.approx(0.04**2 / 2), 0.0, 1)
    assert _seeds(0.01, influences=influences).standard_error ** 2 == pytest.approx(100 * 0.001**2)


@pytest.mark.parametrize("folds", [False, True])
def test_without_any_uncertainty_only_the_value_itself_is_possible(folds: bool) -> None:
    for value, p in ((0.0, 1.0), (0.25, None)):
        certain = average([Statistic(value, NOTHING)] * 3, folds=folds)
        assert certain.p == p
        assert certain.interval(0.05) == (value, value)
        assert certain.p_equivalent(0.1) is None


def test_a_spread_that_is_known_makes_the_test_a_normal_one() -> None:
    effect = Effect(0.03, np.zeros(4), NOTHING, spread=Spread(0.02**2 * 4, 0.0, np.inf))
    assert effect.standard_error == pytest.approx(0.02)
    assert effect.p == pytest.approx(2 * stats.norm.sf(1.5))
    assert effect.interval(0.1) == pytest.approx(stats.norm.interval(0.9, 0.03, 0.02))
    assert effect.p_equivalent(0.05) == pytest.approx(stats.norm.sf(1.0))


def test_one_dominating_patient_leaves_few_degrees_of_freedom() -> None:
    influences = np.full(400, 1e-4)
    influences[0] = 0.1
    assert _seeds(0.03, 0.03, influences=influences).df < 3


def test_variances_of_seeds_and_patients_add_up() -> None:
    influences = np.random.default_rng(0).normal(0, 0.01, 400)
    effect = _seeds(0.0, 0.03, 0.06, influences=influences)
    assert effect.standard_error**2 == pytest.approx(0.03**2 / 3 + (influences**2).sum())
    assert 2 < effect.df < 400


def test_degrees_of_freedom_of_seeds_and_patients_are_satterthwaites() -> None:
    influences = np.random.default_rng(0).normal(0, 0.01, 40)
    effect = _seeds(0.0, 0.03, 0.06, influences=influences)
    squares = influences**2
    parts = np.array([squares.sum(), 0.03**2 / 3])
    known = np.array([3 * squares.sum() ** 2 / (squares**2).sum() - 2, 2])
    assert effect.df == pytest.approx(parts.sum() ** 2 / (parts**2 / known).sum())


@pytest.mark.parametrize(("count", "training"), [(5, 1.0), (5, 40.0), (3, 1.0)])
def test_folds_know_their_spread_less_well_the_less_of_it_is_training(
    count: int, training: float
) -> None:
    influences = np.full(100, 0.1)  # a variance of 1 of the mean, and of `count` of each fold
    spread = Spread(count + training, count, 4.0 * (count - 1))
    effect = Effect(0.0, np.zeros(count), influences, folds=True, spread=spread)
    longer = 1 / count + 1 / (count - 1)
    assert effect.standard_error**2 == pytest.approx(1 + training * longer)
    doubt = np.sqrt(training * spread.variance) * longer
    wanted = spread.df * ((1 + training * longer) / (1 + doubt)) ** 2
    assert effect.df == pytest.approx(wanted)
    assert effect.df < spread.df
    few = Effect(0.0, np.zeros(count), influences, True, Spread(count + training, count, 1.0))
    assert few.df == 1
    limited = Effect(
        0.0, np.zeros(count), influences, folds=True, spread=spread, max_patient_df=1.5
    )
    assert limited.df == 1.5


def test_patients_of_equal_influence_count_as_so_many() -> None:
    assert effective_patients(np.full(7, -0.3)) == pytest.approx(7)
    assert effective_patients(np.r_[np.full(7, 0.3), np.zeros(50)]) == pytest.approx(7)
    assert effective_patients(np.r_[10.0, np.full(20, 0.1)]) == pytest.approx(1, abs=0.01)
    assert effective_patients(np.zeros(7)) == np.inf


def test_overlapping_training_sets_widen_folds() -> None:
    parts = [np.zeros(300) for _ in range(3)]
    for fold, part in enumerate(parts):
        part[100 * fold : 100 * fold + 100] = 0.01
    v_f = 100 * 0.01**2
    alike = average(
        [Statistic(value, part) for value, part in zip((0.1, 0, 0.1), parts, strict=True)],
        folds=True,
    )
    # Folds no further apart than their patients explain: these alone remain.
    assert alike.standard_error**2 == pytest.approx(3 * v_f / 9)
    apart = average(
        [Statistic(value, part) for value, part in zip((0.5, 0, 0.4), parts, strict=True)],
        folds=True,
    )
    beyond = np.var([0.5, 0, 0.4], ddof=1) - v_f
    assert apart.training == pytest.approx(beyond * (1 / 3 + 1 / 2))


def test_equivalence_is_two_one_sided_tests() -> None:
    values = np.array([0.001, -0.002, 0.003, 0.0])
    effect = _seeds(*values)
    upper = stats.ttest_1samp(values, 0.01, alternative="less").pvalue
    lower = stats.ttest_1samp(values, -0.01, alternative="greater").pvalue
    assert effect.p_equivalent(0.01) == pytest.approx(max(upper, lower))


def test_undefined_influences_give_no_interval() -> None:
    effect = _seeds(0.1, 0.2, influences=np.full(10, np.nan))
    assert effect.interval(0.05) is None
    assert effect.p is None
    assert effect.detectable(0.05) is None


def test_detectable_is_what_eighty_percent_of_studies_find() -> None:
    effect = _seeds(0.0, 0.01, 0.02, influences=np.full(50, 0.001))
    distance = effect.detectable(0.05)
    assert distance is not None
    critical = stats.t.ppf(0.975, effect.df)
    power = stats.t.sf(critical - distance / effect.standard_error, effect.df)
    assert power == pytest.approx(0.8)


def test_simultaneous_level_lies_between_bonferroni_and_none() -> None:
    rng = np.random.default_rng(0)
    influences = rng.normal(0, 0.01, (6, 300))
    apart = [_seeds(0.0, 0.0, 0.0, influences=one) for one in influences]
    same = [_seeds(0.0, 0.0, 0.0, influences=influences[0])] * 6
    assert simultaneous_level(apart, 0.05) == pytest.approx(1 - 0.95 ** (1 / 6), rel=0.15)
    # Variances are drawn apart, so equal effects do not count quite as one.
    assert 0.035 < simultaneous_level(same, 0.05) <= 0.05
    assert simultaneous_level(apart[:1], 0.05) == 0.05


def test_simultaneous_intervals_hold_jointly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Correlated effects of few seeds: drawn again and again, 95 % hold together."""
    monkeypatch.setattr("medsgssl.evaluation.multiplicity._DRAWS", 2000)
    rng = np.random.default_rng(1)
    missed = 0
    for _ in range(300):
        shared = rng.normal(size=100)
        family = []
        for _ in range(5):
            patients = (shared + rng.normal(size=100)) / np.sqrt(200)  # variance of the sum: 1
            seeds = rng.normal(0, np.sqrt(3), 3)
            family.append(
                average([Statistic(patients.sum() + s, patients - patients.mean()) for s in seeds])
            )
        level = simultaneous_level(family, 0.05)
        ends = [one.interval(level) for one in family]
        missed += any(end is None or not end[0] < 0 < end[1] for end in ends)
    assert missed / 300 <= 0.08


def test_pooled_folds_know_their_spread_like_a_mean_over_folds() -> None:
    random = np.random.default_rng(0)
    owner = np.arange(600)
    members = [owner % 5 == fold for fold in range(5)]
    noise = random.normal(size=600)
    noise -= np.array([noise[own].mean() for own in members])[owner % 5]  # folds alike
    for shift in (0.0, 0.4):  # of one fold's training
        values = noise + shift * (owner % 5 == 2)
        together = pooled_folds(mean_by_patient(values, owner, 600), members)
        apart = average(
            [mean_by_patient(np.where(own, values, np.nan), owner, 600) for own in members],
            folds=True, difference=False,
        )  # fmt: skip
        assert together.value == pytest.approx(apart.value)
        assert together.values == pytest.approx(apart.values, abs=0.002)
        assert together.df == pytest.approx(apart.df, rel=0.25)
        assert together.training == pytest.approx(apart.training, rel=0.1, abs=1e-4)
        # The trainings of overlapping sets count more than once.
        wider = together.standard_error > 1.3 * np.sqrt(together.patient_variance)
        assert wider == (shift > 0)


def test_two_folds_have_a_spread_and_one_has_none() -> None:
    statistic = Statistic(0.5, np.array([0.1, 0.1, -0.1, -0.1]))
    half = np.arange(4) < 2
    two, one = pooled_folds(statistic, [half, ~half]), pooled_folds(statistic, [half | ~half])
    assert two.values == pytest.approx([0.9, 0.1])
    assert two.spread == Spread(pytest.approx(0.32), pytest.approx(2 * 0.04), 1)
    assert one.spread is None


def test_skewed_interval_is_symmetric_on_the_logit_scale() -> None:
    influences = np.random.default_rng(0).normal(0, 0.002, 100)
    effect = average([Statistic(0.06, influences)], difference=False)
    low, high = effect.skewed_interval(0.05) or (0, 0)
    plain = effect.interval(0.05) or (0, 0)
    assert special.logit([low, high]).mean() == pytest.approx(special.logit(0.06))
    assert high > plain[1]
    assert plain[0] < low < 0.06
    # One patient who decides: the other ninety-nine do not make it known well, nor do they make
    # it unknown.
    influences[0] = 0.04
    dominated = average([Statistic(0.06, influences)], difference=False)
    scale = np.sqrt((influences**2).sum()) / (0.06 * 0.94)
    reach = special.logit((dominated.skewed_interval(0.05) or (0, 0))[1]) - special.logit(0.06)
    assert reach == pytest.approx(stats.t.ppf(0.975, 4) * scale)


@pytest.mark.parametrize(("limit", "df"), [(np.inf, 10), (6.0, 6), (2.0, 2)])
def test_skewed_interval_has_the_effective_patients_as_degrees_of_freedom(
    limit: float, df: float
) -> None:
    influences = np.full(10, 0.004)
    effect = average([Statistic(0.2, influences)], difference=False, max_patient_df=limit)
    _, high = effect.skewed_interval(0.05) or (0, 0)
    scale = np.sqrt(10) * 0.004 / (0.2 * 0.8)
    assert special.logit(high) - special.logit(0.2) == pytest.approx(stats.t.ppf(0.975, df) * scale)


def test_a_share_of_one_has_no_logit_and_an_interval_all_the_same() -> None:
    effect = average([Statistic(1.0, np.full(20, 1e-3))], difference=False)
    low, high = effect.skewed_interval(0.05) or (0, 0)
    assert low < 1 < high
    assert low + high == pytest.approx(2)
