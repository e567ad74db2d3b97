"""The tables of a study as data frames, CSV files and LaTeX."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from medsgssl.report.ablation import part_rows
from medsgssl.study.analysis import Analysis
from medsgssl.study.arms import calibration, decisions
from medsgssl.study.collect import FinishedRun
from medsgssl.study.comparisons import Comparison
from medsgssl.study.localize import LOCALIZATION_FILE, MEASURES
from medsgssl.study.statistics import Estimate, each
from medsgssl.study.strata import Stratum
from medsgssl.utils.io import read_json, write_text

Row = dict[str, Any]


def make_tables(analysis: Analysis) -> dict[str, pd.DataFrame]:
    """Return every table by name: ``means``, ``comparisons``, ``diseases``, ``subgroups``, ...

    An estimate fills the columns ``x``, ``x_low`` and ``x_high``; absent numbers are NaN.
    """
    return {
        "means": pd.DataFrame(_means(analysis)),
        "comparisons": pd.DataFrame(_comparisons(analysis)),
        "diseases": pd.DataFrame(_diseases(analysis)),
        "subgroups": pd.DataFrame(
            [
                _stratum(found, part)
                for found, parts in analysis.subgroups
                for part in parts
            ]
        ),
        "mask_quality": pd.DataFrame(
            [
                _stratum(found, part)
                for found, quality in analysis.quality
                for part in quality.strata
            ]
        ),
        "parts": pd.DataFrame(part_rows(analysis)),
        "localization": pd.DataFrame(_localization(analysis)),
        "runs": pd.DataFrame(_runs(analysis)),
    }  # fmt: skip


def write_tables(tables: dict[str, pd.DataFrame], folder: Path) -> list[Path]:
    """Write each table that has rows as CSV, and those for print as LaTeX (booktabs)."""
    written = []
    for name, table in tables.items():
        if table.empty:
            continue
        written.append(folder / f"{name}.csv")
        write_text(written[-1], table.to_csv(index=False))
        if name in LATEX:
            written.append(folder / f"{name}.tex")
            write_text(written[-1], latex(table, LATEX[name]))
    return written


def _means(analysis: Analysis) -> list[Row]:
    rows = []
    for arm in analysis.arms:
        found = analysis.means[arm.key]
        rows.append(
            {
                "arm": arm.label,
                "labels": arm.fraction,
                "seeds": len(arm.runs),
                **found["auc"].columns("auc"),
                "auc_sd": found["auc"].sd,
                **found["auc_20"].columns("auc_20"),
                **found["ap"].columns("ap"),
                "ap_sd": found["ap"].sd,
                **calibration(arm),
                **decisions(arm),
                "runs": " ".join(run.name for run in arm.runs),
            }
        )
    return rows


def _sides(found: Comparison) -> Row:
    return {
        "kind": found.kind,
        "arm": found.arm.label,
        "against": found.against.label,
        "labels": found.arm.fraction,
    }


def _comparisons(analysis: Analysis) -> list[Row]:
    judged = {id(part.comparison): part for verdict in analysis.verdicts for part in verdict.parts}
    rows = []
    for found in analysis.comparisons:
        verdict = judged.get(id(found))
        rows.append(
            {
                **_sides(found),
                **found.mean.columns("difference"),
                "p": found.mean.p,
                "p_holm": None if verdict is None else verdict.p_holm,
                "verdict": "" if verdict is None else verdict.word,
                **found.mean_20.columns("difference_20"),
                **found.mean_ap.columns("difference_ap"),
                "seeds_in_interval": found.mean.seeds_included,
                "differs_in": "; ".join(found.unlike),
            }
        )
    return rows


def _diseases(analysis: Analysis) -> list[Row]:
    bench = analysis.bench
    positives = bench.test.positives()
    rows = []
    for found in analysis.comparisons:
        for d, name in enumerate(bench.test.names):
            pair = found.diseases[name]
            rows.append(
                {
                    **_sides(found),
                    "disease": name,
                    "positives": int(positives[d]),
                    **_auc(analysis, found, d).columns("auc"),
                    "auc_against": _value([run.auc[d] for run in found.against.drawn]),
                    **pair.difference.columns("difference"),
                    "p": pair.difference.p,
                    "p_holm": pair.holm,
                    "p_delong_by_seed": " ".join(f"{s}:{p:.4g}" for s, p in pair.delong.items()),
                    **_ap(analysis, found, d).columns("ap"),
                    "ap_against": _value([run.ap[d] for run in found.against.drawn]),
                    **pair.ap.columns("ap_difference"),
                    "note": pair.note,
                }
            )
    return rows


def _auc(analysis: Analysis, found: Comparison, d: int) -> Estimate:
    return analysis.bench.estimate(each(found.arm.drawn, lambda run: run.disease_auc(d)))


def _ap(analysis: Analysis, found: Comparison, d: int) -> Estimate:
    return analysis.bench.estimate(each(found.arm.drawn, lambda run: run.disease_ap(d)))


def _value(values: list[float]) -> float:
    return float(sum(values) / len(values))


def _stratum(found: Comparison, part: Stratum) -> Row:
    return {
        **_sides(found),
        "of": part.kind,
        "group": part.name,
        "images": part.images,
        "patients": part.patients,
        "diseases": part.diseases,
        **part.own.columns("auc"),
        "auc_against": part.other.value,
        **part.difference.columns("difference"),
        "p": part.difference.p,
    }


def _localization(analysis: Analysis) -> list[Row]:
    """Average where the runs of each arm look; arms of which none was scored are left out."""
    rows = []
    for arm in analysis.arms:
        paths = [run.folder.path / LOCALIZATION_FILE for run in arm.runs]
        found = [read_json(path) for path in paths if path.is_file()]
        if not found:
            continue
        row: Row = {"arm": arm.label, "labels": arm.fraction, "runs": len(found)}
        row |= {"boxes": found[0]["boxes"], "patients": found[0]["patients"]}
        row |= {"grid": " x ".join(map(str, found[0]["grid"]))}
        for name in MEASURES:
            values = [one["measures"][name]["value"] for one in found]
            known = [value for value in values if value is not None]
            ends = found[0]["measures"][name]["interval"] if len(found) == 1 else None
            mean = _value(known) if known else None
            row |= Estimate(mean, tuple(ends) if ends else None).columns(name)
        rows.append(row)
    return rows


def _runs(analysis: Analysis) -> list[Row]:
    head = analysis.bench.headline
    return [
        {
            "run": run.name,
            "folder": str(run.folder.path),
            "arm": arm.label,
            "labels": arm.fraction,
            "seed": run.seed,
            "auc": drawn.mean_auc(head)[0],
            "ap": drawn.mean_ap(head)[0],
            "validation_auc": _validation_auc(run),
        }
        for arm in analysis.arms
        for run, drawn in zip(arm.runs, arm.drawn, strict=True)
    ]


def _validation_auc(run: FinishedRun) -> float | None:
    validation = run.metrics["validation"] if run.metrics else None
    return validation["mean_auc"] if validation else None


#: Columns of each table that go into LaTeX: header, and the columns of the frame behind it.
LATEX: dict[str, dict[str, str]] = {
    "means": {
        "arm": "Method", "labels": "Labels", "seeds": "Seeds", "auc": "AUC", "ap": "AP",
        "ece_calibrated": "ECE", "brier_calibrated": "Brier",
    },
    "comparisons": {
        "arm": "Method", "against": "Against", "labels": "Labels",
        "difference": "Difference in AUC", "p": "$p$", "p_holm": "$p$ (Holm)",
    },
    "diseases": {
        "arm": "Method", "labels": "Labels", "disease": "Disease", "positives": "Positives",
        "auc": "AUC", "difference": "Difference", "p": "$p$", "p_holm": "$p$ (Holm)",
    },
    "parts": {
        "method": "Method", "labels": "Labels", "without": "Without", "auc": "AUC",
        "difference": "Lost", "p": "$p$", "p_holm": "$p$ (Holm)",
    },
    "subgroups": {
        "arm": "Method", "labels": "Labels", "group": "Group", "images": "Images",
        "auc": "AUC", "difference": "Difference",
    },
    "mask_quality": {
        "arm": "Method", "labels": "Labels", "group": "Quality", "images": "Images",
        "auc": "AUC", "difference": "Difference",
    },
}  # fmt: skip


def latex(table: pd.DataFrame, columns: dict[str, str]) -> str:
    """Return a booktabs ``tabular``; estimates get their interval in brackets."""
    lines = [
        r"\begin{tabular}{" + "l" + "r" * (len(columns) - 1) + "}",
        r"\toprule",
        " & ".join(columns.values()) + r" \\",
        r"\midrule",
    ]
    for row in table.to_dict("records"):
        cells = [_cell(row, name) for name in columns]
        lines.append(" & ".join(cells) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def _cell(row: dict[Any, Any], name: str) -> str:
    value = row[name]
    if isinstance(value, str):
        return _escape(value)
    if value is None or pd.isna(value):
        return "--"
    if name == "labels":
        return rf"{100 * value:g}\,\%"
    if name in ("p", "p_holm"):
        return "$<$0.001" if value < 0.001 else f"{value:.3f}"
    text = str(value) if isinstance(value, int) else _number(value)
    ends = [row.get(f"{name}_{end}") for end in ("low", "high")]
    known = [_number(end) for end in ends if end is not None and not pd.isna(end)]
    return f"{text} [{', '.join(known)}]" if known else text


def _number(value: float) -> str:
    return f"{value:.3f}" if value >= 0 else f"$-${-value:.3f}"


def _escape(text: str) -> str:
    for sign in "&%#_$":
        text = text.replace(sign, f"\\{sign}")
    return text
