"""The tables of a comparison as its page shows them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from medsgssl.report.run_tables import Table
from medsgssl.study.analysis import Analysis
from medsgssl.study.arms import calibration, decisions
from medsgssl.study.comparisons import QUESTIONS, Comparison
from medsgssl.study.localize import MEASURES
from medsgssl.study.statistics import Estimate
from medsgssl.study.strata import QualityStrata, Stratum
from medsgssl.study.verdict import decide, reach
from medsgssl.utils.formatting import count, join_names, number, percent, signed, span, words


def p_text(value: float | None) -> str:
    """Write a p value; very small ones only as such."""
    return "<\u202f0.001" if value is not None and value < 0.001 else number(value)


def _with_interval(found: Estimate) -> str:
    return number(found.value) + (f" ({span(found.interval)})" if found.interval else "")


def means_table(analysis: Analysis) -> Table:
    """Return the means of every arm, with their intervals."""
    columns = ["arm", "labels", "seeds", "mean AUC", "sd of seeds"]
    # Beside the mean of all diseases that of the frequent ones, where the two differ.
    apart = int(analysis.bench.frequent().sum()) != int(analysis.bench.headline.sum())
    columns += ["of frequent diseases"] if apart else []
    columns += ["mean AP"]
    rows = []
    for arm in sorted(analysis.arms, key=lambda one: (-one.fraction, one.label)):
        found = analysis.means[arm.key]
        row = [arm.label, percent(arm.fraction), count(len(arm.runs))]
        row += [_with_interval(found["auc"]), number(found["auc"].sd)]
        row += [_with_interval(found["auc_20"])] if apart else []
        rows.append([*row, _with_interval(found["ap"])])
    return Table("Every arm", columns, rows, "means.csv, from predictions.parquet of its runs")


def disease_rows(analysis: Analysis, found: Comparison) -> list[dict[str, Any]]:
    """Return one row per disease of a comparison."""
    bench = analysis.bench
    positives = bench.test.positives()
    rows = []
    for d, name in enumerate(bench.test.names):
        pair = found.diseases[name]

        rows.append(
            {
                "name": name,
                "positives": int(positives[d]),
                "auc": _mean([run.auc[d] for run in found.arm.drawn]),
                "other": _mean([run.auc[d] for run in found.against.drawn]),
                "ap": _mean([run.ap[d] for run in found.arm.drawn]),
                "pair": pair,
            }
        )
    return rows


def _mean(values: Sequence[float]) -> float | None:
    mean = sum(values) / len(values)
    return float(mean) if math.isfinite(mean) else None


def others_table(analysis: Analysis) -> Table | None:
    """Return the comparisons with twins and mask controls; None where there are none."""
    found = [item for item in analysis.comparisons if item.kind not in ("control", "part")]
    if not found:
        return None
    rows = [
        [
            item.arm.label,
            item.against.label,
            percent(item.arm.fraction),
            f"{signed(item.mean.value)} ({reach(item.mean)})",
            p_text(item.mean.p),
            QUESTIONS[item.kind],
        ]
        for item in sorted(found, key=lambda one: (-one.arm.fraction, one.kind, one.arm.label))
    ]
    columns = ["arm", "against", "labels", "mean AUC", "p", "what it asks"]
    return Table("Against twins and mask controls", columns, rows, "comparisons.csv")


def parts_table(found: pd.DataFrame) -> Table | None:
    """Return what each method loses without each of its parts; None where none was left out."""
    if found.empty:
        return None
    rows = [
        [
            str(row["method"]), percent(row["labels"]), f"{row['without']}: {row['what']}",
            number(row["auc_whole"]), number(row["auc"]), signed(row["difference"]),
            _ends_signed(row["difference_low"], row["difference_high"]),
            p_text(row["p"]), p_text(row["p_holm"]),
        ]
        for row in found.to_dict("records")
    ]  # fmt: skip
    columns = ["method", "labels", "without", "whole", "without it", "lost", "interval", "p",
               "p (Holm)"]  # fmt: skip
    return Table("Mean AUC of the whole method and without each part", columns, rows, "parts.csv")


def _ends_signed(low: float | None, high: float | None) -> str:
    return reach(Estimate(None, None if low is None or high is None else (low, high)))


def quality_table(analysis: Analysis) -> tuple[list[tuple[Table, str]], str]:
    """Return a table with a sentence for each arm, and one sentence for those without."""
    shown, absent = [], []
    for found, quality in analysis.quality:
        title = f"{found.arm.label}, {percent(found.arm.fraction)} of the labels"
        if quality.absent:
            absent.append((title, quality.absent))
        else:
            table = _strata_table(title, quality.strata, "mask quality", "mask_quality.csv")
            shown.append((table, _trend(quality, len(analysis.quality))))
    if not absent:
        return shown, ""
    names = join_names([title for title, _ in absent], most=3)
    return shown, f"No strata by mask quality for {names}: {absent[0][1]}."


def _trend(quality: QualityStrata, asked: int) -> str:
    trend = quality.trend
    if trend is None or trend.value is None:
        return "No disease is frequent enough in both the low and the high third."
    said = {
        "helps": "guidance does more where masks are good",
        "hurts": "guidance does less where masks are good",
    }.get(decide(trend), "no dependence on mask quality is shown")
    gap = f"{signed(trend.value)} ({reach(trend)})"
    many = f" (one of {asked} such questions, not corrected for their number)" if asked > 1 else ""
    return f"Gain in the high third minus gain in the low third: {gap}; {said}{many}."


def looked_table(found: pd.DataFrame) -> Table | None:
    """Return where the networks look; None where no run was scored."""
    if found.empty:
        return None
    columns = ["arm", "labels", "runs", "grid", *MEASURES.values()]
    rows = [
        [
            str(row["arm"]), percent(row["labels"]), count(row["runs"]), str(row["grid"]),
            *(_ends(row[name], row[f"{name}_low"], row[f"{name}_high"]) for name in MEASURES),
        ]
        for row in found.to_dict("records")
    ]  # fmt: skip
    boxes, patients = int(found["boxes"].iloc[0]), int(found["patients"].iloc[0])
    caption = f"{boxes} boxes of {patients} patients"
    return Table(caption, columns, rows, "localization.csv, from localization.json of the runs")


def _ends(value: float | None, low: float | None, high: float | None) -> str:
    if low is None or high is None or not math.isfinite(low):
        return number(value, 2)
    return f"{number(value, 2)} ({span((low, high), 2)})"


def subgroups_table(found: Comparison, parts: Sequence[Stratum]) -> Table:
    """Return a comparison within each subgroup."""
    return _strata_table(found.arm.label, parts, "group", "subgroups.csv")


def _strata_table(title: str, parts: Sequence[Stratum], head: str, source: str) -> Table:
    columns = [head, "images", "patients", "diseases", "mean AUC", "control", "difference",
               "interval"]  # fmt: skip
    rows = [
        [
            f"{part.kind} {part.name}" if head == "group" else part.name,
            count(part.images), count(part.patients), count(part.diseases),
            number(part.own.value), number(part.other.value),
            signed(part.difference.value), reach(part.difference),
        ]
        for part in parts
    ]  # fmt: skip
    return Table(title, columns, rows, source)


def shortcuts_table(analysis: Analysis) -> Table | None:
    """Return the AUC of facts that are not in the lungs; None where they are unknown."""
    run = analysis.collected.runs[0]
    facts = {
        name: found
        for name, found in (run.metrics["shortcuts"] if run.metrics else {}).items()
        if found["images"]
    }
    if not facts:
        return None
    columns = ["disease", *(f"{words(name)} alone" for name in facts)]
    rows = [
        [words(name), *(number(found["auc"].get(name), 2) for found in facts.values())]
        for name in analysis.bench.test.names
    ]
    return Table(
        "AUC of facts that are not in the lungs", columns, rows, f"{run.name}/metrics.json"
    )


def calibration_table(analysis: Analysis) -> Table:
    """Return calibration errors of every arm, before and after scaling."""
    columns = ["arm", "labels", "ECE", "scaled", "Brier", "scaled"]
    rows = []
    for arm in sorted(analysis.arms, key=lambda one: (-one.fraction, one.label)):
        found = calibration(arm)
        rows.append(
            [arm.label, percent(arm.fraction), *(number(value) for value in found.values())]
        )
    return Table("Means over diseases and seeds", columns, rows, "means.csv, from metrics.json")


def decisions_table(analysis: Analysis) -> Table:
    """Return what the arms decide at thresholds found on validation."""
    columns = ["arm", "labels", "F1", "precision", "recall", "specificity"]
    rows = [
        [arm.label, percent(arm.fraction), *(number(value) for value in decisions(arm).values())]
        for arm in sorted(analysis.arms, key=lambda one: (-one.fraction, one.label))
    ]
    rule = threshold_rule(analysis.collected.runs[0].settings)
    return Table(f"At thresholds from validation ({rule})", columns, rows, "means.csv")


def threshold_rule(settings: Mapping[str, Any]) -> str:
    """Say how thresholds were chosen."""
    aim = str(settings.get("evaluate.threshold", "f1"))
    return "highest F1" if aim == "f1" else f"{aim} {settings.get('evaluate.target')}"


def runs_table(analysis: Analysis) -> Table:
    """Return every run with its folder."""
    columns = ["run", "arm", "labels", "seed", "mean AUC", "folder"]
    head = analysis.bench.headline
    rows = [
        [
            run.name, arm.label, percent(arm.fraction), count(run.seed),
            number(drawn.mean_auc(head)[0]), str(run.folder.path),
        ]
        for arm in analysis.arms
        for run, drawn in zip(arm.runs, arm.drawn, strict=True)
    ]  # fmt: skip
    return Table("Every run", columns, rows, "runs.csv")
