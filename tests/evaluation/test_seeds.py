from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from medsgssl.evaluation.resampled_auc import RankedScores
from medsgssl.evaluation.seeds import MethodRuns, compare_methods, interval_over_seeds, summarize
from tests.evaluation.simulate import study

OPTIONS = {"resamples": 300, "confidence": 0.95, "seed": 0}


def test_summary_of_several_seeds():
    labels, runs, owner = study(np.random.default_rng(0), 80, 3, models=4)
    found = summarize(labels, runs, owner, **OPTIONS)
    values = [RankedScores(labels, run).auc().mean() for run in runs]
    assert found.values == pytest.approx(values)
    assert found.mean == pytest.approx(np.mean(values))
    assert found.sd == pytest.approx(np.std(values, ddof=1))
    assert found.interval.low < found.mean < found.interval.high
    assert found.seeds_included


def test_seeds_widen_the_interval():
    labels, (scores,), owner = study(np.random.default_rng(1), 80, 3)
    alike = [scores] * 4
    unlike = [scores + shift * labels for shift in (-0.6, -0.2, 0.2, 0.6)]
    narrow, wide = (summarize(labels, runs, owner, **OPTIONS) for runs in (alike, unlike))
    assert narrow.sd == 0
    assert np.ptp(wide.interval.pair()) > 1.5 * np.ptp(narrow.interval.pair())


def test_one_seed_says_that_seeds_are_not_in_it():
    labels, runs, owner = study(np.random.default_rng(0), 40)
    found = summarize(labels, runs, owner, **OPTIONS)
    assert found.sd is None
    assert not found.seeds_included
    assert found.interval.pair() is not None


def test_methods_with_different_numbers_of_seeds():
    labels, runs, owner = study(np.random.default_rng(3), 100, 3, models=5)
    better = [run + 1.5 * labels for run in runs[:2]]
    found = compare_methods(labels, better, runs[2:], owner, **OPTIONS)
    assert found.interval.low > 0
    assert found.p < 0.05
    assert found.seeds_included
    assert not compare_methods(labels, better, runs[2:3], owner, **OPTIONS).seeds_included
    same = compare_methods(labels, runs, runs, owner, **OPTIONS)
    assert same.difference == 0
    assert same.p == 1.0


def test_a_missing_disease_in_most_resamples_gives_no_interval():
    labels, runs, owner = study(np.random.default_rng(0), 40, models=2)
    labels = np.zeros_like(labels)
    labels[0] = True
    found = summarize(labels, runs, owner, **OPTIONS)
    assert found.interval.pair() is None
    assert found.interval.left_out > 60
    assert compare_methods(labels, runs[:1], runs[1:], owner, **OPTIONS).p is None


def test_no_resamples_give_no_interval():
    labels, runs, owner = study(np.random.default_rng(0), 40, models=2)
    found = summarize(labels, runs, owner, resamples=0, confidence=0.95, seed=0)
    assert found.interval.pair() is None


def test_no_run_is_refused():
    labels, _, owner = study(np.random.default_rng(0), 10)
    with pytest.raises(ValueError, match="no run"):
        summarize(labels, [], owner, **OPTIONS)


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [2, 3, 5])
@pytest.mark.parametrize("sd", [0.0, 0.4])
def test_false_positives_do_not_exceed_the_nominal_rate(seeds, sd):
    """Equal methods whose runs differ in quality by chance; 7 % allows for 250 studies."""
    positive = 0
    for s in range(250):
        random = np.random.default_rng([s, 31, seeds])
        labels, runs, owner = study(random, 60, models=2 * seeds)
        runs = [run + random.normal(0, sd) * labels for run in runs]
        found = compare_methods(
            labels, runs[:seeds], runs[seeds:], owner, resamples=150, confidence=0.95, seed=s
        )
        positive += found.p < 0.05
    print(seeds, sd, positive / 250)
    assert positive / 250 <= 0.07


def test_with_patients_out_of_play_the_interval_is_students():
    values = np.array([0.70, 0.74, 0.81])
    runs = MethodRuns(values, np.tile(values, (50, 1)))
    found, _ = interval_over_seeds(values.mean(), runs.draws.mean(axis=1), [runs], 0.95, 50)
    reach = stats.t.ppf(0.975, 2) * values.std(ddof=1) / np.sqrt(3)
    assert found.high - values.mean() == pytest.approx(reach)
