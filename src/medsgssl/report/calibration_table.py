"""The calibration of every arm: errors of the run files, and summaries with their intervals."""

from __future__ import annotations

from medsgssl.report.subgroup_tables import ARM, LABELS
from medsgssl.report.tables import Cell, Column, Row, Table
from medsgssl.study.analysis import Analysis
from medsgssl.study.calibration import MEASURES

#: Errors of the run files, without intervals.
_ERRORS = {"ece": "ECE as trained", "ece_calibrated": "ECE scaled"}


def calibration(analysis: Analysis) -> Table:
    """Return ECE, Brier skill, slope, intercept and debiased error of each arm."""
    columns = (
        ARM,
        LABELS,
        *(Column(key, heading) for key, heading in _ERRORS.items()),
        *(
            Column(key, words, "estimate", words.capitalize(), digits=2)
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
    source = "calibration.csv, from predictions.parquet and metrics.json of the runs"
    return Table("calibration", caption, columns, rows, source)
