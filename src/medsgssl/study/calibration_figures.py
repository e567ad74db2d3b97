"""Figures of calibration: errors before and after scaling, and reliability curves of all arms."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from medsgssl.evaluation.calibration import Reliability, apply_temperature, reliability
from medsgssl.report.figures import Chart
from medsgssl.report.page import number, percent
from medsgssl.report.palette import FIRST, INK, MUTED, SECOND
from medsgssl.sources import DISEASES
from medsgssl.study.analysis import Analysis
from medsgssl.study.averages import calibration
from medsgssl.study.collect import FinishedRun
from medsgssl.study.figures import line_style


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
        found = (run.metrics or {}).get("per_disease", {})
        for d, name in enumerate(DISEASES):
            column = run.test.scores[:, d]
            if scaled:
                temperature = found.get(name, {}).get("temperature")
                if temperature is None:
                    continue
                column = apply_temperature(column, temperature)
            labels.append(run.test.labels[:, d])
            scores.append(column)
    if not labels:
        return None
    return reliability(np.concatenate(labels), np.concatenate(scores))
