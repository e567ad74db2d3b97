"""The tables of a study, each defined once for its page, CSV, LaTeX and Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np

from medsgssl.config.loading import Settings
from medsgssl.evaluation.multiplicity import holm
from medsgssl.report.calibration_section import arm_calibration_table
from medsgssl.report.localization_tables import localization, localization_differences
from medsgssl.report.run_tables import metric_columns
from medsgssl.report.subgroup_tables import (
    AGAINST,
    ARM,
    LABELS,
    P_HOLM,
    P,
    interactions,
    mask_quality,
    sides,
    subgroups,
)
from medsgssl.report.tables import Cell, Column, Row, Table
from medsgssl.study.analysis import Analysis
from medsgssl.study.arms import Arm
from medsgssl.study.collect import FinishedRun
from medsgssl.study.comparisons import QUESTIONS, Comparison, DiseaseDifference
from medsgssl.study.statistics import PointEstimate
from medsgssl.study.variants import part_of
from medsgssl.study.verdict import Verdict

Interval = tuple[float, float]


def build_study_tables(analysis: Analysis) -> dict[str, Table]:
    """Return every table by name."""
    tables = (
        means(analysis),
        comparisons(analysis),
        diseases(analysis),
        subgroups(analysis),
        interactions(analysis),
        mask_quality(analysis),
        arm_calibration_table(analysis),
        components(analysis),
        localization(analysis),
        localization_differences(analysis),
        runs(analysis),
    )
    return {table.name: table for table in tables}


# What the study calls a mean or a judged interval is read here alone.


def mean_of(analysis: Analysis, arm: Arm, name: Literal["auc", "auc_all", "ap"]) -> PointEstimate:
    """Return a mean of an arm."""
    means = analysis.means[arm.key]
    return {"auc": means.auc, "auc_all": means.auc_all, "ap": means.ap}[name]


def judged_interval(verdict: Verdict) -> Interval | None:
    """Return the interval that a verdict rests on."""
    return verdict.interval


def unit(analysis: Analysis, *, one: bool = False) -> str:
    """Return what runs of one arm differ in: seeds or folds; or the word for one of them."""
    name = "fold" if analysis.bench.folds else "seed"
    return name if one else f"{name}s"


def means(analysis: Analysis) -> Table:
    """Return the means of every arm."""
    decisions, calibrated = metric_columns([run.metrics for run in _runs(analysis) if run.metrics])
    apart = int(analysis.bench.defined().sum()) != int(analysis.bench.judged_on.sum())
    columns = (
        ARM,
        LABELS,
        Column("seeds", unit(analysis), "count", unit(analysis).capitalize()),
        Column("auc", "mean AUC", "estimate", "AUC"),
        Column("auc_sd", f"SD of {unit(analysis)}"),
        Column("auc_all", "of all diseases", "estimate", page=apart),
        Column("ap", "mean AP", "estimate", "AP"),
        Column("ap_sd", f"SD of {unit(analysis)}", page=False),
        *(
            Column(column.key, column.heading, latex=column.heading, page=False)
            for column in (*decisions, *calibrated)
        ),
        Column("runs", "runs", "text", page=False),
    )
    rows: list[Row] = []
    for arm in analysis.ordered_arms():
        auc, ap = mean_of(analysis, arm, "auc"), mean_of(analysis, arm, "ap")
        row: dict[str, Cell] = {
            "arm": arm.label,
            "labels": arm.fraction,
            "seeds": len(arm.runs),
            "auc": auc,
            "auc_sd": auc.sd,
            "auc_all": mean_of(analysis, arm, "auc_all"),
            "ap": ap,
            "ap_sd": ap.sd,
            "runs": " ".join(run.name for run in arm.runs),
        }
        row |= {c.key: arm.metric_mean(c.key) for c in (*decisions, *calibrated)}
        rows.append(row)
    source = "means.csv, computed from predictions.parquet and metrics.json of the runs"
    return Table("means", "Every arm", columns, rows, source)


def decisions_view(analysis: Analysis, table: Table) -> Table:
    """Return the columns of ``means`` that describe decisions at thresholds."""
    columns, _ = metric_columns([run.metrics for run in _runs(analysis) if run.metrics])
    rule = threshold_rule(analysis.collected.runs[0].settings)
    caption = f"At thresholds from validation ({rule})"
    return table.select("arm", "labels", *(column.key for column in columns), caption=caption)


def threshold_rule(settings: Settings) -> str:
    """Describe how thresholds were chosen."""
    aim = str(settings.get("evaluate.threshold", "f1"))
    return "highest F1" if aim == "f1" else f"{aim} {settings.get('evaluate.target')}"


def comparisons(analysis: Analysis) -> Table:
    """Return every comparison of two arms."""
    columns = (
        Column("kind", "kind", "text", page=False),
        ARM,
        AGAINST,
        LABELS,
        Column("difference", "difference in mean AUC", "change", "Difference in AUC"),
        P,
        P_HOLM,
        Column("p_tested", "p", "p", page=False),
        Column("verdict", "verdict", "text"),
        Column("simultaneous_low", "simultaneous interval, low", page=False),
        Column("simultaneous_high", "simultaneous interval, high", page=False),
        Column("p_equivalent", "p of equivalence", "p", page=False),
        Column("detectable", "detectable", page=False),
        Column("difference_all", "of all diseases", "change", page=False),
        Column("difference_ap", "difference in mean AP", "change", page=False),
        Column("training_in_interval", "training in interval", "text", page=False),
        Column("differs_in", "differs in", "text", page=False),
        Column("asks", "question", "text", page=False),
    )
    rows: list[Row] = []
    for comparison in analysis.comparisons:
        verdict = analysis.verdict_of(comparison)
        rows.append(
            sides(comparison)
            | {
                "difference": comparison.mean,
                "p": comparison.mean.p if analysis.is_tested(comparison) else None,
                "p_holm": None if verdict is None else verdict.p_holm,
                "p_tested": _p_tested(analysis, comparison, verdict),
                "verdict": "" if verdict is None else verdict.word,
                "simultaneous_low": verdict.interval[0] if verdict and verdict.interval else None,
                "simultaneous_high": verdict.interval[1] if verdict and verdict.interval else None,
                "p_equivalent": None if verdict is None else verdict.p_equivalent,
                "detectable": None if verdict is None else verdict.detectable,
                "difference_all": comparison.mean_all,
                "difference_ap": comparison.mean_ap,
                "training_in_interval": str(comparison.mean.seeds_included),
                "differs_in": "; ".join(comparison.tuned_apart),
                "asks": QUESTIONS[comparison.kind],
            }
        )
    rows.sort(key=lambda row: (-_number(row["labels"]), str(row["kind"]), str(row["arm"])))
    return Table("comparisons", "Comparisons", columns, rows, "comparisons.csv")


def _p_tested(analysis: Analysis, comparison: Comparison, verdict: Verdict | None) -> float | None:
    """Return the p value that a claim may rest on: of a family Holm's, else its own."""
    if verdict is not None:
        return verdict.p_holm
    return comparison.mean.p if analysis.is_tested(comparison) else None


