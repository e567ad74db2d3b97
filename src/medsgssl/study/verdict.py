"""The verdict on each method: one honest sentence, by a rule fixed before any number is seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from medsgssl.evaluation.effects import Effect
from medsgssl.evaluation.few_patients import MIN_PATIENTS
from medsgssl.evaluation.multiplicity import holm, simultaneous_level
from medsgssl.evaluation.spread import MIN_REPEATS
from medsgssl.study.arms import Arm
from medsgssl.study.comparisons import Comparison
from medsgssl.study.statistics import PointEstimate, ResampledTestSet
from medsgssl.utils.formatting import join_names, percent, signed, signed_interval

#: Masks of other patients still overlap the own lungs by half (IoU 0.47 on NIH ChestX-ray14).
STRICTEST_CONTROL = "random-blob"

Word = Literal["helps", "hurts", "equivalent", "undecided", "not judged"]
Interval = tuple[float, float]

RULE = (
    "The primary comparisons are each guided method against its own control without masks, at each "
    "share of labels; they are listed before anything runs. A method helps, or hurts, if and only "
    "if the simultaneous interval of its paired difference in mean AUC, which holds for all "
    "primary comparisons together, excludes zero. It is equivalent where two one-sided tests place "
    "the difference inside the margin, corrected for their number by Holm; they are "
    "one-sided, so the two-sided interval may reach a little beyond the margin. Else the study is "
    "undecided, which is not the same as no difference. Fewer than "
    f"{MIN_REPEATS} seeds or folds on either side, or no disease with {MIN_PATIENTS} positive test "
    "patients, are not judged. A gain is "
    "attributed to anatomy only where the method also beats every control with masks that carry "
    "none."
)


@dataclass(frozen=True)
class Verdict:
    """What a study says of one comparison.

    Attributes:
        comparison: What is judged.
        word: By ``RULE``.
        interval: The simultaneous interval that the word rests on; None where not judged.
        p_holm: Two-sided p value of no difference after Holm's correction over the family.
        p_equivalent: P value of a difference outside of the margin, likewise.
        detectable: The smallest true difference that would be found with 80 % power.
        within_margin: Whether the difference is shown to be inside the margin.
        reason: Why it is not judged; empty otherwise.
    """

    comparison: Comparison
    word: Word
    interval: Interval | None = None
    p_holm: float | None = None
    p_equivalent: float | None = None
    detectable: float | None = None
    within_margin: bool = False
    reason: str = ""


@dataclass(frozen=True)
class MethodVerdict:
    """What a study says of one method over all label fractions.

    Attributes:
        label: The arm's label.
        parts: By fraction, the largest first.
        sentence: The verdict with its interval.
        caveats: What limits it.
    """

    label: str
    parts: tuple[Verdict, ...]
    sentence: str
    caveats: tuple[str, ...]

    @property
    def word(self) -> Word:
        """The verdict at the largest label fraction."""
        return self.parts[0].word


def judge(
    family: Sequence[Comparison], bench: ResampledTestSet, margin: float, planned: int = 0
) -> list[Verdict]:
    """Judge one family of comparisons together.

    Args:
        family: Comparisons of primary means on the same test images.
        bench: The test images.
        margin: Differences below it are equivalent.
        planned: How many comparisons the plan lists; those that are missing still count.

    Returns:
        One verdict per comparison, in their order.
    """
    reasons = [_not_judged(one, bench) for one in family]
    effects = {
        n: one.effect
        for n, (one, reason) in enumerate(zip(family, reasons, strict=True))
        if not reason and one.effect is not None
    }
    size = max(planned, len(effects))
    if not effects:
        return [
            Verdict(one, "not judged", reason=reason)
            for one, reason in zip(family, reasons, strict=True)
        ]
    # A planned comparison without runs keeps its share of the allowed error.
    level = simultaneous_level(list(effects.values()), bench.level * len(effects) / size)
    missing = {f"missing {n}": 1.0 for n in range(size - len(effects))}
    p_values = {str(n): one.p for n, one in effects.items()}
    p_margin = {str(n): one.p_equivalent(margin) for n, one in effects.items()}
    differ, equal = holm(p_values | missing), holm(p_margin | missing)
    verdicts = []
    for n, (one, reason) in enumerate(zip(family, reasons, strict=True)):
        if n not in effects:
            verdicts.append(Verdict(one, "not judged", reason=reason))
            continue
        interval, p_equivalent = effects[n].interval(level), equal[str(n)]
        within = p_equivalent is not None and p_equivalent <= bench.level
        verdicts.append(
            Verdict(
                comparison=one,
                word=_word(interval, within),
                interval=interval,
                p_holm=differ[str(n)],
                p_equivalent=p_equivalent,
                detectable=effects[n].detectable(level),
                within_margin=within,
            )
        )
    return verdicts


def _word(interval: Interval | None, within: bool) -> Word:
    if interval is not None and interval[0] > 0:
        return "helps"
    if interval is not None and interval[1] < 0:
        return "hurts"
    return "equivalent" if within else "undecided"


def _not_judged(one: Comparison, bench: ResampledTestSet) -> str:
    """Return why a comparison cannot be judged; empty where it can."""
    unit = "folds" if bench.folds else "seeds"
    if not bench.primary.any():
        return f"no disease has {MIN_PATIENTS} positive test patients"
    if one.repeats < MIN_REPEATS:
        known = f"1 common {unit[:-1]}" if one.repeats == 1 else f"{one.repeats} common {unit}"
        return f"{known}, fewer than {MIN_REPEATS}"
    if not _measurable(one.effect):
        return "its standard error cannot be computed"
    return ""


def _measurable(effect: Effect | None) -> bool:
    return effect is not None and bool(np.isfinite(effect.standard_error))


def method_verdicts(
    verdicts: Sequence[Verdict],
    comparisons: Sequence[Comparison],
    bench: ResampledTestSet,
    planned_controls: Mapping[str, Sequence[str]] | None = None,
) -> list[MethodVerdict]:
    """Gather the verdicts of each method over label fractions; the largest gain first.

    Args:
        verdicts: Of one family.
        comparisons: Every comparison, those with mask controls among them.
        bench: The test images.
        planned_controls: Mask controls that the plan lists, by method.
    """
    controls = planned_controls or {}
    by_label: dict[str, list[Verdict]] = {}
    for verdict in verdicts:
        by_label.setdefault(verdict.comparison.arm.label, []).append(verdict)
    result = []
    for label, parts in by_label.items():
        ordered = tuple(sorted(parts, key=lambda part: -part.comparison.arm.fraction))
        listed = controls.get(ordered[0].comparison.arm.method, ())
        caveats = _caveats(ordered, comparisons, len(verdicts), bench, listed)
        result.append(MethodVerdict(label, ordered, _sentence(label, ordered, bench), caveats))
    return sorted(result, key=lambda one: -(one.parts[0].comparison.mean.value or 0))


def _sentence(label: str, parts: Sequence[Verdict], bench: ResampledTestSet) -> str:
    against = parts[0].comparison.against.label
    differences = "; ".join(_part(part, bench, first=part is parts[0]) for part in parts)
    return f"{label} against {against}: {differences}."


def _part(part: Verdict, bench: ResampledTestSet, first: bool) -> str:
    mean = part.comparison.mean
    where = f"with {percent(part.comparison.arm.fraction)} of the labels"
    if part.word == "not judged":
        return f"not judged {where} ({part.reason}), mean AUC {signed(mean.value)}"
    less = " (by less than the margin)" if part.within_margin else ""
    word = f"{part.word}{less if part.word in ('helps', 'hurts') else ''}"
    name = f"simultaneous {percent(bench.confidence)} interval " if first else ""
    text = f"{word} {where}, mean AUC {signed(mean.value)} ({name}{signed_interval(part.interval)})"
    if part.word == "undecided" and part.detectable is not None:
        text += f"; this study could have found {signed(part.detectable)} or more"
    return text


def excludes_zero(estimate: PointEstimate) -> bool:
    """Tell whether a number's own interval excludes zero."""
    return estimate.interval is not None and (estimate.interval[0] > 0 or estimate.interval[1] < 0)


