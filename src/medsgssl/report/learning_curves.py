"""Learning curves from the epoch logs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from medsgssl.report.charts import Chart
from medsgssl.report.theme import FIRST, MUTED, SECOND
from medsgssl.utils.formatting import number, words

_FLOOR = "_floor"
#: Endings of columns that a term is compared with.
_LEVELS = (_FLOOR, "_chance", "_start")
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
#: A collapse is a fall toward zero, so zero has to be in sight.
_FROM_ZERO = ("embedding_std", "embedding_rank", "lr")


def learning_charts(log: pd.DataFrame, stage: str) -> list[Chart]:
    """Draw one panel per column: loss, each term beside its floor, embeddings, rate, AUC.

    Args:
        log: One row per epoch.
        stage: ``pretrain`` or ``finetune``; part of the charts' names.
    """
    terms = [name for name in log if name not in _OTHERS and not str(name).endswith(_LEVELS)]
    # A single unweighted term is the loss itself: one panel, with the floor of the term.
    alone = [name for name in terms if np.allclose(log[name], log["loss"], equal_nan=True)]
    columns = ["val_mean_auc", "loss", *(name for name in terms if name not in alone)]
    columns += ["probe_mean_auc", "embedding_std", "embedding_rank", "lr"]
    charts: list[Chart] = []
    for column in (str(name) for name in columns if name in log):
        floor = column + _FLOOR
        if column == "loss" and alone:
            floor = f"{alone[0]}{_FLOOR}"
        title = _OTHERS.get(column) or words(column)
        if stage == "finetune" and column.startswith("embedding"):
            continue
        # A probe is not due in every epoch.
        shown = log[log[column].notna()] if column == "probe_mean_auc" else log
        charts.append(
            _panel(
                f"{stage}-{len(charts)}",
                title,
                shown["epoch"].tolist(),
                shown[column].tolist(),
                floor=log[floor].tolist() if floor in log else None,
                from_zero=column in _FROM_ZERO,
                best=column == "val_mean_auc",
            )
        )
    return charts


def _panel(
    name: str,
    title: str,
    epochs: Sequence[int],
    values: Sequence[float],
    *,
    floor: Sequence[float] | None,
    from_zero: bool,
    best: bool,
) -> Chart:
    top = int(np.nanargmax(values)) if best and not np.all(np.isnan(values)) else None

    def draw(axes: Axes) -> None:
        marker = "o" if len(epochs) < 25 else None
        axes.plot(epochs, values, color=FIRST, marker=marker, markersize=3, label=title)
        if floor is not None:
            axes.plot(epochs, floor, color=SECOND, dashes=(4, 2), label="floor")
            axes.legend(loc="best")
        if from_zero:
            axes.set_ylim(0, 1.1 * max(values) or 1)
        if top is not None:
            axes.axvline(epochs[top], color=MUTED, lw=0.9, dashes=(3, 2))
            axes.plot([epochs[top]], [values[top]], "D", color=SECOND, markersize=5)
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
        axes.ticklabel_format(axis="y", style="sci", scilimits=(-3, 4))

    label = f"{title} over {len(epochs)} epochs, from {number(values[0])} to {number(values[-1])}"
    label += f", best {number(values[top])} in epoch {epochs[top]}" if top is not None else ""
    label += f", floor {number(floor[-1])}" if floor is not None else ""
    return Chart(name, title, label, draw, (2.9, 2.0), (0.55, 0.42, 0.12, 0.2))
