"""How often intervals of single numbers miss: calibration, one disease, shortcuts, localization.

Part of `make simulations`, see `benchmarks/verdicts.py`. Patients are redrawn for each study,
with replacement from the real ones with their images and labels, because here the frequency of a
disease is part of what is estimated. The score of an image with the disease is normal around the
separation, that of one without it around 0, so the true probability of the disease is known and
scores can be calibrated, or too extreme by a known factor.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from scipy import optimize, special

from benchmarks.simulation import simulate_study
from medsgssl.config.schema import EvaluateSettings
from medsgssl.evaluation.calibration import logit, reliability
from medsgssl.evaluation.calibration_summary import (
    bins_for,
    frequency_band,
    summarize_calibration,
)
from medsgssl.evaluation.few_patients import enough_patients
from medsgssl.evaluation.intervals import RunIntervals
from medsgssl.evaluation.jackknife import JackknifedScores, mean_by_patient
from medsgssl.evaluation.predictions import Split
from medsgssl.evaluation.subgroups import shortcut_audit, subgroup_results
from medsgssl.study.arms import Arm, gather_arms
from medsgssl.study.comparisons import Comparison, compare_arms
from medsgssl.study.score_model import ScoreModel
from medsgssl.study.statistics import ResampledTestSet
from medsgssl.study.study_calibration import MEASURES, arm_calibration, arm_reliability
from medsgssl.study.study_localization import ArmLocalization, difference, estimate
from medsgssl.utils.formatting import words

Row = dict[str, Any]


@dataclass(frozen=True)
class Levels:
    """One setting of this simulation.

    Attributes:
        name: Of it.
        folds: Whether there are five folds; else three seeds.
        factor: What the logits of calibrated scores are multiplied with.
        studies: How many to simulate.
    """

    name: str
    folds: bool
    factor: float
    studies: int


CELLS = [
    Levels("3 seeds, calibrated scores", False, 1.0, 1000),
    Levels("3 seeds, scores too extreme by a factor of 2", False, 2.0, 1000),
    Levels("5 folds, calibrated scores", True, 1.0, 1000),
    Levels("5 folds, scores too extreme by a factor of 2", True, 2.0, 1000),
]
MODEL = ScoreModel()
#: Separation of positives from negatives, in standard deviations.
LEVEL = float(np.sqrt(2) * special.ndtri(MODEL.auc))
#: What a run's training adds to the separation, as `ScoreModel` draws it.
TRAINING_SD = float(
    np.hypot(MODEL.run_sd, MODEL.disease_sd) / (np.exp(-(LEVEL**2) / 4) / np.sqrt(4 * np.pi))
)
#: Boxes of each patient who has one in the 128-pixel subset of NIH ChestX-ray14.
BOXES = np.repeat([1, 2, 3], [27, 4, 1])
#: A study in so many also has its average precisions, which are slow.
_AP_EVERY = 4
#: Intervals of a disease that its own share of misses is stated for.
_FEWEST_OF_DISEASE = 100
_GRID = np.linspace(-8, 10, 2001)


@dataclass(frozen=True)
class Truth:
    """What scores of one disease are worth in the population."""

    brier_skill: float
    calibration_slope: float
    calibration_intercept: float
    ece_squared: float


def redraw(split: Split, random: np.random.Generator, prefix: str = "") -> Split:
    """Draw as many patients as there are, with replacement; each draw is a patient of its own."""
    order = np.argsort(split.patients, kind="stable")
    sizes = np.bincount(split.patients)
    starts = np.cumsum(sizes) - sizes
    chosen = random.integers(len(sizes), size=len(sizes))
    rows = np.concatenate([order[starts[one] : starts[one] + sizes[one]] for one in chosen])
    table = split.table.iloc[rows].reset_index(drop=True)
    numbers = np.repeat(np.arange(len(sizes)), sizes[chosen])
    table["patient_id"] = [f"{prefix}{number:05d}" for number in numbers]
    table["image_id"] = [f"{prefix}{number:06d}.png" for number in range(len(rows))]
    return Split.of(table)


def probabilities(latent: np.ndarray, prevalence: np.ndarray, separation: float) -> np.ndarray:
    """Return the true probability of the disease at each latent score."""
    chance: np.ndarray = special.expit(
        separation * latent - separation**2 / 2 + special.logit(prevalence)
    )
    return chance


@functools.cache
def true_values(prevalence: float, assumed: float, factor: float, shift: float, bins: int) -> Truth:
    """Integrate what one disease's scores are worth.

    Args:
        prevalence: Of the images tested.
        assumed: Prevalence that the scores are made for.
        factor: What their logits are multiplied with.
        shift: What training adds to the separation.
        bins: Of the calibration error.
    """
    at = _GRID
    weight = [
        share * np.exp(-((at - mean) ** 2) / 2)
        for share, mean in ((1 - prevalence, 0.0), (prevalence, LEVEL + shift))
    ]
    density = weight[0] + weight[1]
    chance, density = weight[1] / density, density / density.sum()
    logits = factor * special.logit(probabilities(at, np.array(assumed), LEVEL))
    scores = special.expit(logits)
    brier = density @ (chance * (1 - scores) ** 2 + (1 - chance) * scores**2)

    def surplus(a: float) -> float:
        return float(density @ (special.expit(logits + a) - chance))

    intercept = optimize.brentq(surplus, -5.0, 5.0)

    def surpluses(beta: np.ndarray) -> list[float]:
        excess = special.expit(beta[0] + beta[1] * logits) - chance
        return [float(density @ excess), float(density @ (excess * logits))]

    both = optimize.root(surpluses, [0.0, 1 / factor])
    # Scores rise with the latent score, so bins of equal mass are ranges of it.
    index = np.minimum((np.cumsum(density) * bins).astype(int), bins - 1)
    mass, gap = np.bincount(index, density), np.bincount(index, density * (scores - chance))
    return Truth(
        float(1 - brier / (prevalence * (1 - prevalence))),
        float(both.x[1]),
        float(intercept),
        float((gap**2 / mass).sum()),
    )


@functools.cache
def true_ap(prevalence: float) -> float:
    """Integrate the average precision of one disease: the mean precision at its positives."""
    above = [special.ndtr(mean - _GRID) for mean in (0.0, LEVEL)]
    precision = prevalence * above[1] / (prevalence * above[1] + (1 - prevalence) * above[0])
    density = np.exp(-((_GRID - LEVEL) ** 2) / 2)
    return float(np.average(precision, weights=density))


def one_sample(cell: Levels, population: Sequence[Split], number: int) -> Iterator[Row]:
    """Simulate one study of two equal methods; yield a row for each interval.

    Args:
        cell: The setting.
        population: The real test images of each fold, or the common ones.
        number: Of the study.

    Yields:
        ``kind``, ``of`` (disease), ``value``, ``interval`` and ``truth``: NaN for the mean value
        over the studies.
    """
    folds, factor = cell.folds, cell.factor
    random = np.random.default_rng([number, round(10 * factor), int(folds)])
    tests = [redraw(one, random, f"{n}-") for n, one in enumerate(population)]
    if not folds:
        yield from _of_a_run(population[0], tests[0], random, factor, slow=not number % _AP_EVERY)
        yield from _localization(random, folds=False)
    if not folds and factor == 1:  # of no scores, so once is enough
        yield from _shortcuts(population[0], random)
    yield from _of_an_arm(population, tests, random, factor, slow=not number % _AP_EVERY)
    if folds:
        yield from _localization(random, folds=True)


def _row(kind: str, of: str, value: Any, interval: Any, truth: float | None = np.nan) -> Row:
    return {"kind": kind, "of": of, "value": value, "interval": interval, "truth": truth}


def _of_a_run(
    population: Split, test: Split, random: np.random.Generator, factor: float, *, slow: bool
) -> Iterator[Row]:
    """Yield what the page of a run shows of each disease."""
    steady = replace(MODEL, run_sd=0.0, disease_sd=0.0)
    latent = _latent(next(iter(simulate_study([test], steady, [], random, seeds=1))).test)
    prevalence = np.nanmean(population.labels, axis=0)
    chance = probabilities(latent, prevalence, LEVEL)
    scores = special.expit(factor * logit(chance))
    intervals = RunIntervals(test.labels, scores, test.patients, 0.95)
    columns = {f"score_{name}": scores[:, d] for d, name in enumerate(test.names)}
    yield from _within_views(Split.of(test.table.assign(**columns)))
    for d in map(int, np.flatnonzero(enough_patients(test))):
        name = test.names[d]
        labels, bins = test.labels[:, d] == 1, bins_for(test.labels[:, d] == 1)
        truth = true_values(prevalence[d], prevalence[d], factor, 0.0, bins)
        yield _row("AUC of one disease, a run", name, intervals.auc[d], intervals.auc_interval(d))
        if slow:
            reach, ap = intervals.ap_interval(d), true_ap(prevalence[d])
            yield _row("AP of one disease, a run", name, intervals.ap[d], reach, ap)
        summary = summarize_calibration(labels, scores[:, d], test.patients)
        if summary is None:
            continue
        values = summary.values(0.95, intervals=True)
        for measure, called in MEASURES.items():
            known = np.sqrt(truth.ece_squared) if measure == "ece_debiased" else None
            known = getattr(truth, measure) if known is None else known
            ends = values[f"{measure}_interval"]
            yield _row(f"{called} of one disease, a run", name, values[measure], ends, float(known))
        curve = reliability(labels, scores[:, d], bins)
        true = reliability(labels, chance[:, d], bins).score
        low, high = frequency_band(labels, scores[:, d], test.patients, bins, 0.95)
        for at, one, other, chosen in zip(curve.frequency, low, high, true, strict=True):
            yield _row("reliability band of one disease, a run", name, at, (one, other), chosen)


def _of_an_arm(
    population: Sequence[Split],
    tests: Sequence[Split],
    random: np.random.Generator,
    factor: float,
    *,
    slow: bool,
) -> Iterator[Row]:
    """Yield what the page of a study shows of an arm."""
    folds = len(tests) > 1
    runs = simulate_study(tests, MODEL, [0.0] if slow else [], random, folds=folds)
    everyone = np.concatenate([one.labels for one in population])
    assumed = np.nanmean(everyone, axis=0)
    chances = [probabilities(_latent(run.test), assumed, LEVEL) for run in runs]
    runs = [
        replace(run, test=replace(run.test, scores=special.expit(factor * logit(chance))))
        for run, chance in zip(runs, chances, strict=True)
    ]
    bench = ResampledTestSet(tests, folds=range(len(tests)) if folds else ())
    arms = gather_arms(runs, bench)
    arm = next(one for one in arms if one.method == "simclr")
    truth = _truth_of_arm(population, tests, bench, assumed, factor)
    for measure, one in arm_calibration(arm, bench).items():
        kind = f"mean {MEASURES[measure]} of an arm"
        yield _row(kind, "", one.value, one.interval, truth[measure])
    # At each image the mean over the runs' own: what training adds is little beside the noise.
    band = arm_reliability(arm, bench, scaled=False)
    true = arm_reliability(_with_scores(arm, chances), bench, scaled=False)
    if band is not None and true is not None:
        for at, low, high, known in zip(
            band.curve.frequency, band.low, band.high, true.curve.score, strict=True
        ):
            yield _row("reliability band of an arm", "", at, (low, high), known)
    for d in map(int, np.flatnonzero(bench.primary)):
        one = bench.estimate(arm.each(functools.partial(JackknifedScores.auc_of, d=d)))
        yield _row("AUC of one disease, an arm", bench.names[d], one.value, one.interval)
    if not slow:
        return
    for d in map(int, np.flatnonzero(bench.primary)):
        ap = bench.estimate(arm.each(functools.partial(JackknifedScores.ap_of, d=d)), skewed=True)
        yield _row("AP of one disease, an arm", bench.names[d], ap.value, ap.interval)
    one = bench.estimate(arm.each(lambda run: run.mean_ap(bench.primary)))
    yield _row("mean AP of an arm", "", one.value, one.interval)
    for comparison in compare_arms(arms, "simclr", bench):
        mean = comparison.mean_ap
        yield _row("difference of mean AP", "", mean.value, mean.interval, 0.0)
        for name, both in comparison.diseases.items():
            ap = both.ap
            yield _row("difference of the AP of one disease", name, ap.value, ap.interval, 0.0)


def _with_scores(arm: Arm, scores: Sequence[np.ndarray]) -> Arm:
    """Return an arm whose scores are the true probabilities."""
    runs = tuple(
        replace(run, test=replace(run.test, scores=one))
        for run, one in zip(arm.runs, scores, strict=False)
    )
    return replace(arm, runs=runs)


def _truth_of_arm(
    population: Sequence[Split],
    tests: Sequence[Split],
    bench: ResampledTestSet,
    assumed: np.ndarray,
    factor: float,
) -> dict[str, float]:
    """Average over the folds, the diseases and what training adds to the separation."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(3)
    diseases = [int(d) for d in np.flatnonzero(bench.judged_on)]
    sd, pairs = TRAINING_SD, list(zip(population, tests, strict=True))
    if bench.folds:
        # Folds are pooled: what their trainings share stays, the rest averages out.
        sd *= np.sqrt(1 / len(tests) + (1 - 1 / len(tests)) / len(tests))
        pairs = [(Split.join(population), bench.test)]
    parts = [
        (weight / weights.sum(), true_values(prevalence[d], assumed[d], factor, shift, bins))
        for one, test in pairs
        for prevalence in (np.nanmean(one.labels, axis=0),)
        for d in diseases
        for bins in (bins_for(test.labels[:, d] == 1),)
        for shift, weight in zip(sd * nodes, weights, strict=True)
    ]
    share = len(nodes) / len(parts)
    means = {
        name: share * sum(weight * getattr(one, name) for weight, one in parts)
        for name in ("brier_skill", "calibration_slope", "calibration_intercept", "ece_squared")
    }
    means["ece_debiased"] = float(np.sqrt(means.pop("ece_squared")))
    return means