def _caveats(
    parts: Sequence[Verdict],
    comparisons: Sequence[Comparison],
    count: int,
    bench: ResampledTestSet,
    listed: Sequence[str],
) -> tuple[str, ...]:
    arm, caveats = parts[0].comparison.arm, []
    if parts[0].comparison.kind == "control" and arm.masks:
        # Each share of the labels at which the method helps asks for its own tests.
        for part in [one for one in parts if one.word == "helps"] or parts[:1]:
            text = anatomy(part, comparisons, bench, listed)
            if len(parts) > 1 and part.word == "helps":
                share = percent(part.comparison.arm.fraction)
                text = f"With {share} of the labels: {text[0].lower()}{text[1:]}"
            caveats.append(text)
    if count > 1 and any(part.interval is not None for part in parts):
        caveats.append(f"The interval holds for all {count} comparisons of its family together.")
    tuned = sorted({key for part in parts for key in part.comparison.tuned_apart})
    if tuned:
        caveats.append(f"Tuned for each of the two: {', '.join(tuned)}.")
    return tuple(caveats)


def anatomy(
    verdict: Verdict,
    comparisons: Sequence[Comparison],
    bench: ResampledTestSet,
    listed: Sequence[str] = (),
) -> str:
    """Say whether a gain may be attributed to anatomy: tested only after *helps*.

    Every mask control has to be beaten, so each is tested at the full level (intersection-union
    test: Berger, "Multiparameter hypothesis testing and acceptance sampling", Technometrics 24,
    1982).

    Args:
        verdict: On the method.
        comparisons: Every comparison.
        bench: The test images.
        listed: Mask controls of the method in the plan; each of them has to be there.
    """
    arm = verdict.comparison.arm
    tests = [item for item in comparisons if item.kind == "masks" and item.arm is arm]
    if not tests:
        return "No mask control was run, so no gain may be attributed to anatomy."
    gains = ", ".join(f"{_controls(item.against)} {signed(item.mean.value)}" for item in tests)
    if verdict.word != "helps":
        return (
            f"Against masks without anatomy: {gains}; not tested, because no gain over the control "
            "is shown."
        )
    gains = ", ".join(
        f"{_controls(item.against)} {signed(item.mean.value)} "
        f"({signed_interval(item.mean.interval)})"
        for item in tests
    )
    beaten = all(
        item.repeats >= MIN_REPEATS and excludes_zero(item.mean) and (item.mean.value or 0) > 0
        for item in tests
    )
    level = percent(bench.level)
    end = _attribution(beaten, {item.against.masks for item in tests}, listed)
    return f"Against masks without anatomy, each tested at {level}: {gains}; {end}."


def _attribution(beaten: bool, run: set[str], listed: Sequence[str]) -> str:
    """Say what follows from the mask controls that were run."""
    missing = [name for name in dict.fromkeys(listed) if name not in run]
    if not beaten:
        return "so no gain may be attributed to anatomy"
    if missing:
        return (
            f"but {join_names(missing)}, in the plan, has no results, so no gain may be attributed "
            "to anatomy yet"
        )
    if run == {"none"}:
        return (
            "so masks help, but masks of other shapes were not tried: no gain may be attributed to "
            "anatomy"
        )
    if STRICTEST_CONTROL not in run:
        return (
            f"so the anatomy itself helps, as far as these show: {STRICTEST_CONTROL} masks, the "
            "strictest control, were not run"
        )
    return "so the anatomy itself helps"


def _controls(arm: Arm) -> str:
    return "no masks" if arm.masks == "none" else f"{arm.masks} masks"
