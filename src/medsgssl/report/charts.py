"""Figures of every report: drawn once, put into a page as SVG or written as files."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import matplotlib as mpl
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.textpath import TextPath
from matplotlib.ticker import MaxNLocator

from medsgssl.report.theme import (
    CARD,
    FIRST,
    GRID,
    INK,
    MARKERS,
    MUTED,
    SERIES,
    follow_theme,
)
from medsgssl.utils.io import atomic_path
from medsgssl.utils.rng import stable_hash

_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "medsgssl",
    "pdf.fonttype": 42,
    "font.size": 8.5,
    "axes.titlesize": 9,
    "axes.titleweight": "bold",
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.facecolor": "none",
    "axes.formatter.useoffset": False,
    "figure.facecolor": CARD,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "legend.handlelength": 2.2,
    "lines.linewidth": 1.5,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
}
# No date and no creator: the same run gives the same bytes.
_NO_METADATA = {"svg": {"Date": None, "Creator": None}, "pdf": {"CreationDate": None}}


@dataclass(frozen=True)
class Chart:
    """One panel that can be drawn on any axes.

    Attributes:
        name: Unique on a page; letters, digits and dashes.
        title: Shown above the panel.
        label: What the panel says, for those who do not see it.
        draw: Draws on the axes it is given.
        size: Width and height in inches.
        margins: Room left, bottom, right and top of the axes, in inches.
    """

    name: str
    title: str
    label: str
    draw: Callable[[Axes], None]
    size: tuple[float, float] = (2.9, 2.2)
    margins: tuple[float, float, float, float] = (0.52, 0.42, 0.12, 0.1)

    def __post_init__(self) -> None:
        # The name goes into the page unescaped, as part of ids.
        if not re.fullmatch(r"[\w-]+", self.name):
            raise ValueError(f"{self.name!r} is not the name of a chart")

    def svg(self) -> Markup:
        """Return the panel as SVG for the inside of a page; its colors follow the theme."""
        with _style():
            figure = Figure(figsize=self.size)
            width, height = self.size
            left, bottom, right, top = self.margins
            box = (left / width, bottom / height)
            extent = (1 - (left + right) / width, 1 - (bottom + top) / height)
            self.draw(figure.add_axes((*box, *extent)))
            text = io.StringIO()
            figure.savefig(text, format="svg", metadata=_NO_METADATA["svg"], transparent=True)
        return _for_page(text.getvalue(), self.name, self.label, self.size[0])


def chart_name(kind: str, label: str) -> str:
    """Return a chart's name for a class, whatever the class is called; unique for each."""
    plain = re.sub(r"[^\w-]+", "-", label)
    return f"{kind}-{plain}" if plain == label else f"{kind}-{plain}-{stable_hash(label):x}"


def text_width(text: str, size: float = 8.5) -> float:
    """Return the width of a text in inches, so that margins hold the longest label."""
    if not text.strip():
        return 0.0
    return float(TextPath((0, 0), text, size=size).get_extents().x1) / 72


# So that all look equally large.
_MARKER_SIZES = {"o": 4.5, "s": 4.5, "D": 4.5, "*": 8.0}


class SeriesStyle(TypedDict):
    """How the line of a series looks, in matplotlib's words."""

    color: str
    marker: str
    markersize: float
    markeredgewidth: float
    markeredgecolor: str
    dashes: tuple[float | None, float | None]


def series_style(index: int) -> SeriesStyle:
    """Return color and marker of the line at that place; the first twelve all differ in both."""
    n = index % len(SERIES)
    return {
        "color": SERIES[n],
        "marker": MARKERS[n],
        "markersize": _MARKER_SIZES.get(MARKERS[n], 5.8),
        "markeredgewidth": 0.6,
        "markeredgecolor": CARD,
        "dashes": (None, None) if index < len(SERIES) else (4, 2),
    }


@dataclass(frozen=True)
class ForestRow:
    """One line of a forest plot; a heading where there is no value.

    Attributes:
        name: Left of the axes.
        value: The number.
        interval: Its interval.
        text: Right of the axes.
        plain: A shorter interval, drawn as a pale bar behind.
        color: Of point and interval.
        filled: Whether the point is filled.
        marker: Of the point.
        bold: Whether the texts stand out.
    """

    name: str
    value: float | None = None
    interval: Sequence[float] | None = None
    text: str = ""
    plain: Sequence[float] | None = None
    color: str = FIRST
    filled: bool = True
    marker: str = "o"
    bold: bool = False

    def _ends(self) -> list[float]:
        if self.value is None:
            return []
        return [self.value, *(self.interval or ()), *(self.plain or ())]

    def _draw(self, axes: Axes, height: float) -> None:
        if self.value is None:
            return
        if self.plain:
            bar: dict[str, Any] = {"linewidth": 7, "alpha": 0.28, "solid_capstyle": "butt"}
            axes.plot(list(self.plain), [height] * 2, color=MUTED, **bar)
        if self.interval:
            axes.plot(list(self.interval), [height] * 2, color=self.color, linewidth=1.9)
        fill = self.color if self.filled else CARD
        style: dict[str, Any] = {"color": self.color, "markersize": 5.5, "markerfacecolor": fill}
        axes.plot([self.value], [height], self.marker, **style)
        axes.text(
            1.02, height, self.text, transform=axes.get_yaxis_transform(), va="center",
            fontweight="bold" if self.bold else "normal",
        )  # fmt: skip


