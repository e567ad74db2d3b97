"""The calibration of an arm: means over diseases and seeds or folds, and the band of its curve."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit

from benchmarks.simulation import simulate_study
from medsgssl.evaluation.calibration_summary import frequency_band, summarize_calibration
from medsgssl.study.arms import Arm, gather_arms
from medsgssl.study.score_model import ScoreModel, unscored
from medsgssl.study.statistics import PointEstimate, ResampledTestSet
from medsgssl.study.study_calibration import MEASURES, arm_calibration, arm_reliability, is_scaled


def _arm(folds: int = 0, unknown: bool = False) -> tuple[Arm, ResampledTestSet]:
    """Two images of each of 300 patients, two classes, scores on the scale of probabilities."""
    random = np.random.default_rng(0)
    owner = np.repeat(np.arange(300), 2)
    labels = (random.random((len(owner), 2)) < 0.25).astype(np.float32)
    if unknown:
        labels[:200, 0] = np.nan  # 100 patients of whom nothing is known in one class
    names = pd.Series(owner).astype(str).str.zfill(4)
    parts = [owner % folds == fold for fold in range(folds)] or [np.ones(len(owner), bool)]
    tests = [unscored(("a", "b"), labels[part], names[part]) for part in parts]
    runs = simulate_study(tests, ScoreModel(), [], random, seeds=3, folds=folds > 0)
    runs = [
        replace(run, test=replace(run.test, scores=expit(3 * run.test.scores - 2.5)))
        for run in runs
    ]
    bench = ResampledTestSet(tests, folds=range(folds))
    (arm,) = gather_arms(runs, bench)
    return arm, bench


def _values(name: str, columns: list[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> list[float]:
    return [getattr(summarize_calibration(*column), name).value for column in columns]


@pytest.mark.parametrize("folds", [0, 3])
def test_numbers_are_means_over_diseases_and_seeds_and_folds_are_pooled(folds: int) -> None:
    arm, bench = _arm(folds)
    found = arm_calibration(arm, bench)
    each = [run.test.column(d)[:3] for run in arm.runs for d in range(2)]
    if folds:
        scores = np.concatenate([run.test.scores for run in arm.runs])
        each = [(bench.test.labels[:, d] == 1, scores[:, d], bench.test.patients) for d in range(2)]
    for name in MEASURES:
        mean = np.mean(_values(name, each))
        if name == "ece_debiased":
            mean = np.sqrt(max(0, mean))
        assert found[name].value == pytest.approx(mean)
        if folds and name == "calibration_slope":
            assert found[name].interval is None
        else:
            low, high = found[name].interval or (np.nan, np.nan)
            assert low <= mean <= high
        assert found[name].repeats == 3


def test_a_fold_that_was_trained_worse_widens_the_interval_of_pooled_skill() -> None:
    arm, bench = _arm(3)
    worse = replace(arm.runs[0], test=replace(arm.runs[0].test, scores=arm.runs[0].test.scores / 9))
    uneven = replace(arm, runs=(worse, *arm.runs[1:]))
    before, after = (arm_calibration(one, bench)["brier_skill"] for one in (arm, uneven))
    assert _reach(after) > 2 * _reach(before)


def _reach(point: PointEstimate) -> float:
    assert point.interval is not None
    return point.interval[1] - point.interval[0]


def test_patients_without_a_label_have_no_influence() -> None:
    arm, bench = _arm(unknown=True)
    found = arm_calibration(arm, bench)["calibration_intercept"]
    assert found.value is not None
    column = arm.runs[0].test.column(0)
    assert len(np.unique(column.patients)) == 200
    assert found.interval is not None


def _width(low: np.ndarray, high: np.ndarray) -> float:
    return float((high - low).mean())


def test_seeds_repeat_the_same_patients_and_folds_do_not() -> None:
    arm, bench = _arm()
    band = arm_reliability(arm, bench, scaled=False)
    assert band is not None
    assert ((band.low <= band.curve.frequency) & (band.curve.frequency <= band.high)).all()
    labels = np.tile((bench.test.labels == 1).T.ravel(), 3)
    scores = np.concatenate([run.test.scores.T.ravel() for run in arm.runs])
    # As if every run had patients of its own.
    patients = np.concatenate([np.tile(bench.test.patients, 2) + 1000 * n for n in range(3)])
    naive = frequency_band(labels, scores, patients, len(band.low), 0.95)
    assert _width(band.low, band.high) > 1.1 * _width(*map(np.array, naive))
    folds, apart = _arm(3)
    band = arm_reliability(folds, apart, scaled=False)
    assert band is not None
    assert int(band.curve.count.sum()) == 2 * len(apart.test)


def test_without_temperatures_scores_are_those_of_training() -> None:
    arm, bench = _arm()
    assert not is_scaled(arm, bench)
    assert arm_reliability(arm, bench, scaled=True) is None
