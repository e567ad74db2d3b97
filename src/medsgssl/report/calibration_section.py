"""The section on calibration of a study's page: errors, one curve per arm, and their table."""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib.axes import Axes

from medsgssl.report.charts import Chart, chart_name, text_width
from medsgssl.report.page import Block, Grid, Panel, Text
from medsgssl.report.run_tables import CALIBRATION_DIGITS
from medsgssl.report.subgroup_tables import ARM, LABELS
from medsgssl.report.tables import Cell, Column, Row, Table
from medsgssl.report.theme import FIRST, INK, MUTED, SECOND
from medsgssl.study.analysis import Analysis
from medsgssl.study.study_calibration import MEASURES, Band, arm_reliability
from medsgssl.utils.formatting import number, percent

#: Errors of the run files, without intervals.
_ERRORS = {"ece": "ECE as trained", "ece_calibrated": "ECE scaled"}


def calibration_panel(analysis: Analysis, tables: Mapping[str, Table]) -> Panel:
    """Calibration before and after scaling."""
    top = max(arm.fraction for arm in analysis.arms)
    unit = "folds" if analysis.bench.folds else "seeds"
    text = (
        "Expected calibration error on the test images, as trained and after a temperature fitted "
        f"on validation; averaged over diseases, then over {unit}. Hollow: as trained; filled: "
        "after scaling."
    )
    errors = calibration_chart(analysis, top)
    blocks: list[Block] = [Text(text)]
    blocks.append(errors or Text("No run has a `metrics.json`.", "absent"))
    if curves := reliability_charts(analysis, top):
        main = "at the temperature from validation" if analysis.scaled else "as trained"
        gray = "; thin and gray: as trained" if analysis.scaled else ""
        confidence = percent(analysis.bench.confidence)
        note = (
            f"Diseases of the mean pooled, {percent(top)} of the labels, {main}{gray}. Bins of "
            "equal size, as many as hold 20 positives each, at most 15; on the dashed line, scores "
            f"are frequencies. Bands hold in {confidence} of the cases for each bin alone, over "
            "patients; that training varies is not in them."
        )
        blocks += [
            Text("Reliability", "heading"),
            Text(note),
            Grid(tuple(curves), "13.5rem", "reliability"),
        ]
    note = (
        "Brier skill: 1 is perfect, 0 no better than the frequency of the disease. Slope: 1 is "
        "right, below 1 scores are too extreme. Intercept: 0 is right, below 0 scores are too "
        "high. Debiased error: the root mean square gap between score and frequency without what "
        "chance alone puts there."
    )
    if analysis.bench.folds:
        note += (
            " Folds are pooled: intervals of the Brier skill hold the spread between them, those "
            "of intercept and debiased error are over patients alone, and the slope has none."
        )
    blocks += [tables["calibration"], Text(note)]
    return Panel("calibration", "Calibration", tuple(blocks))


def calibration_chart(analysis: Analysis, fraction: float) -> Chart | None:
    """Draw the calibration error of each arm before and after temperature scaling."""
    errors = [
        (arm.label, before, arm.metric_mean("ece_calibrated"))
        for arm in analysis.arms
        if arm.fraction == fraction and (before := arm.metric_mean("ece")) is not None
    ]
    if not errors:
        return None

    def draw(axes: Axes) -> None:
        for index, (_, before, after) in enumerate(errors):
            if after is not None:
                axes.plot([before, after], [index] * 2, color=MUTED, linewidth=1)
                axes.plot([after], [index], "o", color=FIRST, markersize=6)
            axes.plot([before], [index], "o", color=SECOND, markersize=6, markerfacecolor="none")
            text = f"{number(before)} to {number(after)}"
            where = axes.get_yaxis_transform()
            axes.text(1.02, index, text, transform=where, va="center", color=INK)
        axes.set_yticks(range(len(errors)), [label for label, *_ in errors])
        axes.tick_params(axis="y", length=0)
        axes.set_ylim(len(errors) - 0.4, -0.6)
        axes.set_xlim(left=0)
        axes.grid(axis="y", visible=False)
        axes.set_xlabel("calibration error")

    texts = ", ".join(
        f"{label} {number(before)} to {number(after)}" for label, before, after in errors
    )
    left = 0.2 + 1.06 * max(text_width(label) for label, *_ in errors)
    title = f"Calibration with {percent(fraction)} of the labels"
    size = (left + 5.0, 0.24 * len(errors) + 0.6)
    return Chart("calibration", title, f"{title}: {texts}", draw, size, (left, 0.45, 1.3, 0.05))


def reliability_charts(analysis: Analysis, fraction: float) -> list[Chart]:
    """Draw how often what each arm scores comes true, one chart per arm on common axes."""
    bench = analysis.bench
    arms = [arm for arm in analysis.arms if arm.fraction == fraction]
    main = {arm.label: arm_reliability(arm, bench, scaled=analysis.scaled) for arm in arms}
    before = {
        arm.label: arm_reliability(arm, bench, scaled=False) if analysis.scaled else None
        for arm in arms
    }
    ends = [
        float(values.max())
        for band in (*main.values(), *before.values())
        if band is not None
        for values in (band.curve.score, band.curve.frequency, band.high)
    ]
    return [
        _reliability_chart(label, band, before[label], min(1.0, 1.05 * max(ends)))
        for label, band in main.items()
        if band is not None
    ]


def _reliability_chart(label: str, band: Band, before: Band | None, top: float) -> Chart:
    def draw(axes: Axes) -> None:
        axes.plot([0, top], [0, top], color=MUTED, lw=0.9, dashes=(3, 2))
        if before is not None:
            axes.plot(before.curve.score, before.curve.frequency, color=MUTED, lw=0.9)
        score = band.curve.score
        axes.fill_between(score, band.low, band.high, color=FIRST, alpha=0.2, linewidth=0)
        axes.plot(score, band.curve.frequency, "o-", color=FIRST, markersize=3, lw=1.2)
        axes.set(xlim=(0, top), ylim=(0, top), xlabel="mean score", ylabel="share of positives")
        axes.locator_params(nbins=4)

    text = f"Reliability of {label}: pooled calibration error {number(band.curve.error())}"
    if before is not None:
        text += f", {number(before.curve.error())} as trained"
    name = chart_name("reliability", label)
    return Chart(name, label, text, draw, (2.6, 2.4), (0.52, 0.42, 0.1, 0.08))


def arm_calibration_table(analysis: Analysis) -> Table:
    """Return ECE, Brier skill, slope, intercept and debiased error of each arm."""
    columns = (
        ARM,
        LABELS,
        # The chart has these numbers.
        *(Column(key, heading, page=False) for key, heading in _ERRORS.items()),
        *(
            Column(
                key, words, "estimate", words.capitalize(), digits=CALIBRATION_DIGITS.get(key, 2)
            )
            for key, words in MEASURES.items()
        ),
    )
    rows: list[Row] = []
    for arm in analysis.ordered_arms():
        row: dict[str, Cell] = {"arm": arm.label, "labels": arm.fraction}
        row |= {key: arm.metric_mean(key) for key in _ERRORS}
        row |= analysis.calibration[arm.key]
        rows.append(row)
    when = "at the temperature from validation" if analysis.scaled else "as trained"
    caption = f"Means over diseases; skill, slope, intercept and debiased error {when}"
    source = "calibration.csv, computed from predictions.parquet and metrics.json of the runs"
    return Table("calibration", caption, columns, rows, source)
