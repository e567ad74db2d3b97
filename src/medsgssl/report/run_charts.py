"""Figures of the test images: intervals, ROC, precision and recall, calibration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from sklearn.metrics import precision_recall_curve, roc_curve

from medsgssl.evaluation.predictions import Split
from medsgssl.report.charts import Chart, ForestRow, chart_name, forest_chart
from medsgssl.report.theme import FIRST, FOURTH, INK, MUTED, SECOND
from medsgssl.runs.metrics_file import Metrics, ReliabilityBins
from medsgssl.utils.formatting import counted, format_interval, number, percent, words

Floats = NDArray[np.float64]
# More corners than this cannot be seen in a panel of this size.
_POINTS = 160
_MEAN = "Mean"
#: Positives that a bin of a reliability curve must hold on average.
_POSITIVES_PER_BIN = 10
_SMALL = (2.1, 2.0)
_SMALL_MARGINS = (0.46, 0.42, 0.1, 0.08)


def forest(metrics: Metrics, confidence: float) -> Chart:
    """Draw the AUC of every disease with its interval, best first, and the mean below."""
    results = metrics["per_disease"]
    undefined = [words(name) for name, disease in results.items() if disease["auc"] is None]
    rows = [
        ForestRow(
            words(name), auc, disease["auc_interval"],
            _with_interval(auc, disease["auc_interval"], f"{disease['positives']} positives"),
            filled=disease["auc_interval"] is not None,
        )
        for name, disease in results.items()
        if (auc := disease["auc"]) is not None
    ]  # fmt: skip
    rows.sort(key=lambda row: -(row.value or 0))
    if (mean := metrics["mean_auc"]) is not None:
        interval = metrics["mean_auc_interval"]
        rows.append(
            ForestRow(
                _MEAN, mean, interval, _with_interval(mean, interval, "no interval"),
                color=SECOND, marker="D", bold=True, filled=interval is not None,
            )
        )  # fmt: skip
    often = metrics["diseases_in_mean_20"]
    if 0 < len(often) < len(metrics["diseases_in_mean"]) and metrics["mean_auc_20"] is not None:
        mean, interval = metrics["mean_auc_20"], metrics["mean_auc_20_interval"]
        name = f"Mean of {len(often)} frequent ones"
        rows.append(
            ForestRow(
                name, mean, interval, _with_interval(mean, interval, "no interval"),
                color=SECOND, marker="D", bold=True, filled=interval is not None,
            )
        )  # fmt: skip
    low = min([0.45, *(end for row in rows for end in (row.interval or (row.value or 0,)))])
    title = f"AUC per disease with {percent(confidence)} intervals"
    title += f"; not defined: {', '.join(undefined)}" if undefined else ""
    axis = "AUC (dashed: chance; hollow: no interval)"
    return forest_chart("forest", title, rows, axis, reference=0.5, limits=(low - 0.01, 1))


def _with_interval(value: float, interval: Sequence[float] | None, otherwise: str) -> str:
    return f"{number(value)}  ({format_interval(interval) if interval else otherwise})"


def roc_charts(test: Split, metrics: Metrics | None) -> dict[str, Chart]:
    """Draw the ROC curve of each disease with both classes, the threshold marked."""
    charts = {}
    for name, labels, scores in _defined(test):
        results = metrics["per_disease"][name] if metrics else None
        false, true, _ = roc_curve(labels, scores)
        point = None
        if results and results["recall"] is not None and results["specificity"] is not None:
            point = (1 - results["specificity"], results["recall"])
        label = f"ROC curve of {words(name)}, AUC {number(results and results['auc'])}"
        charts[name] = _curve(chart_name("roc", name), name, label, (false, true), point, roc=True)
    return charts


def pr_charts(test: Split, metrics: Metrics | None) -> dict[str, Chart]:
    """Draw precision against recall of each disease with both classes, the threshold marked."""
    charts = {}
    for name, labels, scores in _defined(test):
        results = metrics["per_disease"][name] if metrics else None
        precision, recall, _ = precision_recall_curve(labels, scores)
        point = None
        if results and results["recall"] is not None and results["precision"] is not None:
            point = (results["recall"], results["precision"])
        label = f"Precision and recall of {words(name)}, AP {number(results and results['ap'])}"
        share = float(labels.mean())
        charts[name] = _curve(
            chart_name("pr", name), name, label, (recall, precision), point, roc=False, chance=share
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
    for name, results in metrics["per_disease"].items():
        curve = results["reliability"]
        if not curve["score"] or results["positives"] == 0:
            continue
        bins = curve  # as many bins as the images bear; older files hold 15
        if "low" not in curve:
            bins = join_bins(curve, results["positives"] // _POSITIVES_PER_BIN)
        if len(bins["count"]) < 2:
            continue
        label = (
            f"Calibration of {words(name)}: expected calibration error {number(results['ece'])}, "
            f"{number(results['ece_calibrated'])} after temperature scaling"
        )
        charts[name] = _reliability(name, label, bins)
    return charts


def join_bins(curve: ReliabilityBins, most: int) -> ReliabilityBins:
    """Join neighboring bins of equal size until there are at most ``most``."""
    count = np.asarray(curve["count"], float)
    middle = (np.cumsum(count) - count / 2) / count.sum()
    group = np.minimum((middle * max(1, most)).astype(int), max(1, most) - 1)
    sums = [
        np.bincount(group, weights=count * np.asarray(values))
        for values in (curve["score"], curve["frequency"])
    ]
    total = np.bincount(group, weights=count)
    kept = total > 0
    score, frequency = (values[kept] / total[kept] for values in sums)
    return {
        "score": score.tolist(),
        "frequency": frequency.tolist(),
        "count": total[kept].astype(int).tolist(),
    }


def wilson(share: Floats, count: Floats, z: float = 1.96) -> tuple[Floats, Floats]:
    """Return the ends of Wilson's interval of shares (JASA 22, 1927)."""
    middle = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z * np.sqrt(share * (1 - share) / count + z**2 / (4 * count**2)) / (1 + z**2 / count)
    return middle - half, middle + half


