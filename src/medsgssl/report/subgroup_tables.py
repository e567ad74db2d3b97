"""Where a difference lies: tables by sex, age, view position and quality of the lung masks.

The columns and cells that say what a row compares are those of all tables of a study.
"""

from __future__ import annotations

from medsgssl.report.run_tables import fact_column
from medsgssl.report.tables import Cell, Column, Measured, Row, Table
from medsgssl.study.analysis import Analysis
from medsgssl.study.arms import Arm
from medsgssl.study.comparisons import Comparison
from medsgssl.study.strata import QualityStrata, Stratum
from medsgssl.utils.formatting import join_names, percent, signed, signed_interval, words

ARM = Column("arm", "arm", "text", "Method")
AGAINST = Column("against", "against", "text", "Against")
LABELS = Column("labels", "labels", "percent", "Labels")
P = Column("p", "p", "p", "$p$")
P_HOLM = Column("p_holm", "p (Holm)", "p", "$p$ (Holm)")

_STRATUM = (
    Column("kind", "kind", "text", page=False),
    ARM,
    AGAINST,
    LABELS,
    Column("of", "of", "text", page=False),
    Column("group", "group", "text", "Group"),
    Column("images", "images", "count", "Images"),
    Column("patients", "patients", "count"),
    Column("diseases", "diseases", "count"),
    Column("auc", "mean AUC", "estimate", "AUC"),
    Column("auc_against", "control", "estimate"),
    Column("difference", "difference", "change", "Difference"),
    Column("p", "p", "p", page=False),
)


def subgroups(analysis: Analysis) -> Table:
    """Return the comparisons with the control within sex, age band and view position."""
    rows = [
        _stratum(comparison, part)
        for comparison, tests in analysis.subgroups
        for part in tests.strata
    ]
    return Table("subgroups", "Subgroups", _STRATUM, rows, "subgroups.csv")


def interactions(analysis: Analysis) -> Table:
    """Return whether differences depend on sex, age band or view position."""
    columns = (
        ARM,
        AGAINST,
        LABELS,
        Column("group", "group", "text", "Group"),
        Column("rest", "compared with", "text"),
        Column("diseases", "diseases", "count"),
        Column("difference", "difference of the differences", "change", "Interaction"),
        P_HOLM,
    )
    rows: list[Row] = [
        {
            **sides(comparison),
            "group": f"{words(one.kind)}: {one.name}",
            "rest": one.rest,
            "diseases": one.diseases,
            "difference": one.difference,
            "p_holm": one.p_holm,
        }
        for comparison, tests in analysis.subgroups
        for one in tests.interactions
    ]
    caption = "Does the difference depend on the group?"
    return Table("interactions", caption, columns, rows, "interactions.csv")


def shortcuts(analysis: Analysis) -> Table:
    """Return the AUC of facts that are not in the lungs; without rows where they are unknown."""
    run = analysis.collected.runs[0]
    attributes = {
        name: shortcut
        for name, shortcut in (run.metrics["shortcuts"] if run.metrics else {}).items()
        if shortcut["images"]
    }
    columns = (
        Column("disease", "disease", "name"),
        *map(fact_column, attributes),
    )
    rows: list[Row] = []
    if attributes:
        rows = [
            {
                "disease": name,
                **{
                    attribute: Measured.of(
                        shortcut["auc"].get(name), shortcut.get("auc_interval", {}).get(name)
                    )
                    for attribute, shortcut in attributes.items()
                },
            }
            for name in analysis.bench.test.names
        ]
    caption = "AUC of facts that are not in the lungs"
    return Table("shortcuts", caption, columns, rows, f"metrics.json of {run.name}")


def mask_quality(analysis: Analysis) -> Table:
    """Return the comparisons with the control by quality of the lung masks."""
    rows = [
        _stratum(comparison, part) for comparison, one in analysis.quality for part in one.strata
    ]
    return Table("mask_quality", "By mask quality", _STRATUM, rows, "mask_quality.csv")


def _stratum(comparison: Comparison, part: Stratum) -> Row:
    return sides(comparison) | {
        "of": part.kind,
        "group": part.name,
        "images": part.images,
        "patients": part.patients,
        "diseases": part.diseases,
        "auc": part.auc,
        "auc_against": part.auc_against,
        "difference": part.difference,
        "p": part.difference.p,
    }


def quality_trend(quality: QualityStrata) -> str:
    """Describe whether the gain grows with the quality of the masks."""
    trend = quality.trend
    if trend is None or trend.value is None:
        return "No disease is frequent enough in both the low and the high third."
    interval = trend.interval
    if interval is not None and interval[0] > 0:
        meaning = "guidance does more where masks are good"
    elif interval is not None and interval[1] < 0:
        meaning = "guidance does less where masks are good"
    else:
        meaning = "no dependence on mask quality is shown"
    gap = f"{signed(trend.value)} ({signed_interval(interval)})"
    return f"Gain in the high third minus gain in the low third: {gap}; {meaning}."


def quality_absent(analysis: Analysis) -> str:
    """Name the arms without strata by mask quality, with the first reason; empty for none."""
    absent = [
        (comparison.arm, quality.absent)
        for comparison, quality in analysis.quality
        if quality.absent
    ]
    if not absent:
        return ""
    names = join_names([_title(arm) for arm, _ in absent], most=3)
    return f"No strata by mask quality for {names}: {absent[0][1]}."


def _title(arm: Arm) -> str:
    return f"{arm.label} ({percent(arm.fraction)} of the labels)"


def sides(comparison: Comparison) -> dict[str, Cell]:
    """Return the cells that say what is compared."""
    return {
        "kind": comparison.kind,
        "arm": comparison.arm.label,
        "against": comparison.against.label,
        "labels": comparison.arm.fraction,
    }
