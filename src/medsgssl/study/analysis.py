"""The whole comparison of a study, from collected runs to verdicts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from medsgssl.study.arms import Arm, arm_means, gather_arms
from medsgssl.study.collect import Collected, collect
from medsgssl.study.comparisons import Comparison, compare_arms
from medsgssl.study.statistics import Estimate, ResampledTestSet
from medsgssl.study.strata import QualityStrata, Strata, Stratum
from medsgssl.study.variants import CONTROL
from medsgssl.study.verdict import MethodVerdict, verdicts


@dataclass(frozen=True)
class Analysis:
    """What a report is made from.

    Attributes:
        collected: The runs and their warnings.
        control: Label of the arm that methods are compared with.
        bench: The test images.
        arms: Every arm.
        means: ``auc``, ``auc_20`` and ``ap`` of each arm, by its key.
        comparisons: Every comparison.
        subgroups: Of the comparisons with the control, in their order.
        quality: Likewise, by mask quality; for arms with masks.
        verdicts: One per method.
        warnings: Sentences with their origin; those of the runs come last.
    """

    collected: Collected
    control: str
    bench: ResampledTestSet
    arms: list[Arm]
    means: dict[tuple[str, float], dict[str, Estimate]]
    comparisons: list[Comparison]
    subgroups: list[tuple[Comparison, list[Stratum]]]
    quality: list[tuple[Comparison, QualityStrata]]
    verdicts: list[MethodVerdict]
    warnings: list[tuple[str, str]]

    def with_control(self) -> list[Comparison]:
        """Return the comparisons with the control."""
        return [found for found in self.comparisons if found.kind == "control"]


def analyze(
    folders: Sequence[Path],
    *,
    control: str = CONTROL,
    resamples: int = 2000,
    confidence: float = 0.95,
) -> Analysis:
    """Compare the runs of a study, or several run folders.

    Args:
        folders: One study, or run folders.
        control: Label of the arm to compare with.
        resamples: Resamples of patients behind each interval.
        confidence: Nominal coverage.

    Raises:
        ConfigError: A folder holds no run.
        DataError: A file is damaged, or the runs do not compare.
    """
    collected = collect(folders)
    bench = ResampledTestSet(collected.runs[0].test, resamples, confidence)
    arms = gather_arms(collected.runs, bench)
    comparisons = compare_arms(arms, control, bench)
    strata = Strata(bench)
    # Side questions are asked of the methods themselves; controls of masks would only repeat them.
    asked = [
        found
        for found in comparisons
        if found.kind == "control" and not found.arm.is_mask_control and not found.arm.no_pretrain
    ]
    return Analysis(
        collected=collected,
        control=control,
        bench=bench,
        arms=arms,
        means={arm.key: arm_means(arm, bench) for arm in arms},
        comparisons=comparisons,
        subgroups=[(found, strata.subgroups(found)) for found in asked],
        quality=[(found, strata.by_quality(found)) for found in asked if found.arm.masks],
        verdicts=verdicts(comparisons, control, bench),
        warnings=_warnings(collected, arms, control, bench),
    )


def _warnings(
    collected: Collected, arms: Sequence[Arm], control: str, bench: ResampledTestSet
) -> list[tuple[str, str]]:
    reasons: dict[str, list[str]] = {}
    for name, reason in collected.missing.items():
        reasons.setdefault(reason.splitlines()[0], []).append(name)
    found = [
        (_told_missing(names, reason), "study.json, failures.json")
        for reason, names in reasons.items()
    ]
    if not any(arm.label == control for arm in arms):
        known = ", ".join(dict.fromkeys(arm.label for arm in arms))
        found.append(
            (f"There is no arm {control!r} to compare with; there are: {known}", "config.yaml")
        )
    fractions = sorted({arm.fraction for arm in arms})
    for fraction in fractions:
        here = [arm for arm in arms if arm.fraction == fraction]
        seeds = {len(arm.runs) for arm in here}
        if len(seeds) > 1:
            told = ", ".join(f"{arm.label} {len(arm.runs)}" for arm in here)
            found.append(
                (f"Arms with {fraction:g} of the labels differ in seeds: {told}", "config.yaml")
            )
    if int(bench.headline.sum()) < int(bench.defined().sum()):
        found.append(
            (
                f"Means are over the {int(bench.headline.sum())} diseases with enough positives: "
                "a rarer one is missing from so many resamples that the mean of all "
                f"{int(bench.defined().sum())} has no interval",
                "predictions.parquet",
            )
        )
    return found + collected.warnings


def _told_missing(names: Sequence[str], reason: str) -> str:
    if len(names) == 1:
        return f"{names[0]} is missing: {reason}"
    return f"{len(names)} runs are missing ({reason}): {', '.join(names)}"
