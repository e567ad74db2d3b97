"""The table of verdicts on the first screen: one row per judged comparison, with its interval."""

from __future__ import annotations

from dataclasses import dataclass, replace

from markupsafe import Markup

from medsgssl.report.study_tables import judged_interval
from medsgssl.report.tables import p_text
from medsgssl.study.analysis import Analysis
from medsgssl.study.verdict import Verdict
from medsgssl.utils.formatting import number, percent, signed, signed_interval


@dataclass(frozen=True)
class VerdictRow:
    """One line of the table of verdicts.

    Attributes:
        word: The verdict.
        method: What is judged.
        against: Its control.
        labels: Share of the labels.
        seeds: How many runs each side has.
        difference: Of the mean AUC.
        interval: The interval that the word rests on.
        note: What qualifies the word; empty for nothing.
        p: After Holm's correction.
        bar: Both as a picture, all rows on one axis.
        heading: Above the first row of another family; empty for none.
    """

    word: str
    method: str
    against: str
    labels: str
    seeds: str
    difference: str
    interval: str
    note: str
    p: str
    bar: Markup
    heading: str = ""


def build_verdict_rows(analysis: Analysis) -> list[VerdictRow]:
    """Return every verdict: the largest label fraction first, then as the study orders methods."""
    # The order of methods is that of the study: by gain; baselines are the second family.
    parts = [
        part
        for family in (analysis.verdicts, analysis.baseline_verdicts)
        for part in sorted(
            (part for one in family for part in one.parts),
            key=lambda part: -part.comparison.arm.fraction,
        )
    ]
    ends = [
        end
        for part in parts
        for end in (part.comparison.mean.value, *(judged_interval(part) or ()))
        if end is not None
    ]
    margin = analysis.margin
    low, high = min([-2 * margin, *ends]), max([2 * margin, *ends])
    rows = [_verdict_row(part, (low, high), margin) for part in parts]
    first = len(analysis.primary)
    if 0 < first < len(rows):
        heading = "Pretraining against the same network without it: a second family"
        rows[first] = replace(rows[first], heading=heading)
    return rows


def family_text(analysis: Analysis) -> str:
    """Describe which comparisons were judged together, and when they were fixed."""
    text = (
        f"Simultaneous {percent(analysis.bench.confidence)} intervals of the difference in mean "
        f"AUC; gray: less than the margin, {analysis.margin:g}."
    )
    if any(one.word == "undecided" for one in (*analysis.primary, *analysis.secondary)):
        text += " Could find: the smallest true difference that four of five such studies find."
    if any(_touches(one, 1 - analysis.bench.confidence) for one in analysis.primary):
        text += (
            " Holm\N{RIGHT SINGLE QUOTATION MARK}s p can be small where the interval still holds "
            "0: the word follows the interval."
        )
    if analysis.family != "plan" or analysis.plan is None:
        return f"{text} No plan fixed these comparisons before the runs."
    plan = analysis.plan
    comparisons = "comparison" if analysis.planned == 1 else "comparisons"
    if not plan.earlier:
        return (
            f"{text} The plan fixed {analysis.planned} primary {comparisons} before anything ran "
            f"(hash {plan.hash})."
        )
    times = "once" if len(plan.earlier) == 1 else f"{len(plan.earlier)} times"
    return (
        f"{text} The plan lists {analysis.planned} primary {comparisons} (hash {plan.hash}). It "
        f"was extended {times} after its first version (hash {plan.earlier[0]}): where results had "
        "been seen by then, false verdicts are more frequent than the intervals say."
    )


def _touches(part: Verdict, level: float) -> bool:
    """Tell whether the interval holds zero although Holm's p value is small."""
    inside = part.interval is not None and part.interval[0] <= 0 <= part.interval[1]
    return inside and part.p_holm is not None and part.p_holm <= level


def _verdict_row(part: Verdict, ends: tuple[float, float], margin: float) -> VerdictRow:
    comparison = part.comparison
    interval = judged_interval(part)
    sides = (len(comparison.arm.runs), len(comparison.against.runs))
    return VerdictRow(
        word=part.word,
        method=comparison.arm.label,
        against=comparison.against.label,
        labels=percent(comparison.arm.fraction),
        seeds=" and ".join(map(str, dict.fromkeys(sides))),
        difference=signed(comparison.mean.value),
        interval=signed_interval(interval),
        note=_note(part),
        p=p_text(part.p_holm),
        bar=_bar(comparison.mean.value, interval, ends, margin),
    )


def _note(part: Verdict) -> str:
    if part.word == "undecided" and part.detectable is not None:
        return f"could find {number(part.detectable)}"
    if part.within_margin and part.word in ("helps", "hurts"):
        return "by less than the margin"
    return part.reason


def _bar(
    value: float | None,
    interval: tuple[float, float] | None,
    ends: tuple[float, float],
    margin: float,
) -> Markup:
    """Draw a value and its interval between two ends; the margin gray, the zero line dashed."""
    low, high = ends

    def at(x: float) -> str:
        return f"{4 + 192 * (x - low) / (high - low):.1f}"

    width = 192 * 2 * margin / (high - low)
    parts = [f'<rect x="{at(-margin)}" y="0" width="{width:.1f}" height="20"/>']
    parts += [f'<line class="zero" x1="{at(0)}" x2="{at(0)}" y1="0" y2="20"/>']
    if interval:
        parts.append(f'<line x1="{at(interval[0])}" x2="{at(interval[1])}" y1="10" y2="10"/>')
    if value is not None:
        parts.append(f'<circle cx="{at(value)}" cy="10" r="4"/>')
    return Markup(
        f'<svg class="bar" viewBox="0 0 200 20" aria-hidden="true">{"".join(parts)}</svg>'
    )