def _reliability(disease: str, label: str, bins: ReliabilityBins) -> Chart:
    score, frequency = np.asarray(bins["score"]), np.asarray(bins["frequency"])
    low, high = wilson(frequency, np.asarray(bins["count"], float))
    if "low" in bins and "high" in bins:  # over patients
        low, high = np.asarray(bins["low"]), np.asarray(bins["high"])
    # Both axes alike, so that the diagonal is the diagonal; rare diseases need a small range.
    top = min(1.0, float(max(score.max(), high.max())) * 1.08 or 1.0)

    def draw(axes: Axes) -> None:
        axes.plot([0, top], [0, top], color=MUTED, lw=0.9, dashes=(3, 2))
        axes.fill_between(score, low, high, color=FIRST, alpha=0.15, linewidth=0)
        axes.plot(score, frequency, "o-", color=FIRST, markersize=3, lw=1.1)
        axes.set(xlim=(0, top), ylim=(0, top), xlabel="mean score", ylabel="share of positives")
        axes.locator_params(nbins=4)
        axes.yaxis.label.set_color(INK)

    margins = (0.56, 0.42, 0.12, 0.08)
    return Chart(chart_name("calibration", disease), words(disease), label, draw, _SMALL, margins)


#: Endings of columns that a term is compared with, and how the lines are called.
_LEVELS = {"_floor": "floor", "_chance": "chance", "_start": "at the start"}
#: Columns that are no loss term, with the title of their panel; None gets none.
_OTHERS = {
    "epoch": None,
    "loss": "loss",
    "embedding_std": "spread of the embeddings (1: uniform)",
    "embedding_rank": "effective rank of the embeddings",
    "lr": "learning rate",
    "val_mean_auc": "validation mean AUC",
    "probe_mean_auc": "k-NN mean AUC on validation, for watching",
    "images_per_second": None,
    "data_wait": None,
    "seconds": None,
}
_LEVEL_COLORS = (SECOND, MUTED, FOURTH)
#: A collapse is a fall toward zero, so zero has to be in sight.
_FROM_ZERO = ("embedding_std", "embedding_rank", "lr")


def learning_charts(log: pd.DataFrame, stage: str, kept: int | None = None) -> list[Chart]:
    """Draw one panel per column: loss, each term beside floor and chance, embeddings, rate, AUC.

    Epochs are counted from 1, as the console does.

    Args:
        log: One row per epoch.
        stage: ``pretrain`` or ``finetune``; part of the charts' names.
        kept: The epoch whose weights were kept, as the log counts; marked on the validation AUC.
    """
    terms = [name for name in log if name not in _OTHERS and not str(name).endswith(tuple(_LEVELS))]
    # A single unweighted term is the loss itself: one panel, with the floor of the term.
    alone = [name for name in terms if np.allclose(log[name], log["loss"], equal_nan=True)]
    columns = ["val_mean_auc", "loss", *(name for name in terms if name not in alone)]
    columns += ["probe_mean_auc", "embedding_std", "embedding_rank", "lr"]
    charts: list[Chart] = []
    for column in (str(name) for name in columns if name in log):
        term = alone[0] if column == "loss" and alone else column
        levels = {
            name: log[f"{term}{ending}"].tolist()
            for ending, name in _LEVELS.items()
            if f"{term}{ending}" in log
        }
        title = _OTHERS.get(column) or words(column)
        if stage == "finetune" and column.startswith("embedding"):
            continue
        # A probe is not due in every epoch.
        rows = log[log[column].notna()] if column == "probe_mean_auc" else log
        charts.append(
            _panel(
                f"{stage}-{len(charts)}",
                title,
                (rows["epoch"] + 1).tolist(),
                rows[column].tolist(),
                levels=levels,
                from_zero=column in _FROM_ZERO,
                kept=kept + 1 if kept is not None and column == "val_mean_auc" else None,
            )
        )
    return charts


def _panel(
    name: str,
    title: str,
    epochs: Sequence[int],
    values: Sequence[float],
    *,
    levels: Mapping[str, Sequence[float]],
    from_zero: bool,
    kept: int | None,
) -> Chart:
    at = epochs.index(kept) if kept in epochs else None

    def draw(axes: Axes) -> None:
        marker = "o" if len(epochs) < 25 else None
        axes.plot(epochs, values, color=FIRST, marker=marker, markersize=3, label=title)
        for color, (level, numbers) in zip(_LEVEL_COLORS, levels.items(), strict=False):
            axes.plot(epochs, numbers, color=color, dashes=(4, 2), label=level)
        if levels:
            axes.legend(loc="best")
        if from_zero:
            axes.set_ylim(0, 1.1 * max(values) or 1)
        if at is not None:
            axes.axvline(epochs[at], color=MUTED, lw=0.9, dashes=(3, 2))
            axes.plot([epochs[at]], [values[at]], "D", color=SECOND, markersize=5)
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
        axes.ticklabel_format(axis="y", style="sci", scilimits=(-3, 4))

    label = f"{title} over {counted(len(epochs), 'epoch')}, "
    label += f"from {number(values[0])} to {number(values[-1])}"
    label += f", kept {number(values[at])} of epoch {epochs[at]}" if at is not None else ""
    label += "".join(f", {level} {number(numbers[-1])}" for level, numbers in levels.items())
    return Chart(name, title, label, draw, (2.9, 2.0), (0.55, 0.42, 0.12, 0.2))
