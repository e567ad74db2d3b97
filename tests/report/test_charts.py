from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.axes import Axes
from sklearn.metrics import roc_auc_score, roc_curve

from medsgssl.report.charts import Chart, series_style, write_figure
from medsgssl.report.pictures import examples, outline
from medsgssl.report.run_charts import join_bins, thin, wilson
from medsgssl.report.study_charts import subgroup_chart
from medsgssl.report.theme import COLORS, FIRST, SERIES, follow_theme
from medsgssl.study.statistics import PointEstimate
from medsgssl.utils.formatting import (
    NONE,
    count,
    duration,
    format_interval,
    join_names,
    number,
    percent,
    size,
)

SERIES_NAMES = [name for name, (light, _) in COLORS.items() if light in SERIES]


def test_twelve_lines_differ_in_color_and_marker() -> None:
    styles = [series_style(n) for n in range(12)]
    assert len({style["color"] for style in styles}) == 12
    assert len({style["marker"] for style in styles}) == 12


def test_legend_of_many_arms_and_groups_is_not_cut() -> None:
    point = PointEstimate(0.01, (-0.01, 0.03))
    parts = [SimpleNamespace(kind="age", name=f"band {n}", difference=point) for n in range(9)]
    labels = [f"simclr (resnet50, lung-box, {n} epochs)" for n in range(12)]
    named = [SimpleNamespace(arm=SimpleNamespace(label=label)) for label in labels]
    shown = [(one, parts) for one in reversed(named)]
    chart = subgroup_chart(shown, "simclr", labels)  # type: ignore[arg-type]
    assert chart is not None
    drawn: list[Axes] = []
    replace(chart, draw=lambda axes: (drawn.append(axes), chart.draw(axes))[1]).svg()
    legend = drawn[0].get_legend()
    figure = drawn[0].get_figure()
    assert legend is not None
    assert figure is not None
    inside, outside = legend.get_window_extent(), figure.bbox
    assert [text.get_text() for text in legend.get_texts()] == labels[::-1]
    # Each arm looks as it does in the other charts of the page.
    colors = [line.get_color() for line in legend.get_lines()]
    assert colors == [series_style(n)["color"] for n in range(12)][::-1]
    assert outside.y0 <= inside.y0
    assert inside.y1 <= outside.y1
    assert inside.x1 <= outside.x1


def test_joined_bins_keep_images_and_positives() -> None:
    rng = np.random.default_rng(0)
    count = rng.integers(20, 40, 15).tolist()
    curve = {"score": np.sort(rng.random(15)).tolist(), "frequency": rng.random(15).tolist()}
    joined = join_bins({**curve, "count": count}, 4)  # type: ignore[typeddict-item]
    assert len(joined["count"]) == 4
    assert sum(joined["count"]) == sum(count)
    for key in ("score", "frequency"):
        assert np.dot(joined[key], joined["count"]) == pytest.approx(np.dot(curve[key], count))
    assert len(join_bins({**curve, "count": count}, 0)["count"]) == 1  # type: ignore[typeddict-item]


def test_wilson_covers_an_empty_count_and_is_symmetric() -> None:
    # Of none in n, the upper end is z^2 / (n + z^2).
    low, high = wilson(np.array([0.0, 0.5]), np.array([10.0, 10.0]))
    assert low[0] == pytest.approx(0, abs=1e-12)
    assert high[0] == pytest.approx(1.96**2 / (10 + 1.96**2))
    assert low[1] + high[1] == pytest.approx(1)


def test_thin_keeps_the_area_and_both_ends() -> None:
    rng = np.random.default_rng(0)
    labels = rng.random(20_000) < 0.1
    scores = rng.normal(size=20_000) + labels
    false, true, _ = roc_curve(labels, scores)
    x, y = thin(false, true)
    assert len(x) <= 160 < len(false)
    assert (x[0], y[0], x[-1], y[-1]) == (0, 0, 1, 1)
    assert np.trapezoid(y, x) == pytest.approx(roc_auc_score(labels, scores), abs=2e-3)


def test_thin_leaves_short_curves_alone() -> None:
    x = np.array([0.0, 0.0, 1.0])
    assert thin(x, x)[0] is x


