"""Tables of a comparison for print: LaTeX with booktabs."""

from __future__ import annotations

from typing import Any

import pandas as pd

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
