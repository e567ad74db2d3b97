"""Charts of a study: differences with intervals, label efficiency, calibration."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from medsgssl.evaluation.calibration import Reliability, apply_temperature, reliability
from medsgssl.report.charts import Chart
from medsgssl.report.theme import FIRST, FOURTH, INK, MUTED, SECOND, THIRD
from medsgssl.study.analysis import Analysis
from medsgssl.study.arms import Arm, calibration
from medsgssl.study.collect import FinishedRun
from medsgssl.study.comparisons import Comparison
from medsgssl.study.statistics import Estimate
from medsgssl.study.strata import Stratum
from medsgssl.study.verdict import reach
from medsgssl.utils.formatting import number, percent, signed

# Colors repeat after four, so dash and marker change with them.
_COLORS = (FIRST, SECOND, THIRD, FOURTH)
_DASHES = ((None, None), (5, 2), (2, 1.5), (6, 1.5, 1.5, 1.5))
_MARKERS = "osD^vPX*"


def line_style(place: int) -> dict[str, Any]:
    """Return color, marker and dashes of the arm at that place, different for the first 16."""
    return {
        "color": _COLORS[place % 4],
        "marker": _MARKERS[place % len(_MARKERS)],
        "markersize": 5,
        "dashes": _DASHES[(place // 4 + place) % 4],
    }


@dataclass(frozen=True)
class _Row:
    """One line of a forest plot; a heading where there is no estimate."""

    name: str
    estimate: Estimate | None = None

    def draw(self, axes: Axes, place: int) -> None:
        if self.estimate is None or self.estimate.value is None:
            return
        found = self.estimate
        sure = found.interval is not None and (found.interval[0] > 0 or found.interval[1] < 0)
        if found.interval:
            axes.plot(list(found.interval), [place, place], color=FIRST, linewidth=1.8)
        fill = FIRST if sure else "none"
        axes.plot(
            self.estimate.value, place, "o", color=FIRST, markersize=5.5, markerfacecolor=fill
        )
        text = f"{signed(found.value)}  ({reach(found)})"
        where = axes.get_yaxis_transform()
        axes.text(1.02, place, text, transform=where, va="center")


def _forest(name: str, title: str, rows: Sequence[_Row], axis: str) -> Chart:
    drawn = [row for row in rows if row.estimate is not None and row.estimate.value is not None]
    ends = [
        end
        for row in drawn
        if row.estimate is not None
        for end in (row.estimate.interval or (row.estimate.value, row.estimate.value))
        if end is not None
    ]
    low, high = min([0.0, *ends]), max([0.0, *ends])
    room = 0.06 * (high - low) or 0.01

    def draw(axes: Axes) -> None:
        axes.axvline(0, color=MUTED, linewidth=1, dashes=(3, 2))
        for place, row in enumerate(rows):
            row.draw(axes, place)
        axes.set_yticks(range(len(rows)), [row.name for row in rows])
        for tick, row in zip(axes.get_yticklabels(), rows, strict=True):
            if row.estimate is None:
                tick.set_fontweight("bold")
        axes.tick_params(axis="y", length=0)
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.set_xlim(low - room, high + room)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.grid(axis="y", visible=False)
        axes.set_xlabel(axis)

    told = ", ".join(f"{row.name} {signed(row.estimate.value)}" for row in drawn if row.estimate)
    widest = max((len(row.name) for row in rows), default=0)
    size = (7.4, 0.24 * len(rows) + 0.6)
    return Chart(
        name, title, f"{title}: {told}", draw, size, (0.35 + 0.062 * widest, 0.45, 1.75, 0.05)
    )


def difference_chart(comparisons: Sequence[Comparison], control: str) -> Chart | None:
    """Draw the difference of every arm from the control, fraction by fraction."""
    rows = []
    for fraction in sorted({found.arm.fraction for found in comparisons}, reverse=True):
        rows.append(_Row(f"{percent(fraction)} of the labels"))
        here = [found for found in comparisons if found.arm.fraction == fraction]
        here.sort(key=lambda found: -(found.mean.value or 0))
        rows += [_Row(found.arm.label, found.mean) for found in here]
    if not rows:
        return None
    return _forest("difference", f"Against {control}", rows, f"mean AUC minus that of {control}")


def strata_chart(name: str, title: str, parts: Sequence[Stratum], control: str) -> Chart | None:
    """Draw the difference from the control within parts of the test images."""
    rows: list[_Row] = []
    for kind in dict.fromkeys(part.kind for part in parts):
        here = [part for part in parts if part.kind == kind and part.difference.value is not None]
        if here:
            rows.append(_Row(kind))
            rows += [_Row(part.name, part.difference) for part in here]
    if not rows:
        return None
    return _forest(name, title, rows, f"mean AUC minus that of {control}")


def efficiency_chart(analysis: Analysis) -> Chart | None:
    """Draw mean AUC against the share of labels, one line per arm; None with one fraction."""
    lines: dict[str, list[Arm]] = {}
    for arm in analysis.arms:
        lines.setdefault(arm.label, []).append(arm)
    fractions = sorted({arm.fraction for arm in analysis.arms})
    if len(fractions) < 2:
        return None

    def draw(axes: Axes) -> None:
        for place, (label, arms) in enumerate(lines.items()):
            found = [analysis.means[arm.key]["auc"] for arm in arms]
            # Side by side, so that bars of equal fractions do not hide each other.
            shift = 1.03 ** (place - (len(lines) - 1) / 2)
            x = [arm.fraction * shift for arm in arms]
            style = line_style(place)
            means = [math.nan if one.value is None else one.value for one in found]
            axes.plot(x, means, label=label, **style)
            for at, one in zip(x, found, strict=True):
                if one.interval:
                    axes.plot([at, at], one.interval, color=style["color"], linewidth=1, alpha=0.7)
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(FixedLocator(fractions))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda share, _: percent(share)))
        axes.set_xlabel("share of the patients whose labels are used")
        axes.set_ylabel("mean AUC")
        axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.02), borderaxespad=0)

    told = "; ".join(
        f"{label} "
        + ", ".join(
            f"{percent(arm.fraction)} {number(analysis.means[arm.key]['auc'].value)}"
            for arm in arms
        )
        for label, arms in lines.items()
    )
    longest = max(len(label) for label in lines)
    label = f"Mean AUC against the share of labels: {told}"
    margins = (0.55, 0.45, 0.6 + 0.065 * longest, 0.1)
    return Chart("efficiency", "Label efficiency", label, draw, (7.4, 3.1), margins)


def calibration_chart(analysis: Analysis, fraction: float) -> Chart | None:
    """Draw the calibration error of each arm before and after temperature scaling."""
    arms = [arm for arm in analysis.arms if arm.fraction == fraction]
    found = [(arm, calibration(arm)) for arm in arms]
    found = [(arm, values) for arm, values in found if values["ece"] is not None]
    if not found:
        return None

    def draw(axes: Axes) -> None:
        for place, (_, values) in enumerate(found):
            before, after = values["ece"], values["ece_calibrated"]
            if before is None:
                continue
            if after is not None:
                axes.plot([before, after], [place] * 2, color=MUTED, linewidth=1)
                axes.plot([after], [place], "o", color=FIRST, markersize=6)
            axes.plot([before], [place], "o", color=SECOND, markersize=6, markerfacecolor="none")
            text = f"{number(before)} to {number(after)}"
            where = axes.get_yaxis_transform()
            axes.text(1.02, place, text, transform=where, va="center", color=INK)
        axes.set_yticks(range(len(found)), [arm.label for arm, _ in found])
        axes.tick_params(axis="y", length=0)
        axes.set_ylim(len(found) - 0.4, -0.6)
        axes.set_xlim(left=0)
        axes.grid(axis="y", visible=False)
        axes.set_xlabel("calibration error")

    told = ", ".join(
        f"{arm.label} {number(values['ece'])} to {number(values['ece_calibrated'])}"
        for arm, values in found
    )
    widest = max(len(arm.label) for arm, _ in found)
    margins = (0.35 + 0.062 * widest, 0.45, 1.2, 0.05)
    title = f"Calibration with {percent(fraction)} of the labels"
    size = (7.4, 0.24 * len(found) + 0.6)
    return Chart("calibration", title, f"{title}: {told}", draw, size, margins)


def reliability_chart(analysis: Analysis, fraction: float, *, scaled: bool) -> Chart | None:
    """Draw how often what the arms score comes true: all diseases and seeds of an arm pooled.

    Args:
        analysis: The comparison.
        fraction: Label fraction of the arms to draw.
        scaled: At the temperatures that each run fitted on validation; else as trained.
    """
    arms = [arm for arm in analysis.arms if arm.fraction == fraction]
    curves = {arm.label: _pooled(arm.runs, scaled) for arm in arms}
    drawn = {label: curve for label, curve in curves.items() if curve is not None}
    if not drawn:
        return None
    top = 1.05 * max(float(max(c.score.max(), c.frequency.max())) for c in drawn.values())

    def draw(axes: Axes) -> None:
        axes.plot([0, top], [0, top], color=MUTED, linewidth=0.9, dashes=(3, 2))
        for place, (label, curve) in enumerate(drawn.items()):
            axes.plot(curve.score, curve.frequency, label=label, **line_style(place))
        axes.set(xlim=(0, top), ylim=(0, top), xlabel="mean score", ylabel="share of positives")
        axes.locator_params(nbins=5)
        axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.02), borderaxespad=0)

    told = ", ".join(f"{label} {number(curve.error())}" for label, curve in drawn.items())
    when = "at the temperature of validation" if scaled else "as trained"
    title = f"Reliability {when}, {percent(fraction)} of the labels"
    longest = max(len(label) for label in drawn)
    return Chart(
        "reliability-scaled" if scaled else "reliability",
        title,
        f"{title}: pooled calibration error {told}",
        draw,
        (5.4, 3.2),
        (0.6, 0.45, 0.6 + 0.065 * longest, 0.1),
    )


def _pooled(runs: Sequence[FinishedRun], scaled: bool) -> Reliability | None:
    labels, scores = [], []
    for run in runs:
        found = run.metrics["per_disease"] if run.metrics else {}
        for d, name in enumerate(run.test.names):
            truth, column, _, _ = run.test.column(d)
            if scaled:
                temperature = found[name]["temperature"] if name in found else None
                if temperature is None:
                    continue
                column = apply_temperature(column, temperature)
            labels.append(truth)
            scores.append(column)
    if not labels:
        return None
    return reliability(np.concatenate(labels), np.concatenate(scores))