def diseases(analysis: Analysis) -> Table:
    """Return every comparison disease by disease."""
    bench = analysis.bench
    positives = bench.test.positives()
    columns = (
        Column("disease", "disease", "name", "Disease"),
        Column("kind", "kind", "text", page=False),
        Column("arm", "arm", "text", "Method", page=False),
        Column("against", "against", "text", page=False),
        Column("labels", "labels", "percent", "Labels", page=False),
        Column("positives", "positives", "count", "Positives"),
        Column("auc", "AUC", "estimate", "AUC"),
        Column("auc_against", "control"),
        Column("difference", "difference", "change", "Difference"),
        P,
        P_HOLM,
        Column("ap", "AP", "estimate", page=False),
        Column("ap_against", "AP of the control", page=False),
        Column("ap_difference", "difference in AP", "change"),
        Column("note", "note", "text", page=False),
    )
    rows: list[Row] = []
    for comparison in analysis.comparisons:
        for d, name in enumerate(bench.test.names):
            pair = comparison.diseases[name]
            rows.append(
                sides(comparison)
                | {
                    "disease": name,
                    "positives": int(positives[d]),
                    "auc": _gated(bench.estimate(comparison.arm.each(_auc_of(d))), pair),
                    "auc_against": float(
                        np.mean([run.auc[d] for run in comparison.against.jackknifed])
                    ),
                    "difference": pair.difference,
                    "p": pair.difference.p,
                    "p_holm": pair.holm,
                    "ap": _gated(bench.estimate(comparison.arm.each(_ap_of(d)), skewed=True), pair),
                    "ap_against": float(
                        np.mean([run.ap[d] for run in comparison.against.jackknifed])
                    ),
                    "ap_difference": pair.ap,
                    "note": pair.note,
                }
            )
    return Table(
        "diseases", "Diseases", columns, rows, "diseases.csv", sortable=True, strong=_significant
    )


