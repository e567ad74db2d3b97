"""Figures of the test images: intervals, ROC, precision and recall, calibration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray
from sklearn.metrics import precision_recall_curve, roc_curve

from medsgssl.evaluation.predictions import Split
from medsgssl.report.charts import Chart
from medsgssl.report.theme import FIRST, INK, MUTED, SECOND
from medsgssl.runs.metrics_file import Metrics
from medsgssl.utils.formatting import number, percent, span, words

Floats = NDArray[np.float64]
# More corners than this cannot be seen in a panel of this size.
_POINTS = 160
_MEAN = "Mean"
_SMALL = (2.1, 2.0)
_SMALL_MARGINS = (0.46, 0.42, 0.1, 0.08)


@dataclass(frozen=True)
class _Row:
    """One line of the forest plot; ``positives`` is None for the mean."""

    name: str
    auc: float
    interval: Sequence[float] | None
    positives: int | None = None

    @property
    def low(self) -> float:
        return self.interval[0] if self.interval else self.auc

    def draw(self, axes: Axes, place: int) -> None:
        mean = self.name == _MEAN
        color = SECOND if mean else FIRST
        if self.interval:
            axes.plot(self.interval, [place] * 2, color=color, linewidth=2.2 if mean else 1.6)
            text = f"{number(self.auc)}  ({span(self.interval)})"
        else:
            text = number(self.auc)
            text += "" if self.positives is None else f"  ({self.positives} positives)"
        fill = color if self.interval else "none"
        marker = "D" if mean else "o"
        axes.plot([self.auc], [place], marker, color=color, markersize=5, markerfacecolor=fill)
        axes.text(
            1.02, place, text, transform=axes.get_yaxis_transform(), va="center",
            fontweight="bold" if mean else "normal",
        )  # fmt: skip


def forest(metrics: Metrics, confidence: float) -> Chart:
    """Draw the AUC of every disease with its interval, best first, and the mean below."""
    found = metrics["per_disease"]
    undefined = [words(name) for name, disease in found.items() if disease["auc"] is None]
    rows = [
        _Row(words(name), auc, disease["auc_interval"], disease["positives"])
        for name, disease in found.items()
        if (auc := disease["auc"]) is not None
    ]
    rows.sort(key=lambda row: -row.auc)
    if (mean := metrics["mean_auc"]) is not None:
        rows.append(_Row(_MEAN, mean, metrics["mean_auc_interval"]))

    def draw(axes: Axes) -> None:
        axes.axvline(0.5, color=MUTED, linewidth=1, dashes=(3, 2))
        for place, row in enumerate(rows):
            row.draw(axes, place)
        axes.set_yticks(range(len(rows)), [row.name for row in rows])
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.set_xlim(min(0.45, *(row.low for row in rows)) - 0.01, 1)
        axes.grid(axis="y", visible=False)
        axes.set_xlabel("AUC (dashed: chance; hollow: no interval)")

    label = "AUC with interval, best first: " + ", ".join(
        f"{row.name} {number(row.auc, 2)}" for row in rows
    )
    label += f"; not defined: {', '.join(undefined)}" if undefined else ""
    title = f"AUC per disease with {percent(confidence)} intervals"
    size = (6.4, 0.23 * len(rows) + 0.55)
    return Chart("forest", title, label, draw, size, (1.25, 0.45, 1.55, 0.05))


def roc_charts(test: Split, metrics: Metrics | None) -> dict[str, Chart]:
    """Draw the ROC curve of each disease with both classes, the threshold marked."""
    charts = {}
    for name, labels, scores in _defined(test):
        found = metrics["per_disease"][name] if metrics else None
        false, true, _ = roc_curve(labels, scores)
        point = None
        if found and found["recall"] is not None and found["specificity"] is not None:
            point = (1 - found["specificity"], found["recall"])
        label = f"ROC curve of {words(name)}, AUC {number(found and found['auc'])}"
        charts[name] = _curve(f"roc-{name}", name, label, (false, true), point, roc=True)
    return charts


def pr_charts(test: Split, metrics: Metrics | None) -> dict[str, Chart]:
    """Draw precision against recall of each disease with both classes, the threshold marked."""
    charts = {}
    for name, labels, scores in _defined(test):
        found = metrics["per_disease"][name] if metrics else None
        precision, recall, _ = precision_recall_curve(labels, scores)
        point = None
        if found and found["recall"] is not None and found["precision"] is not None:
            point = (found["recall"], found["precision"])
        label = f"Precision and recall of {words(name)}, AP {number(found and found['ap'])}"
        share = float(labels.mean())
        charts[name] = _curve(
            f"pr-{name}", name, label, (recall, precision), point, roc=False, chance=share
        )
    return charts


def _defined(test: Split) -> list[tuple[str, NDArray[np.bool_], Floats]]:
    columns = [(name, *test.column(d)[:2]) for d, name in enumerate(test.names)]
    return [column for column in columns if column[1].any() and not column[1].all()]


def _curve(
    chart: str,
    disease: str,
    label: str,
    line: tuple[Floats, Floats],
    point: tuple[float, float] | None,
    *,
    roc: bool,
    chance: float = 0.0,
) -> Chart:
    x, y = thin(*line)

    def draw(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1] if roc else [chance] * 2, color=MUTED, lw=0.9, dashes=(3, 2))
        # Between two points of a precision-recall curve nothing is reached by interpolation.
        axes.plot(x, y, color=FIRST, drawstyle="default" if roc else "steps-post")
        if point is not None:
            axes.plot(*point, "D", color=SECOND, markersize=5, clip_on=False)
        axes.set(xlim=(0, 1), ylim=(0, 1.01), xticks=(0, 0.5, 1), yticks=(0, 0.5, 1))
        axes.set_xlabel("1 \N{MINUS SIGN} specificity" if roc else "recall")
        axes.set_ylabel("recall" if roc else "precision", labelpad=1)

    return Chart(chart, words(disease), label, draw, _SMALL, _SMALL_MARGINS)


def thin(x: Floats, y: Floats, points: int = _POINTS) -> tuple[Floats, Floats]:
    """Keep about ``points`` of a curve, evenly along its length; both ends stay."""
    if len(x) <= points:
        return x, y
    along = np.concatenate([[0.0], np.cumsum(np.hypot(np.diff(x), np.diff(y)))])
    wanted = np.searchsorted(along, np.linspace(0, along[-1], points))
    keep = np.unique(np.clip(wanted, 0, len(x) - 1))
    return x[keep], y[keep]


def calibration_charts(metrics: Metrics) -> dict[str, Chart]:
    """Draw the reliability of each disease: mean score of a bin against its share of positives."""
    charts = {}
    for name, found in metrics["per_disease"].items():
        curve = found["reliability"]
        if not curve["score"] or found["positives"] == 0:
            continue
        score, frequency = np.asarray(curve["score"]), np.asarray(curve["frequency"])
        label = (
            f"Calibration of {words(name)}: expected calibration error {number(found['ece'])}, "
            f"{number(found['ece_calibrated'])} after temperature scaling"
        )
        charts[name] = _reliability(name, label, score, frequency)
    return charts


def _reliability(disease: str, label: str, score: Floats, frequency: Floats) -> Chart:
    # Both axes alike, so that the diagonal is the diagonal; rare diseases need a small range.
    top = float(max(score.max(), frequency.max())) * 1.08 or 1.0

    def draw(axes: Axes) -> None:
        axes.plot([0, top], [0, top], color=MUTED, lw=0.9, dashes=(3, 2))
        axes.plot(score, frequency, "o-", color=FIRST, markersize=3, lw=1.1)
        axes.set(xlim=(0, top), ylim=(0, top), xlabel="mean score", ylabel="share of positives")
        axes.locator_params(nbins=4)
        axes.yaxis.label.set_color(INK)

    margins = (0.56, 0.42, 0.12, 0.08)
    return Chart(f"calibration-{disease}", words(disease), label, draw, _SMALL, margins)
