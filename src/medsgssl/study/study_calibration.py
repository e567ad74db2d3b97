"""How well the scores of an arm are calibrated: means over diseases, seeds or folds.

Each number is that of one run and one disease (``evaluation.calibration_summary``), averaged over
the diseases that are judged on and over seeds, with an interval over both sources of variance.
Folds are pooled instead, each patient with the score of the run that was tested on them: slope and
skill are biased where a fold has few positives, and a mean over folds would keep that bias. What
training adds to the skill shows in how far the folds' parts lie apart
(``evaluation.effects.pooled_folds``); intercept and error follow the frequencies, which differ
between folds anyhow, so their intervals are over patients alone. Scores are those at the
temperature that the run found on validation where every run and disease has one, else those of the
network as trained.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from medsgssl.evaluation.calibration import Reliability, apply_temperature, reliability
from medsgssl.evaluation.calibration_summary import (
    CalibrationSummary,
    frequency_band,
    summarize_calibration,
)
from medsgssl.evaluation.effects import average, pooled_folds
from medsgssl.evaluation.jackknife import Statistic
from medsgssl.evaluation.resampled_auc import Floats
from medsgssl.study.arms import Arm
from medsgssl.study.collect import FinishedRun
from medsgssl.study.statistics import PointEstimate, ResampledTestSet

#: What is averaged, with its words. Intervals of the last one are of its square.
MEASURES = {
    "brier_skill": "Brier skill",
    "calibration_slope": "slope",
    "calibration_intercept": "intercept",
    "ece_debiased": "debiased error",
}
#: Positives that a bin of a reliability curve must hold on average.
_POSITIVES_PER_BIN = 20
_MOST_BINS = 15


@dataclass(frozen=True)
class Band:
    """A reliability curve of an arm with its band.

    Attributes:
        curve: The diseases that are judged on, seeds and folds together, one entry per bin.
        low: ``(bins,)`` lower end of the share of positives, over patients.
        high: ``(bins,)`` upper end.
    """

    curve: Reliability
    low: Floats
    high: Floats


def is_scaled(arm: Arm, bench: ResampledTestSet) -> bool:
    """Tell whether every run has a temperature for every disease that is judged on."""
    names = [name for name, kept in zip(bench.names, bench.judged_on, strict=True) if kept]
    return all(
        run.metrics is not None
        and all(
            name in run.metrics["per_disease"]
            and run.metrics["per_disease"][name]["temperature"] is not None
            for name in names
        )
        for run in arm.runs
    )


def arm_calibration(
    arm: Arm, bench: ResampledTestSet, *, scaled: bool = False
) -> dict[str, PointEstimate]:
    """Average skill, slope, intercept and debiased error; see ``CalibrationSummary``.

    Args:
        arm: The runs.
        bench: The test images.
        scaled: At the temperature of validation; else as trained.

    Returns:
        ``MEASURES`` to numbers. Where a disease has too few patients, the skill alone, without an
        interval; undefined where the classes of a disease are separated in some run. The slope of
        folds has none either.
    """
    among = [int(d) for d in np.flatnonzero(bench.judged_on)]
    enough = not (bench.judged_on & ~bench.frequent()).any()
    parts: dict[int, list[CalibrationSummary | None]] = {
        key: [_summary(runs, bench, d, scaled=scaled) for d in among]
        for key, runs in _repeats(arm, bench).items()
    }
    found = {}
    for name in MEASURES:
        means = {
            key: _mean([getattr(one, name, None) for one in summaries], bench.patients)
            for key, summaries in parts.items()
        }
        found[name] = _estimate(name, means, bench, arm)
        if not enough:
            few = found[name].bare()
            found[name] = few if name == "brier_skill" else PointEstimate(None, repeats=few.repeats)
        elif bench.folds and name == "calibration_slope":
            # Training moves the slope as much as patients do, and how much is not known from the
            # spread of five folds: intervals with it covered 90 %.
            found[name] = found[name].bare()
    return found


def _repeats(arm: Arm, bench: ResampledTestSet) -> dict[int, tuple[FinishedRun, ...]]:
    """Return the runs that are summarized together: each seed alone, all folds at once."""
    return {0: arm.runs} if bench.folds else {run.repeat: (run,) for run in arm.runs}


def _estimate(
    name: str, repeats: Mapping[int, Statistic], bench: ResampledTestSet, arm: Arm
) -> PointEstimate:
    statistics = list(repeats.values())
    effect = average(statistics, difference=False)
    if bench.folds and name == "brier_skill":
        effect = pooled_folds(statistics[0], [bench.patients_of(run.fold) for run in arm.runs])
    point = replace(bench.point(effect, test=False), repeats=len(arm.runs))
    if name != "ece_debiased" or point.value is None:
        return point
    ends = None
    if point.interval is not None:
        ends = (_root(point.interval[0]), _root(point.interval[1]))
    return replace(point, value=_root(point.value), interval=ends, sd=None)


def _root(square: float) -> float:
    return float(np.sqrt(max(0.0, square)))


def _mean(statistics: list[Statistic | None], count: int) -> Statistic:
    known = [one for one in statistics if one is not None]
    if len(known) < len(statistics) or not known:
        return Statistic(float("nan"), np.full(count, np.nan))
    return Statistic(
        float(np.mean([one.value for one in known])),
        np.mean([one.influences for one in known], axis=0),
    )


def _column(
    run: FinishedRun, bench: ResampledTestSet, d: int, *, scaled: bool
) -> tuple[NDArray[np.bool_], Floats, NDArray[np.int64]] | None:
    """Return labels, scores and patients of one disease; None without the temperature asked for."""
    block = bench.block(run.fold)
    labels = bench.test.labels[block, d]
    known = np.isfinite(labels)
    scores = run.test.scores[known, d]
    if scaled:
        results = run.metrics["per_disease"] if run.metrics else {}
        name = bench.names[d]
        temperature = results[name]["temperature"] if name in results else None
        if temperature is None:
            return None
        scores = apply_temperature(scores, temperature)
    return labels[known] == 1, scores, bench.test.patients[block][known]


def _summary(
    runs: Sequence[FinishedRun], bench: ResampledTestSet, d: int, *, scaled: bool
) -> CalibrationSummary | None:
    """Summarize one disease of runs; patients without an image in it have no influence."""
    columns = [_column(run, bench, d, scaled=scaled) for run in runs]
    known = [column for column in columns if column is not None]
    if len(known) < len(columns):
        return None
    labels, scores, patients = (np.concatenate(part) for part in zip(*known, strict=True))
    summary = summarize_calibration(labels, scores, patients)
    if summary is None:
        return None
    present = np.unique(patients)

    def spread(one: Statistic) -> Statistic:
        influences = np.zeros(bench.patients)
        influences[present] = one.influences
        return Statistic(one.value, influences)

    slope, intercept = summary.calibration_slope, summary.calibration_intercept
    error = summary.ece_debiased
    return CalibrationSummary(
        brier_skill=spread(summary.brier_skill),
        calibration_slope=None if slope is None else spread(slope),
        calibration_intercept=None if intercept is None else spread(intercept),
        ece_debiased=replace(error, influences=spread(error).influences),
    )


def arm_reliability(arm: Arm, bench: ResampledTestSet, *, scaled: bool) -> Band | None:
    """Return the reliability of an arm, its diseases pooled, in as many bins as they bear.

    Args:
        arm: The runs.
        bench: The test images.
        scaled: At the temperature of validation; else as trained.

    Returns:
        The curve with its band over patients; None where no run has what was asked for.
    """
    columns = [
        column
        for run in arm.runs
        for d in map(int, np.flatnonzero(bench.judged_on))
        if (column := _column(run, bench, d, scaled=scaled)) is not None
    ]
    if not columns:
        return None
    labels, scores, patients = (np.concatenate(part) for part in zip(*columns, strict=True))
    # Seeds show the same positives again; folds show others.
    positives = int(labels.sum()) // (1 if bench.folds else len(arm.runs))
    bins = min(_MOST_BINS, max(1, positives // _POSITIVES_PER_BIN))
    low, high = frequency_band(labels, scores, patients, bins, bench.confidence)
    return Band(reliability(labels, scores, bins), np.array(low), np.array(high))