def _gated(estimate: PointEstimate, pair: DiseaseDifference) -> PointEstimate:
    """Return a number without its interval where too few patients stand behind the disease."""
    return estimate.bare() if pair.note else estimate


def _auc_of(d: int) -> Any:
    return lambda run: run.auc_of(d)


def _ap_of(d: int) -> Any:
    return lambda run: run.ap_of(d)


def _significant(row: Row) -> bool:
    p = row.get("p_holm")
    return isinstance(p, float) and p < 0.05


def components(analysis: Analysis) -> Table:
    """Return what each method loses without each of its components.

    ``auc`` is of the method without the component, ``difference`` the whole method's mean AUC minus
    that. The p values are corrected by Holm over the components of one method at one label
    fraction.
    """
    columns = (
        Column("method", "method", "text", "Method"),
        LABELS,
        Column("without", "without", "text", "Without"),
        Column("what", "which is", "text"),
        Column("auc_whole", "whole", "estimate"),
        Column("auc", "without it", "estimate", "AUC"),
        Column("difference", "lost", "change", "Lost"),
        P,
        P_HOLM,
    )
    families: dict[tuple[str, float], list[Comparison]] = {}
    for comparison in analysis.comparisons:
        if (
            comparison.arm is not comparison.against
            and comparison.against.without
            and not comparison.arm.without
        ):
            families.setdefault(comparison.arm.key, []).append(comparison)
    rows = [row for family in families.values() for row in _family(analysis, family)]
    caption = "Mean AUC of the whole method and without each component"
    return Table("parts", caption, columns, rows, "parts.csv")


def _family(analysis: Analysis, family: Sequence[Comparison]) -> Iterator[Row]:
    corrected = holm({comparison.against.without: comparison.mean.p for comparison in family})
    for comparison in family:
        name = comparison.against.without
        yield {
            "method": comparison.arm.label,
            "labels": comparison.arm.fraction,
            "without": name,
            "what": part_of(comparison.against.method, name).what,
            "auc_whole": mean_of(analysis, comparison.arm, "auc"),
            "auc": mean_of(analysis, comparison.against, "auc"),
            "difference": comparison.mean,
            "p": comparison.mean.p,
            "p_holm": corrected[name],
        }


def runs(analysis: Analysis) -> Table:
    """Return every run."""
    columns = (
        Column("run", "run", "text"),
        ARM,
        LABELS,
        Column("seed", unit(analysis, one=True), "count"),
        Column("auc", "mean AUC"),
        Column("ap", "mean AP"),
        Column("validation_auc", "mean AUC on validation"),
    )
    head = analysis.bench.judged_on
    rows: list[Row] = [
        {
            "run": run.name,
            "arm": arm.label,
            "labels": arm.fraction,
            "seed": run.seed,
            "auc": drawn.mean_auc(head).value,
            "ap": drawn.mean_ap(head).value,
            "validation_auc": _validation_auc(run),
        }
        for arm in analysis.ordered_arms()
        for run, drawn in zip(arm.runs, arm.jackknifed, strict=True)
    ]
    return Table("runs", "Every run", columns, rows, "runs.csv")


def _runs(analysis: Analysis) -> list[FinishedRun]:
    return [run for arm in analysis.arms for run in arm.runs]


def _validation_auc(run: FinishedRun) -> float | None:
    validation = run.metrics["validation"] if run.metrics else None
    return validation["mean_auc"] if validation else None


def rows_of(table: Table, comparison: Comparison, caption: str) -> Table:
    """Return the rows of a table that describe one comparison."""
    wanted = sides(comparison)
    return table.where(lambda row: all(row[key] == wanted[key] for key in wanted), caption)


def _number(cell: Cell) -> float:
    return float(cell) if isinstance(cell, int | float) else 0.0
