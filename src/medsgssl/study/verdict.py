"""One honest sentence per method, by a rule that is fixed before any number is seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from medsgssl.evaluation.delong import holm
from medsgssl.study.arms import Arm
from medsgssl.study.comparisons import Comparison
from medsgssl.study.statistics import Estimate, ResampledTestSet
from medsgssl.utils.formatting import percent, signed

Word = Literal["helps", "no difference shown", "hurts", "not tested"]

RULE = (
    "A method helps where the interval of the paired difference in mean AUC against its control "
    "lies above zero, and hurts where it lies below; otherwise no difference is shown, which is "
    "not the same as none. A gain is put down to anatomy only where the method also beats every "
    "control with masks that carry none."
)
_SIGNIFICANT = 0.05
_FEW_PATIENTS = 200


@dataclass(frozen=True)
class Verdict:
    """What a study says of one method at one label fraction.

    Attributes:
        comparison: With the control.
        word: By ``RULE``.
        p_holm: p value after Holm's correction over all verdicts of the study.
    """

    comparison: Comparison
    word: Word
    p_holm: float | None


@dataclass(frozen=True)
class MethodVerdict:
    """What a study says of one method over all label fractions.

    Attributes:
        label: The arm's label.
        parts: By fraction, the largest first.
        sentence: The verdict with its interval.
        cautions: What limits it.
    """

    label: str
    parts: tuple[Verdict, ...]
    sentence: str
    cautions: tuple[str, ...]

    @property
    def word(self) -> Word:
        """The verdict at the largest label fraction."""
        return self.parts[0].word


def decide(difference: Estimate) -> Word:
    """Apply the rule to one difference."""
    if difference.interval is None:
        return "not tested"
    low, high = difference.interval
    return "helps" if low > 0 else "hurts" if high < 0 else "no difference shown"


def verdicts(
    comparisons: Sequence[Comparison], control: str, bench: ResampledTestSet
) -> list[MethodVerdict]:
    """Judge every method, and the control against plain supervised training."""
    judged = [
        found
        for found in comparisons
        if not found.arm.is_mask_control
        and not found.arm.no_pretrain
        and (found.kind == "control" or (found.kind == "direct" and found.arm.label == control))
    ]
    names = {f"{found.arm.key} {found.kind}": found.mean.p for found in judged}
    corrected = holm(names)
    by_label: dict[str, list[Verdict]] = {}
    for found in judged:
        p = corrected[f"{found.arm.key} {found.kind}"]
        verdict = Verdict(found, decide(found.mean), p)
        by_label.setdefault(found.arm.label, []).append(verdict)
    result = []
    for label, parts in by_label.items():
        ordered = tuple(sorted(parts, key=lambda part: -part.comparison.arm.fraction))
        cautions = _cautions(ordered, comparisons, len(names), bench)
        result.append(MethodVerdict(label, ordered, _sentence(label, ordered, bench), cautions))
    # Best first; the control, which is judged against something else, last.
    return sorted(
        result,
        key=lambda found: (
            found.parts[0].comparison.kind != "control",
            -(found.parts[0].comparison.mean.value or 0),
        ),
    )


def _sentence(label: str, parts: Sequence[Verdict], bench: ResampledTestSet) -> str:
    against = parts[0].comparison.against.label
    said = "; ".join(_part(part, bench, first=part is parts[0]) for part in parts)
    # In the sentence itself, because it is the sentence that gets quoted.
    seeds = " (one seed)" if _seeds(parts) == 1 else ""
    return f"{label} against {against}{seeds}: {said}."


def _seeds(parts: Sequence[Verdict]) -> int:
    return min(
        len(side.runs) for part in parts for side in (part.comparison.arm, part.comparison.against)
    )


def _part(part: Verdict, bench: ResampledTestSet, first: bool) -> str:
    found = part.comparison
    where = f"with {percent(found.arm.fraction)} of the labels"
    if part.word == "not tested":
        return f"not tested {where}, too few patients for an interval"
    verb = {"helps": "helps", "hurts": "hurts"}.get(part.word, "no difference shown")
    name = f"{percent(bench.confidence)} interval " if first else ""
    return f"{verb} {where}, mean AUC {signed(found.mean.value)} ({name}{reach(found.mean)})"


def reach(estimate: Estimate, digits: int = 3) -> str:
    """Write the interval of a difference."""
    if estimate.interval is None:
        return "no interval"
    low, high = estimate.interval
    return f"{signed(low, digits)} to {signed(high, digits)}"


def _cautions(
    parts: Sequence[Verdict], comparisons: Sequence[Comparison], count: int, bench: ResampledTestSet
) -> tuple[str, ...]:
    arm, found = parts[0].comparison.arm, []
    if parts[0].comparison.kind == "control" and arm.masks:
        found.append(_anatomy(parts, comparisons))
    fragile = [
        percent(part.comparison.arm.fraction)
        for part in parts
        if part.word in ("helps", "hurts") and (part.p_holm or 0) >= _SIGNIFICANT
    ]
    if fragile:
        found.append(
            f"With {', '.join(fragile)} of the labels it does not survive Holm's correction over "
            f"the {count} comparisons of this study."
        )
    seeds = _seeds(parts)
    if seeds == 1:
        found.append(
            "One seed: the interval is that of these weights on other patients; another training "
            "may differ by more."
        )
    elif seeds == 2:
        found.append("Two seeds: how much trainings differ is hardly known, so intervals are wide.")
    if bench.patients < _FEW_PATIENTS:
        found.append(f"Only {bench.patients} test patients.")
    unlike = sorted({text for part in parts for text in part.comparison.unlike})
    if unlike:
        found.append(f"The runs also differ in {'; '.join(unlike)}.")
    return tuple(found)


def _anatomy(parts: Sequence[Verdict], comparisons: Sequence[Comparison]) -> str:
    """Say whether a gain may be put down to anatomy: at the fraction of the first part."""
    arm = parts[0].comparison.arm
    tests = [item for item in comparisons if item.kind == "masks" and item.arm is arm]
    if not tests:
        return "No mask control was run, so no gain may be put down to anatomy."
    told = ", ".join(
        f"{_controls(item.against)} {signed(item.mean.value)} ({reach(item.mean)})"
        for item in tests
    )
    beaten = all(decide(item.mean) == "helps" for item in tests)
    end = (
        "so the anatomy itself helps" if beaten and parts[0].word == "helps"
        else "it beats the mask controls, yet not the control" if beaten
        else "so no gain may be put down to anatomy"
    )  # fmt: skip
    return f"Against masks without anatomy: {told}; {end}."


def _controls(arm: Arm) -> str:
    return "no masks" if arm.masks == "none" else f"{arm.masks} masks"