def forest_chart(
    name: str,
    title: str,
    rows: Sequence[ForestRow],
    axis: str,
    *,
    reference: float = 0.0,
    limits: tuple[float | None, float | None] = (None, None),
) -> Chart:
    """Draw values with their intervals, one line each, names left and numbers right.

    Args:
        name: Of the chart.
        title: Above it.
        rows: From top to bottom.
        axis: What the values are.
        reference: Where the dashed line stands; always in sight.
        limits: Ends of the axis; what is None is taken from the values.
    """
    ends = [reference, *(end for row in rows for end in row._ends())]
    margin = 0.05 * (max(ends) - min(ends)) or 0.01
    low = min(ends) - margin if limits[0] is None else limits[0]
    high = max(ends) + margin if limits[1] is None else limits[1]

    def draw(axes: Axes) -> None:
        axes.axvline(reference, color=MUTED, linewidth=1, dashes=(3, 2))
        for height, row in enumerate(rows):
            row._draw(axes, height)
        axes.set_yticks(range(len(rows)), [row.name for row in rows])
        for tick, row in zip(axes.get_yticklabels(), rows, strict=True):
            if row.value is None:
                tick.set_fontweight("bold")
        axes.tick_params(axis="y", length=0)
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.set_xlim(low, high)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.grid(axis="y", visible=False)
        axes.set_xlabel(axis)

    label = ", ".join(f"{row.name} {row.text}" for row in rows if row.value is not None)
    left = 0.2 + 1.06 * max((text_width(row.name) for row in rows), default=0)
    right = 0.2 + 1.06 * max((text_width(row.text) for row in rows), default=0)
    size = (left + right + 3.6, 0.24 * len(rows) + 0.6)
    return Chart(name, title, f"{title}: {label}", draw, size, (left, 0.45, right, 0.05))


def write_figure(charts: Sequence[Chart], folder: Path, name: str, columns: int) -> list[Path]:
    """Write charts as one figure, as SVG and as PDF.

    Args:
        charts: At least one; they become panels, row by row.
        folder: Where the files go.
        name: File name without suffix.
        columns: Panels per row at most.

    Returns:
        The files.
    """
    columns = min(columns, len(charts))
    rows = -(-len(charts) // columns)
    width, height = charts[0].size
    with _style():
        figure = Figure(figsize=(width * columns, (height + 0.25) * rows), layout="constrained")
        for number, chart in enumerate(charts, start=1):
            axes = figure.add_subplot(rows, columns, number)
            chart.draw(axes)
            axes.set_title(chart.title)
        # Laid out once; every file would lay it out again.
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
        written = []
        for suffix, metadata in _NO_METADATA.items():
            written.append(folder / f"{name}.{suffix}")
            with atomic_path(written[-1]) as temporary:
                figure.savefig(temporary, format=suffix, metadata=metadata)
    return written


@contextmanager
def _style() -> Iterator[None]:
    # Not pyplot: its figures are global, and its back end may want a display.
    with mpl.rc_context(_STYLE):
        yield


def _for_page(svg: str, name: str, label: str, width: float) -> Markup:
    """Fit a figure of matplotlib into a page: unique ids, theme colors, no foreign addresses.

    The style sheet scales by ``--inches``, so that texts of all figures are about equally large.
    """
    body = svg[svg.index("<svg") :]
    box = re.search(r'viewBox="([^"]+)"', body)
    assert box is not None
    body = body[body.index(">") + 1 : body.rindex("</svg>")]
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    used = set(re.findall(r"#([\w.-]+)(?=[\")])", body))
    body = re.sub(
        r' id="([^"]+)"',
        lambda match: f' id="{name}-{match[1]}"' if match[1] in used else "",
        body,
    )
    body = re.sub(r'(href="|url\()#', rf"\1#{name}-", body)
    body = re.sub(r"<style.*?</style>", "", body, flags=re.DOTALL)
    body = re.sub(r"font-family: [^;\"]+;? ?", "", body)
    body = re.sub(r" transform=\"rotate\(-?0 [^)]+\)\"", "", body)
    # Hundredths of a point are enough for coordinates; texts between the tags stay as they are.
    body = re.sub(r"<[^>]+>", lambda tag: re.sub(r"(\d\.\d\d)\d+", r"\1", tag[0]), body)
    body = re.sub(r"\s*\n\s*", " ", body)
    style = f'style="--inches: {width:.2f}"'
    head = f'<svg viewBox="{box[1]}" {style} role="img" aria-label="{escape(label)}">'
    return Markup(f"{head}{follow_theme(body)}</svg>")
