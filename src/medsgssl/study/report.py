"""The report of a comparison: one self-contained page, its tables and figures as files."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd

from medsgssl.files import write_text
from medsgssl.report.figures import Chart, write_figure
from medsgssl.report.page import _templates as base_templates
from medsgssl.report.page import count, listed, number, percent, span, words
from medsgssl.report.tables import Table
from medsgssl.sources import DISEASES
from medsgssl.study.analysis import CONTROL, Analysis, analyse
from medsgssl.study.arms import QUESTIONS, Comparison, calibration
from medsgssl.study.card import write_checklist
from medsgssl.study.figures import (
    calibration_chart,
    difference_chart,
    efficiency_chart,
    strata_chart,
)
from medsgssl.study.look import MEASURES
from medsgssl.study.plan import PLAN_FILE
from medsgssl.study.statistics import Estimate
from medsgssl.study.strata import QualityStrata, Stratum
from medsgssl.study.tables import make_tables, write_tables
from medsgssl.study.verdict import RULE, decide, reach, signed

PAGE = "report.html"


def report_place(folders: Sequence[Path]) -> Path:
    """Return where a report goes by default: into its study, or beside where one works."""
    if len(folders) == 1 and (folders[0] / PLAN_FILE).is_file():
        return folders[0] / "report"
    return Path("comparison")


def write_study_report(
    folders: Sequence[Path],
    out: Path | None = None,
    *,
    control: str = CONTROL,
    resamples: int = 2000,
    confidence: float = 0.95,
) -> Path:
    """Compare the runs and write the page with its tables (CSV, LaTeX) and figures (SVG, PDF).

    Args:
        folders: One study, or run folders.
        out: Folder of the report; ``report_place`` by default.
        control: Label of the arm to compare with.
        resamples: Resamples of patients behind each interval.
        confidence: Nominal coverage.

    Returns:
        The page.

    Raises:
        ConfigError: A folder holds no run.
        DataError: A file is damaged, or the runs do not compare.
    """
    analysis = analyse(folders, control=control, resamples=resamples, confidence=confidence)
    place = out or report_place(folders)
    tables = make_tables(analysis)
    write_tables(tables, place)
    write_checklist(analysis, place)
    charts = _charts(analysis)
    for name, chart in charts.items():
        write_figure([chart], place / "figures", name, columns=1)
    page = (
        _templates()
        .get_template("study.html.jinja")
        .render(_content(analysis, charts) | {"looked": _looked(tables["localisation"])})
    )
    write_text(place / PAGE, page)
    return place / PAGE


def _templates() -> jinja2.Environment:
    """Return the templates of every report with that of the study among them."""
    base = base_templates()
    own = jinja2.PackageLoader("medsgssl.study")
    assert base.loader is not None
    return base.overlay(loader=jinja2.ChoiceLoader([own, base.loader]))


def _charts(analysis: Analysis) -> dict[str, Chart]:
    compared = analysis.with_control()
    top = max(arm.fraction for arm in analysis.arms)
    found: dict[str, Chart | None] = {
        "difference": difference_chart(compared, analysis.control),
        "efficiency": efficiency_chart(analysis),
        "calibration": calibration_chart(analysis, top),
    }
    for number_, (comparison, parts) in enumerate(analysis.subgroups):
        if comparison.arm.fraction == top:
            name = f"subgroups-{number_}"
            found[name] = strata_chart(name, comparison.arm.label, parts, analysis.control)
    return {name: chart for name, chart in found.items() if chart is not None}


def _content(analysis: Analysis, charts: dict[str, Chart]) -> dict[str, Any]:
    bench, first = analysis.bench, analysis.collected.runs[0]
    top = max(arm.fraction for arm in analysis.arms)
    quality, no_quality = _quality(analysis)
    return {
        "analysis": analysis,
        "bench": bench,
        "data_set": _data_set(first.data, first.settings.get("data.root")),
        "methods": list(dict.fromkeys(arm.method for arm in analysis.arms)),
        "fractions": listed(
            [percent(share) for share in sorted({arm.fraction for arm in analysis.arms})]
        ),
        "rule": RULE,
        "warnings": analysis.warnings,
        "charts": {name: (name, chart.title, chart.svg()) for name, chart in charts.items()},
        "means": _means(analysis),
        "disease_tables": [
            (found, _disease_rows(analysis, found))
            for found in sorted(analysis.with_control(), key=_methods_first)
            if not found.arm.is_mask_control
        ],
        "others": _others(analysis),
        "quality": quality,
        "no_quality": no_quality,
        "subgroups": [
            _subgroups(found, parts)
            for found, parts in analysis.subgroups
            if found.arm.fraction == top
        ],
        "shortcuts": _shortcuts(analysis),
        "calibration": _calibration(analysis),
        "runs": _runs(analysis),
        "diseases_in_mean": [
            words(name)
            for name, chosen in zip(DISEASES, bench.headline, strict=True)
            if chosen
        ],
        "signed": signed,
        "p_text": p_text,
        "reach": reach,
    }  # fmt: skip


def _methods_first(found: Comparison) -> tuple[float, bool, str]:
    return -found.arm.fraction, found.arm.direct, found.arm.label


def p_text(value: float | None) -> str:
    """Write a p value; very small ones only as such."""
    return "<\u202f0.001" if value is not None and value < 0.001 else number(value)


def _with_interval(found: Estimate) -> str:
    return number(found.value) + (f" ({span(found.interval)})" if found.interval else "")


def _data_set(data: dict[str, Any] | None, root: Any) -> str:
    found = (data or {}).get("catalog", {}).get("source")
    return str(found or Path(str(root)).name or "unnamed data set")


def _means(analysis: Analysis) -> Table:
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


def _disease_rows(analysis: Analysis, found: Comparison) -> list[dict[str, Any]]:
    bench = analysis.bench
    positives = bench.test.labels.sum(axis=0)
    rows = []
    for d, name in enumerate(DISEASES):
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


def _others(analysis: Analysis) -> Table | None:
    found = [item for item in analysis.comparisons if item.kind != "control"]
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


def _quality(analysis: Analysis) -> tuple[list[tuple[Table, str]], str]:
    """Return a table with a sentence for each arm, and one sentence for those without."""
    shown, absent = [], []
    for found, quality in analysis.quality:
        title = f"{found.arm.label}, {percent(found.arm.fraction)} of the labels"
        if quality.absent:
            absent.append((title, quality.absent))
        else:
            table = _strata_table(title, quality.strata, "mask quality", "mask_quality.csv")
            shown.append((table, _trend(quality)))
    if not absent:
        return shown, ""
    names = listed([title for title, _ in absent], most=3)
    return shown, f"No strata by mask quality for {names}: {absent[0][1]}."


def _trend(quality: QualityStrata) -> str:
    trend = quality.trend
    if trend is None or trend.value is None:
        return "No disease is frequent enough in both the low and the high third."
    said = {
        "helps": "guidance does more where masks are good",
        "hurts": "guidance does less where masks are good",
    }.get(decide(trend), "no dependence on mask quality is shown")
    gap = f"{signed(trend.value)} ({reach(trend)})"
    return f"Gain in the high third minus gain in the low third: {gap}; {said}."


def _looked(found: pd.DataFrame) -> Table | None:
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
    return Table(caption, columns, rows, "localisation.csv, from localisation.json of the runs")


def _ends(value: float | None, low: float | None, high: float | None) -> str:
    if low is None or high is None or not math.isfinite(low):
        return number(value, 2)
    return f"{number(value, 2)} ({span((low, high), 2)})"


def _subgroups(found: Comparison, parts: Sequence[Stratum]) -> Table:
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


def _shortcuts(analysis: Analysis) -> Table | None:
    run = analysis.collected.runs[0]
    facts = {
        name: found
        for name, found in (run.metrics or {}).get("shortcuts", {}).items()
        if found["images"]
    }
    if not facts:
        return None
    columns = ["disease", *(f"{words(name)} alone" for name in facts)]
    rows = [
        [words(name), *(number(found["auc"].get(name), 2) for found in facts.values())]
        for name in DISEASES
    ]
    return Table(
        "AUC of facts that are not in the lungs", columns, rows, f"{run.name}/metrics.json"
    )


def _calibration(analysis: Analysis) -> Table:
    columns = ["arm", "labels", "ECE", "scaled", "Brier", "scaled"]
    rows = []
    for arm in sorted(analysis.arms, key=lambda one: (-one.fraction, one.label)):
        found = calibration(arm)
        rows.append(
            [arm.label, percent(arm.fraction), *(number(value) for value in found.values())]
        )
    return Table("Means over diseases and seeds", columns, rows, "means.csv, from metrics.json")


def _runs(analysis: Analysis) -> Table:
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