def _chart(name: str) -> Chart:
    return Chart(name, "A title", "what it says", lambda axes: axes.plot([0, 1], color=FIRST))


def test_figure_is_written_as_svg_and_pdf_alike_every_time(tmp_path: Path) -> None:
    charts = [_chart("one"), _chart("two"), _chart("three")]
    svg, pdf = write_figure(charts, tmp_path / "figures", "panels", columns=2)
    assert (svg.name, pdf.name) == ("panels.svg", "panels.pdf")
    assert pdf.read_bytes().startswith(b"%PDF")
    before = svg.read_bytes(), pdf.read_bytes()
    assert svg.read_text().count("A title") == 3
    assert FIRST in svg.read_text()
    write_figure(charts, tmp_path / "figures", "panels", columns=2)
    assert (svg.read_bytes(), pdf.read_bytes()) == before


def test_name_of_a_chart_cannot_become_markup() -> None:
    with pytest.raises(ValueError, match="is not the name"):
        _chart('"><script>')


def test_light_colors_are_told_apart() -> None:
    assert len({light for light, _ in COLORS.values()}) == len(COLORS)


@pytest.mark.parametrize("theme", [0, 1])
@pytest.mark.parametrize("name", ["ink", "muted", *SERIES_NAMES])
def test_colors_stand_out_from_the_card(name: str, theme: int) -> None:
    # WCAG 2.2: 4.5 for text, 3 for graphics.
    least = 4.5 if name in ("ink", "muted") else 3
    assert _contrast(COLORS[name][theme], COLORS["card"][theme]) >= least


def _contrast(one: str, other: str) -> float:
    def luminance(color: str) -> float:
        parts = np.array([int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)])
        linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_follow_theme_changes_palette_colors_alone() -> None:
    ink = COLORS["ink"][0]
    assert follow_theme(f"fill: {ink}; stroke: #123456") == "fill: var(--ink); stroke: #123456"


def test_outline_of_a_rectangle() -> None:
    mask = np.zeros((20, 20), dtype=bool)
    mask[5:10, 3:12] = True
    assert outline(mask) == "M3 5 3 9 11 9 11 5Z"
    assert outline(np.zeros((8, 8), dtype=bool)) == ""


def test_hidden_blocks_are_outlined_in_the_prepared_view() -> None:
    view = np.full((1, 1, 32, 32), 100, dtype=np.uint8)
    prepared = view / 255
    prepared[0, 0, 8:16, 8:16] = 0.9
    arrays = {
        "image_ids": np.array(["a.png"]),
        "images": view[:, 0],
        "masks": np.ones((1, 32, 32), dtype=bool),
        "quality": np.zeros(1),
        "pretrain_views": view,
        "pretrain_masks": np.ones((1, 1, 32, 32), dtype=bool),
        "prepared": prepared.astype(np.float32),
    }
    (example,) = examples(arrays, without_masks=False)
    assert [picture.caption for picture in example.pictures] == [
        "cached image", "pretraining view 1", "view 1 as encoded",
    ]  # fmt: skip
    assert example.pictures[2].hidden == "M8 8 8 15 15 15 15 8Z"
    assert "no usable mask" in example.note
    assert not any(picture.lungs for picture in example.pictures)
    assert examples(arrays, without_masks=True)[0].note == "without a mask"


def test_how_numbers_are_written() -> None:
    assert (number(0.12345), number(None), number(float("nan"))) == ("0.123", NONE, NONE)
    assert (format_interval([0.1, 0.25]), format_interval(None)) == (f"0.100{NONE}0.250", NONE)
    assert format_interval([-0.1, 0.25]) == "\N{MINUS SIGN}0.100 to 0.250"
    assert (count(25596), percent(0.07), percent(0.995)) == (
        "25\u202f596",
        "7\u202f%",
        "99.5\u202f%",
    )
    assert (duration(3.21), duration(250), duration(7500)) == ("3.2 s", "4 min 10 s", "2 h 5 min")
    assert (size(12), size(1_200), size(3.4e9)) == ("12 B", "1.2 kB", "3.4 GB")
    assert join_names(["a", "b", "c"], most=2) == "a, b and 1 more"
