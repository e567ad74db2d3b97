"""Charts of a study: differences with intervals, label efficiency, subgroups."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from medsgssl.report.charts import Chart, ForestRow, forest_chart, series_style, text_width
from medsgssl.report.study_tables import mean_of
from medsgssl.report.theme import MUTED
from medsgssl.study.analysis import Analysis
from medsgssl.study.arms import Arm
from medsgssl.study.comparisons import Comparison
from medsgssl.study.statistics import PointEstimate
from medsgssl.study.strata import Stratum
from medsgssl.study.verdict import Verdict
from medsgssl.utils.formatting import number, percent, signed, signed_interval, words

#: With more arms than this, intervals of a line chart hide each other; a table holds them.
MOST_BARS = 3


def difference_chart(analysis: Analysis) -> Chart | None:
    """Draw the difference of every arm from the control, fraction by fraction.

    Lines are the simultaneous intervals that verdicts rest on, bars the intervals of each
    difference alone; an arm that belongs to no family, such as a mask control, has a bar only.
    """
    compared = analysis.with_control()
    rows = []
    for fraction in sorted({comparison.arm.fraction for comparison in compared}, reverse=True):
        rows.append(ForestRow(f"{percent(fraction)} of the labels"))
        here = [comparison for comparison in compared if comparison.arm.fraction == fraction]
        here.sort(key=lambda comparison: -(comparison.mean.value or 0))
        rows += [_row(comparison, analysis.verdict_of(comparison)) for comparison in here]
    if not rows:
        return None
    axis = f"mean AUC minus that of {analysis.control}"
    return forest_chart("difference", f"Against {analysis.control}", rows, axis)


def _row(comparison: Comparison, verdict: Verdict | None) -> ForestRow:
    mean, interval = comparison.mean, verdict.interval if verdict is not None else None
    text = signed(mean.value)
    if interval is not None:
        text += f"  ({signed_interval(interval)})"
    judged = verdict is not None and verdict.word in ("helps", "hurts")
    name = comparison.arm.label
    return ForestRow(name, mean.value, interval, text, mean.interval, filled=judged)


def arm_labels(analysis: Analysis) -> list[str]:
    """Return the labels of all arms: the place of one gives its color and marker in every chart."""
    return list(dict.fromkeys(arm.label for arm in analysis.arms))


def subgroup_chart(
    subgroups: Sequence[tuple[Comparison, Sequence[Stratum]]], control: str, labels: Sequence[str]
) -> Chart | None:
    """Draw the differences from the control within subgroups: all arms on one axis.

    Args:
        subgroups: The comparisons with their groups, from top to bottom.
        control: What they are compared with.
        labels: Those of all arms of the study, as ``arm_labels`` gives them.
    """
    arms = [comparison.arm.label for comparison, _ in subgroups]
    groups: dict[tuple[str, str], dict[str, PointEstimate]] = {}
    for comparison, parts in subgroups:
        for part in parts:
            if part.difference.value is not None:
                key = (part.kind, part.name)
                groups.setdefault(key, {})[comparison.arm.label] = part.difference
    if not groups:
        return None
    # One line per group; its arms lie below each other, each with its own color and marker.
    step = max(1.0, 0.55 * len(arms))
    heights = {key: step * n for n, key in enumerate(groups)}
    ends = [
        end
        for estimates in groups.values()
        for one in estimates.values()
        for end in (one.value, *(one.interval or ()))
        if end is not None
    ]
    margin = 0.05 * (max(0.0, *ends) - min(0.0, *ends)) or 0.01

    def draw(axes: Axes) -> None:
        axes.axvline(0, color=MUTED, linewidth=1, dashes=(3, 2))
        for key, estimates in groups.items():
            for n, label in enumerate(arms):
                estimate = estimates.get(label)
                if estimate is None or estimate.value is None:
                    continue
                style = series_style(labels.index(label))
                at = heights[key] + 0.5 * (n - (len(arms) - 1) / 2)
                if estimate.interval:
                    axes.plot(estimate.interval, [at] * 2, color=style["color"], linewidth=1.2)
                first = key == next(iter(groups))
                axes.plot([estimate.value], [at], label=label if first else None, **style)
        for index in list(heights.values())[1:]:
            axes.axhline(index - step / 2, color=MUTED, linewidth=0.4, alpha=0.5)
        names = [f"{words(kind)}: {name}" for kind, name in groups]
        axes.set_yticks(list(heights.values()), names)
        axes.tick_params(axis="y", length=0)
        axes.set_ylim(max(heights.values()) + step / 2, -step / 2)
        axes.set_xlim(min(0.0, *ends) - margin, max(0.0, *ends) + margin)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.grid(axis="y", visible=False)
        axes.set_xlabel(f"mean AUC minus that of {control}")
        _legend(axes, arms)

    texts = [
        f"{words(kind)} {name}: "
        + ", ".join(f"{label} {signed(one.value)}" for label, one in estimates.items())
        for (kind, name), estimates in groups.items()
    ]
    left = 0.2 + 1.06 * max(text_width(f"{words(kind)}: {name}") for kind, name in groups)
    right = _legend_width(arms)
    size = (left + 4.0 + right, max(0.16 * step * len(groups) / 0.55, 0.24 * len(arms)) + 0.7)
    title = f"Difference from {control} within subgroups"
    return Chart(
        "subgroups", title, f"{title}: {'; '.join(texts)}", draw, size, (left, 0.45, right, 0.1)
    )


def _legend(axes: Axes, labels: Sequence[str]) -> None:
    handles, names = axes.get_legend_handles_labels()
    order = {label: n for n, label in enumerate(labels)}
    pairs = sorted(zip(handles, names, strict=True), key=lambda pair: order.get(pair[1], 0))
    if pairs:
        axes.legend(
            [handle for handle, _ in pairs], [name for _, name in pairs],
            loc="upper left", bbox_to_anchor=(1.01, 1), borderaxespad=0,
        )  # fmt: skip


def _legend_width(labels: Sequence[str]) -> float:
    return 0.65 + 1.05 * max((text_width(label, 8) for label in labels), default=0)


def efficiency_chart(analysis: Analysis) -> Chart | None:
    """Draw mean AUC against the share of labels, one line per arm; None with one fraction."""
    lines: dict[str, list[Arm]] = {}
    for arm in sorted(analysis.arms, key=lambda arm: arm.fraction):
        lines.setdefault(arm.label, []).append(arm)
    fractions = sorted({arm.fraction for arm in analysis.arms})
    if len(fractions) < 2:
        return None
    every = arm_labels(analysis)
    # The legend lists the lines from top to bottom, as they end.
    lines = dict(
        sorted(lines.items(), key=lambda pair: -(mean_of(analysis, pair[1][-1], "auc").value or 0))
    )

    def draw(axes: Axes) -> None:
        for arms in lines.values():
            estimates = [mean_of(analysis, arm, "auc") for arm in arms]
            x = [arm.fraction for arm in arms]
            style = series_style(every.index(arms[0].label))
            values = [math.nan if one.value is None else one.value for one in estimates]
            axes.plot(x, values, label=arms[0].label, **style)
            for at, one in zip(x, estimates, strict=True):
                if one.interval and len(lines) <= MOST_BARS:
                    axes.plot([at, at], one.interval, color=style["color"], lw=1, alpha=0.6)
        axes.set_xscale("log")
        axes.set_xlim(right=min(1.0, max(fractions)))  # there are no more labels than all
        for line in axes.lines:
            line.set_clip_on(False)
        axes.xaxis.set_major_locator(FixedLocator(fractions))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda share, _: percent(share)))
        axes.set_xlabel("share of the patients whose labels are used")
        axes.set_ylabel("mean AUC")
        _legend(axes, list(lines))

    texts = "; ".join(
        f"{label} "
        + ", ".join(
            f"{percent(arm.fraction)} {number(mean_of(analysis, arm, 'auc').value)}" for arm in arms
        )
        for label, arms in lines.items()
    )
    right = _legend_width(list(lines)) + 0.1
    height = max(3.0, 0.2 * len(lines) + 0.7)
    return Chart(
        "efficiency", "Label efficiency", f"Mean AUC against the share of labels: {texts}",
        draw, (4.6 + right, height), (0.6, 0.45, right, 0.12),
    )  # fmt: skip
