"""What a study could find, before anything is trained.

Studies with equal methods are simulated on the patients and labels that would be tested, and judged
by the functions that the report calls.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from medsgssl.errors import ConfigError, DataError
from medsgssl.evaluation.effects import POWER, Effect
from medsgssl.evaluation.few_patients import MIN_PATIENTS
from medsgssl.evaluation.jackknife import Statistic
from medsgssl.evaluation.multiplicity import simultaneous_level
from medsgssl.evaluation.spread import MIN_REPEATS
from medsgssl.study.score_model import ScoreModel, draw_runs, unscored
from medsgssl.study.statistics import ResampledTestSet, paired
from medsgssl.study.tested_images import StudyImages
from medsgssl.utils.formatting import counted, join_names, words
from medsgssl.utils.rng import generator

#: Standard deviation of the mean AUC between seeds of one arm, from ``docs/defaults.md``: nine
#: fine-tuning runs of three arms on NIH ChestX-ray14.
SEED_SD = 0.0096
#: Studies that are simulated.
STUDIES = 40


@dataclass(frozen=True)
class FamilyPower:
    """What a study with so many primary comparisons could find.

    Attributes:
        comparisons: How many.
        standard_error: Of one difference in mean AUC.
        detectable: Smallest true difference that is found with 80 % power.
        margin: Smallest margin within which equal methods are found equivalent with 80 % power.
    """

    comparisons: int
    standard_error: float
    detectable: float
    margin: float


@dataclass(frozen=True)
class StudyPower:
    """What a study on a test set could find.

    Attributes:
        images: Tested images.
        patients: Of so many patients.
        diseases: Diseases of the primary mean.
        repeats: Seeds or folds.
        folds: Whether these are folds.
        seed_sd: Standard deviation of the mean AUC between seeds of one arm, as assumed.
        studies: How many were simulated.
        families: By number of comparisons.
    """

    images: int
    patients: int
    diseases: tuple[str, ...]
    repeats: int
    folds: bool
    seed_sd: float
    studies: int
    families: tuple[FamilyPower, ...]


def study_power(
    tested: StudyImages,
    *,
    seeds: int | None = None,
    seed_sd: float = SEED_SD,
    auc: float = ScoreModel.auc,
    comparisons: Sequence[int] = (1, 2, 4, 6),
    confidence: float = 0.95,
    studies: int = STUDIES,
) -> StudyPower:
    """Simulate studies with equal methods, and return the medians of what they could find.

    Args:
        tested: The images that would be tested.
        seeds: How many seeds all of them are tested with; None where ``tested`` has folds.
        seed_sd: Standard deviation of the mean AUC between seeds of one arm.
        auc: Mean AUC to be expected.
        comparisons: Sizes of the primary family.
        confidence: Of the simultaneous intervals.
        studies: How many to simulate.

    Raises:
        ConfigError: Too few seeds or folds for a verdict.
        DataError: No disease has enough test patients.
    """
    folds = len(tested.parts) if seeds is None else None
    repeats = len(tested.parts) if seeds is None else seeds
    if repeats < MIN_REPEATS:
        raise ConfigError(
            f"{repeats} seeds or folds bear no verdict", f"ask for {MIN_REPEATS} or more"
        )
    if not tested.primary.any():
        raise DataError(
            f"no disease has {MIN_PATIENTS} positive test patients, so no study on these test "
            "images is judged",
            "test more patients: --folds tests all of them",
        )
    tests = [unscored(tested.names, tested.labels[part], tested.patients[part])
             for part in tested.parts]  # fmt: skip
    bench = ResampledTestSet(
        tests, confidence, folds=range(folds) if folds else (), primary=tested.primary
    )
    model = replace(ScoreModel(auc=auc), run_sd=seed_sd, disease_sd=0.0)
    sizes = sorted(set(comparisons))
    found: list[list[tuple[float, float, float]]] = []
    for number in range(studies):
        arms: list[dict[int, Statistic]] = [{} for _ in range(sizes[-1] + 1)]
        random = generator(0, "study.power", number)
        for run in draw_runs(
            tests, model, [0.0] * sizes[-1], random, seeds=repeats, folds=folds is not None
        ):
            scores = bench.jackknife(run.scores, run.repeat if folds else None)
            arms[run.arm][run.repeat] = scores.mean_auc(bench.primary)
        found.append([_family(arms[: size + 1], bench) for size in sizes])
    medians = np.median(np.array(found), axis=0)
    return StudyPower(
        images=len(bench.test),
        patients=bench.patients,
        diseases=tuple(
            name for name, kept in zip(tested.names, tested.primary, strict=True) if kept
        ),
        repeats=repeats,
        folds=folds is not None,
        seed_sd=seed_sd,
        studies=studies,
        families=tuple(
            FamilyPower(size, *map(float, row)) for size, row in zip(sizes, medians, strict=True)
        ),
    )


def _family(
    arms: Sequence[dict[int, Statistic]], bench: ResampledTestSet
) -> tuple[float, float, float]:
    """Return standard error, detectable difference and margin, the medians over the family."""
    pooled = bench.spread(arms)
    effects = [bench.effect(paired(arm, arms[0]), pooled=pooled) for arm in arms[1:]]
    level = simultaneous_level(effects, bench.level)
    rows = [
        (
            one.standard_error,
            one.detectable(level) or float("nan"),
            _margin(one, bench.level / len(effects)),
        )
        for one in effects
    ]
    error, detectable, margin = np.median(np.array(rows), axis=0)
    return float(error), float(detectable), float(margin)


def _margin(effect: Effect, level: float) -> float:
    """Two one-sided tests at the first step of Holm, both of which must reject."""
    both = effect.quantile(1 - level) + effect.quantile(1 - (1 - POWER) / 2)
    return both * effect.standard_error


def describe_power(power: StudyPower) -> list[str]:
    """Return the lines that say what a study could find."""
    unit = "folds" if power.folds else "seeds"
    names = join_names(list(map(words, power.diseases)))
    rows = [("comparisons", "standard error", "smallest gain found", "margin for equivalence")]
    rows += [
        (
            str(one.comparisons),
            f"{one.standard_error:.3f}",
            f"{one.detectable:.3f}",
            f"{one.margin:.3f}",
        )
        for one in power.families
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        f"Tested: {counted(power.images, 'image')} of {counted(power.patients, 'patient')}, "
        f"{power.repeats} {unit}.",
        f"Primary mean over {counted(len(power.diseases), 'disease')}: {names}",
        f"Assumed: the mean AUC of one method varies by {power.seed_sd:g} (standard deviation) "
        f"between {unit}, patients apart.",
        "",
        *(
            "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))
            for row in rows
        ),
        "",
        "Differences in mean AUC that are found, and margins within which equal methods are found",
        "equivalent, with 80 % power and all comparisons (guided methods times label fractions)",
        f"together; medians of {power.studies} simulated studies of equal methods.",
    ]
