"""The whole comparison of a study, from collected runs to verdicts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medsgssl.data.mask_cache import CONTROLS
from medsgssl.evaluation.spread import MIN_REPEATS
from medsgssl.study.arms import Arm, ArmMeans, arm_means, gather_arms
from medsgssl.study.collect import Collected, FinishedRun, collect_runs
from medsgssl.study.comparisons import Comparison, compare_arms, unmatched
from medsgssl.study.plan import MARGIN, PlannedComparison, StudyPlan
from medsgssl.study.statistics import PointEstimate, ResampledTestSet
from medsgssl.study.strata import QualityStrata, Strata, SubgroupTests
from medsgssl.study.study_calibration import arm_calibration, is_scaled
from medsgssl.study.study_localization import ArmLocalization, arm_localization
from medsgssl.study.variants import CONTROL
from medsgssl.study.verdict import MethodVerdict, Verdict, judge, method_verdicts
from medsgssl.utils.formatting import counted, join_names, words


@dataclass(frozen=True)
class Analysis:
    """What a report is made from.

    Attributes:
        collected: The runs and their warnings.
        plan: The plan of the study; None for run folders made elsewhere.
        control: Method (or label of the arm) that guided methods are judged against.
        margin: Differences in mean AUC below it are equivalent.
        bench: The test images; ``bench.folds`` is empty for a study over seeds, ``bench.primary``
            holds the diseases of the primary mean, ``bench.judged_on`` those of the mean that is
            shown first.
        arms: Every arm.
        means: Of each arm, by its key.
        comparisons: Every comparison that like-with-like allows; ``kind`` says what it asks.
        primary: One verdict per primary comparison (guided method against its control).
        secondary: One verdict per comparison with a no-pretraining baseline: a family of its own.
        verdicts: The primary verdicts by method, the largest gain first.
        baseline_verdicts: The secondary ones by method.
        family: Where the primary family comes from: ``plan``, or ``runs`` where nothing was fixed
            beforehand.
        planned: How many primary comparisons the plan lists (those of the runs without a plan).
        subgroups: Comparisons with the control by sex, age and view position, with
            tests of interaction.
        quality: Likewise, by mask quality; for arms with masks.
        localized: Where the arms look, by their key; only those that were localized.
        scaled: Whether every run has its temperatures from validation.
        calibration: Of each arm, by its key; at these temperatures where they are known.
        warnings: Sentences with their origin; those of the runs come last.
    """

    collected: Collected
    plan: StudyPlan | None
    control: str
    margin: float
    bench: ResampledTestSet
    arms: list[Arm]
    means: dict[tuple[str, float], ArmMeans]
    comparisons: list[Comparison]
    primary: list[Verdict]
    secondary: list[Verdict]
    verdicts: list[MethodVerdict]
    baseline_verdicts: list[MethodVerdict]
    family: str
    planned: int
    subgroups: list[tuple[Comparison, SubgroupTests]]
    quality: list[tuple[Comparison, QualityStrata]]
    localized: dict[tuple[str, float], ArmLocalization]
    scaled: bool
    calibration: dict[tuple[str, float], dict[str, PointEstimate]]
    warnings: list[tuple[str, str]]

    def ordered_arms(self) -> list[Arm]:
        """Return the arms as tables list them: by label fraction, the largest first."""
        return sorted(self.arms, key=lambda arm: (-arm.fraction, arm.label))

    def with_control(self) -> list[Comparison]:
        """Return the comparisons with the control."""
        return [one for one in self.comparisons if one.kind == "control"]

    def verdict_of(self, comparison: Comparison) -> Verdict | None:
        """Return the verdict on a comparison; None where it belongs to no family."""
        judged = [*self.primary, *self.secondary]
        return next((one for one in judged if one.comparison is comparison), None)

    def is_tested(self, comparison: Comparison) -> bool:
        """Tell whether a comparison has a test.

        A method is tested against its mask controls only where it helps; a mask control itself,
        which belongs to no family, never.
        """
        if comparison.arm.is_mask_control:
            return False
        if comparison.kind != "masks":
            return True
        return any(
            one.word == "helps" and one.comparison.arm is comparison.arm for one in self.primary
        )


def analyze(
    folders: Sequence[Path],
    *,
    control: str = CONTROL,
    margin: float | None = None,
    confidence: float = 0.95,
) -> Analysis:
    """Compare the runs of a study, or several run folders.

    Args:
        folders: One study, or run folders.
        control: Method, or label of the arm, to judge against.
        margin: Differences below it are equivalent; that of the plan by default. Another one than
            the plan's is refused.
        confidence: Nominal coverage.

    Raises:
        ConfigError: A folder holds no run.
        DataError: A file is damaged, or the runs do not compare.
    """
    collected = collect_runs(folders)
    plan = collected.plan
    bench = _test_set(collected, plan, confidence)
    arms = gather_arms(collected.runs, bench)
    comparisons = compare_arms(arms, control, bench)
    primary = [one for one in comparisons if _asks(one, "control")]
    secondary = [one for one in comparisons if _asks(one, "baseline")]
    planned, beside_planned = len(primary), len(secondary)
    if plan is not None and plan.family:
        listed = set(plan.family)
        primary = [one for one in primary if _planned(one) in listed]
        secondary = [one for one in secondary if _planned(one) in listed]
        planned = sum(one.kind == "control" for one in listed)
        beside_planned = sum(one.kind == "baseline" for one in listed)
    margin = margin if margin is not None else plan.margin if plan is not None else MARGIN
    judged = judge(primary, bench, margin, planned)
    beside = judge(secondary, bench, margin, beside_planned)
    controls = _planned_controls(plan)
    strata = Strata(bench)
    scaled = all(is_scaled(arm, bench) for arm in arms)
    return Analysis(
        collected=collected,
        plan=plan,
        control=control,
        margin=margin,
        bench=bench,
        arms=arms,
        means={arm.key: arm_means(arm, bench) for arm in arms},
        comparisons=comparisons,
        primary=judged,
        secondary=beside,
        verdicts=method_verdicts(judged, comparisons, bench, controls),
        baseline_verdicts=method_verdicts(beside, comparisons, bench),
        family="plan" if plan is not None and plan.family else "runs",
        planned=planned,
        subgroups=[(one, strata.subgroups(one)) for one in primary],
        quality=[(one, strata.by_quality(one)) for one in primary if one.arm.masks],
        localized={
            arm.key: found for arm in arms if (found := arm_localization(arm, bench)) is not None
        },
        scaled=scaled,
        calibration={arm.key: arm_calibration(arm, bench, scaled=scaled) for arm in arms},
        warnings=_warnings(collected, arms, control, bench, comparisons),
    )


def _asks(one: Comparison, kind: str) -> bool:
    """Tell whether a comparison belongs to the family of its kind: mask controls do not."""
    return one.kind == kind and not one.arm.is_mask_control


def _planned_controls(plan: StudyPlan | None) -> dict[str, list[str]]:
    """Return the mask controls that a plan lists, by method."""
    controls: dict[str, list[str]] = {}
    for run in plan.runs if plan is not None else ():
        if run.masks in CONTROLS and not run.without:
            controls.setdefault(run.method, []).append(run.masks)
    return controls


def _planned(one: Comparison) -> PlannedComparison:
    return PlannedComparison(one.kind, one.arm.planned, one.against.planned, one.arm.fraction)


def _test_set(collected: Collected, plan: StudyPlan | None, confidence: float) -> ResampledTestSet:
    tests: dict[int | None, FinishedRun] = {}
    for run in collected.runs:
        tests.setdefault(run.fold, run)
    folds = sorted(fold for fold in tests if fold is not None)
    ordered = [tests[fold].test for fold in folds] if folds else [collected.runs[0].test]
    primary = None
    if plan is not None and plan.primary_diseases is not None:
        primary = np.array([name in plan.primary_diseases for name in collected.names])
    return ResampledTestSet(ordered, confidence, folds=folds, primary=primary)


def _warnings(
    collected: Collected,
    arms: Sequence[Arm],
    control: str,
    bench: ResampledTestSet,
    comparisons: Sequence[Comparison],
) -> list[tuple[str, str]]:
    reasons: dict[str, list[str]] = {}
    for name, reason in collected.missing.items():
        reasons.setdefault(reason.splitlines()[0], []).append(name)
    warnings = [
        (_missing_runs(names, reason), "study.json, failures.json")
        for reason, names in reasons.items()
    ]
    if not any(control in (arm.method, arm.label) for arm in arms):
        known = join_names(list(dict.fromkeys(arm.label for arm in arms)))
        warnings.append((f"There is no arm {control} to judge against; there are: {known}", ""))
    else:
        alone: dict[str, list[str]] = {}
        for arm, keys in unmatched(arms, control):
            if not arm.is_mask_control:  # these belong to no family
                nearest = join_names([f"`{key}`" for key in keys]) or "everything"
                alone.setdefault(nearest, []).append(arm.label)
        warnings += [
            (
                f"Not judged, because no {control} shares network, frame, image size and budget "
                f"(the nearest differs in {nearest}): {', '.join(dict.fromkeys(labels))}",
                "config.yaml",
            )
            for nearest, labels in alone.items()
        ]
    unit = "folds" if bench.folds else "seeds"
    few = {one.repeats for one in comparisons if one.repeats < MIN_REPEATS}
    if few:
        warnings.append(
            (
                f"Comparisons with fewer than {MIN_REPEATS} common {unit} are not judged: how much "
                "one training differs from another is not known well enough",
                "config.yaml",
            )
        )
    for fraction in sorted({arm.fraction for arm in arms}):
        here = [arm for arm in arms if arm.fraction == fraction]
        if len({tuple(run.repeat for run in arm.runs) for arm in here}) > 1:
            counts = ", ".join(f"{arm.label} {len(arm.runs)}" for arm in here)
            warnings.append(
                (
                    f"Arms with {100 * fraction:g} % of the labels differ in {unit} ({counts}): "
                    "only common ones are compared",
                    "config.yaml",
                )
            )
    warnings += _few_patients(bench)
    return warnings + collected.warnings


def _few_patients(bench: ResampledTestSet) -> list[tuple[str, str]]:
    rare = bench.defined() & ~bench.primary
    names = [words(name) for name, left_out in zip(bench.names, rare, strict=True) if left_out]
    if not bench.primary.any():
        return [("No disease has enough test patients: nothing is judged", "predictions.parquet")]
    if not names:
        return []
    return [
        (
            f"Too few test patients for {join_names(names)}: shown without intervals, and not in "
            f"the primary mean of {counted(int(bench.primary.sum()), 'disease')}",
            "predictions.parquet",
        )
    ]


def _missing_runs(names: Sequence[str], reason: str) -> str:
    if len(names) == 1:
        return f"{names[0]} is missing: {reason}"
    return f"{len(names)} runs are missing ({reason}): {join_names(names, most=6)}"