def _latent(test: Split) -> np.ndarray:
    """Return the normal scores behind the shares that ``simulate_study`` gives."""
    normal: np.ndarray = special.ndtri(np.clip(test.scores, 1e-12, 1 - 1e-12))
    return normal


def _within_views(test: Split) -> Iterator[Row]:
    """Yield what the page of a run shows of AP and PA; every true AUC is that of the model."""
    settings = EvaluateSettings(bootstrap=1)  # with intervals
    for group in subgroup_results(test, settings)["view_position"].values():
        mean, ends = group["mean_auc_20"], group["mean_auc_20_interval"]
        yield _row("mean AUC within a view, a run", "", mean, ends, MODEL.auc)
        for name, one in group["per_disease"].items():
            if one["auc"] is not None:
                kind = "AUC of one disease within a view, a run"
                yield _row(kind, name, one["auc"], one["auc_interval"], MODEL.auc)


#: What the tables of shortcuts call their columns.
_FACTS = {
    "view_position": "view position",
    "sex": "sex",
    "age": "age",
    "follow_up": "follow-up number",
}


def _shortcuts(population: Split, random: np.random.Generator) -> Iterator[Row]:
    """Yield how well facts predict each disease; sexes and ages are made up, one a patient."""
    made = np.random.default_rng(0)
    patients = int(population.patients.max()) + 1
    sexes, ages = made.integers(2, size=patients), 50 + 15 * made.standard_normal(patients)
    facts = population.table.assign(
        sex=np.where(sexes == 1, "M", "F")[population.patients],
        age=ages[population.patients].round(),
        follow_up=population.table.groupby("patient_id").cumcount(),
        image_id=[f"{number:06d}.png" for number in range(len(population))],
    )
    whole = replace(population, table=facts)
    known, found = (
        shortcut_audit(one, one.table.set_index("image_id")["follow_up"])
        for one in (whole, redraw(whole, random))
    )
    for fact, called in _FACTS.items():
        for name, value in found[fact]["auc"].items():
            truth, ends = known[fact]["auc"][name], found[fact]["auc_interval"][name]
            yield _row(f"AUC of the {called} alone", name, value, ends, truth)


