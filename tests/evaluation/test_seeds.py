from __future__ import annotations

import numpy as np
import pytest

from evaluation.simulate import study
from medsgssl.evaluation import RankedScores, compare_methods, summarise

OPTIONS = {"resamples": 300, "confidence": 0.95, "seed": 0}


def test_summary_of_several_seeds():
    labels, runs, owner = study(np.random.default_rng(0), 80, 3, models=4)
    found = summarise(labels, runs, owner, **OPTIONS)
    values = [RankedScores(labels, run).auc().mean() for run in runs]
    assert found.values == pytest.approx(values)
    assert found.mean == pytest.approx(np.mean(values))
    assert found.sd == pytest.approx(np.std(values, ddof=1))
    assert found.interval.low < found.mean < found.interval.high
    assert found.seeds_resampled


def test_seeds_widen_the_interval():
    labels, (scores,), owner = study(np.random.default_rng(1), 80, 3)
    alike = [scores] * 4
    unlike = [scores + shift * labels for shift in (-0.6, -0.2, 0.2, 0.6)]
    narrow, wide = (summarise(labels, runs, owner, **OPTIONS) for runs in (alike, unlike))
    assert narrow.sd == 0
    assert np.ptp(wide.interval.pair()) > 1.2 * np.ptp(narrow.interval.pair())


def test_seed_variance_is_not_understated():
    """With patients out of play the interval's variance is that of a mean of K seeds, s^2 / K."""
    random = np.random.default_rng(0)
    from medsgssl.evaluation.seeds import _resample_runs

    values = random.normal(size=3)
    draws = _resample_runs(np.tile(values, (20_000, 1)), 0, "test")
    assert draws.var() == pytest.approx(values.var(ddof=1) / 3, rel=0.03)


def test_one_seed_says_that_seeds_are_not_in_it():
    labels, runs, owner = study(np.random.default_rng(0), 40)
    found = summarise(labels, runs, owner, **OPTIONS)
    assert found.sd is None
    assert not found.seeds_resampled


def test_methods_with_different_numbers_of_seeds():
    labels, runs, owner = study(np.random.default_rng(3), 100, 3, models=5)
    better = [run + 1.5 * labels for run in runs[:2]]
    found = compare_methods(labels, better, runs[2:], owner, **OPTIONS)
    assert found.interval.low > 0
    assert found.p < 0.01
    same = compare_methods(labels, runs, runs, owner, **OPTIONS)
    assert same.difference == 0
    assert same.p > 0.2


def test_no_run_is_refused():
    labels, _, owner = study(np.random.default_rng(0), 10)
    with pytest.raises(ValueError, match="no run"):
        summarise(labels, [], owner, **OPTIONS)