def _localization(random: np.random.Generator, *, folds: bool) -> Iterator[Row]:
    """Yield the interval of a pointing game and of an overlap, and those of their differences.

    The number of boxes is that of the 128-pixel subset; half of the variance is the patient's.
    With folds, each patient with boxes is tested in one of five; else all are, by three seeds.
    """
    owners = np.repeat(np.arange(len(BOXES)), BOXES)
    count = len(BOXES)
    label = pd.DataFrame({"label_a": np.zeros(count), "score_a": 0.0})
    label["patient_id"] = [f"{n:03d}" for n in range(count)]
    if folds:
        parts = [np.arange(count) % 5 == fold for fold in range(5)]
        tests = [Split.of(label[part].reset_index(drop=True)) for part in parts]
        bench = ResampledTestSet(tests, folds=range(5))
        seen = [part[owners] for part in parts]
    else:
        bench = ResampledTestSet([Split.of(label)])
        seen = [np.ones(len(owners), bool)] * 3
    shared = np.sqrt(0.5) * random.standard_normal(count)[owners]
    arms, localized = [], {}
    for name in ("a", "b"):
        own = shared + np.sqrt(0.3) * random.standard_normal(len(owners))
        draws = [own + np.sqrt(0.2) * random.standard_normal(len(owners)) for _ in seen]
        values = {
            "pointing": [(one > 0.25).astype(float) for one in draws],
            "iou_50": [0.4 * special.ndtr(one) for one in draws],
        }
        arm = Arm(name, name, False, "", 1.0, (), ())
        measures = {
            measure: {
                repeat: mean_by_patient(one[here], owners[here], count)
                for repeat, (one, here) in enumerate(zip(ones, seen, strict=True))
            }
            for measure, ones in values.items()
        }
        arms.append(arm)
        localized[arm.key] = ArmLocalization(len(owners), count, measures)
    comparison = Comparison("control", arms[1], arms[0], bench, (), tuple(arms))
    for measure, truth in (("pointing", float(special.ndtr(-0.25))), ("iou_50", 0.2)):
        words = {"pointing": "pointing game", "iou_50": "IoU"}[measure]
        level = estimate(localized[arms[0].key], measure, bench)
        yield _row(f"{words} of an arm, 32 patients", "", level.value, level.interval, truth)
        change = difference(comparison, localized, measure)
        kind = f"difference of the {words}, 32 patients"
        yield _row(kind, "", change.value, change.interval, 0.0)


def coverage(table: pd.DataFrame, fewest: int) -> dict[str, float]:
    """Return how often the intervals of each kind hold the truth.

    Args:
        table: The rows of ``one_sample`` with ``study``, ``interval_low`` and ``interval_high``.
        fewest: Studies that a kind needs to be listed.
    """
    drawn = table[table["interval_low"].notna()].copy()
    # What has no known truth is compared with its mean over the studies.
    means = drawn.groupby(["kind", "of"])["value"].transform("mean")
    truth = drawn["truth"].fillna(means)
    drawn["covers"] = (drawn["interval_low"] <= truth) & (truth <= drawn["interval_high"])
    values = {}
    for kind, rows in drawn.groupby("kind", sort=False):
        studies = f"{rows['study'].nunique()} studies"
        diseases = rows.groupby("of")["covers"].agg(["size", "mean"])
        often = diseases[diseases["size"] >= _FEWEST_OF_DISEASE]["mean"]
        if len(often) > 1:
            studies += f"; lowest: {words(str(often.idxmin()))}, {often.min():.3f}"
        if rows["study"].nunique() >= fewest:
            values[f"95 % intervals cover: {kind} ({studies})"] = rows["covers"].mean()
    return values
