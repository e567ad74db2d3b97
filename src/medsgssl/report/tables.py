"""A table is defined once, columns and rows, and written as HTML, CSV, LaTeX and Markdown.

Cells hold values, not texts: the kind of a column says how its values are written. CSV files hold
full precision, and an estimate fills the columns ``x``, ``x_low`` and ``x_high`` there.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

import pandas as pd

from medsgssl.utils.formatting import (
    NONE,
    count,
    format_interval,
    number,
    percent,
    signed,
    signed_interval,
    words,
)
from medsgssl.utils.io import csv_text, write_text

Kind = Literal["text", "name", "count", "percent", "number", "signed", "p", "estimate", "change"]
#: Kinds of a number with an interval; the latter is of a difference, written with its sign.
_ESTIMATES = ("estimate", "change")
_LEFT = ("text", "name")


@runtime_checkable
class Estimate(Protocol):
    """A number with its interval."""

    @property
    def value(self) -> float | None:
        """The number; None where it is undefined."""

    @property
    def interval(self) -> tuple[float, float] | None:
        """Low and high end; None where no interval can be given."""


@dataclass(frozen=True)
class Measured:
    """A number with its interval, from a file."""

    value: float | None
    interval: tuple[float, float] | None = None

    @classmethod
    def of(cls, value: float | None, interval: Sequence[float] | None) -> Measured:
        """Take a number and the two ends of its interval."""
        return cls(value, None if interval is None else (interval[0], interval[1]))


Cell = str | int | float | Estimate | None
Row = Mapping[str, Cell]


@dataclass(frozen=True)
class Column:
    """One column.

    Attributes:
        key: Its name in rows and in CSV files.
        heading: Its name for people.
        kind: How its values are written.
        latex: Its heading in print; empty for a column that print leaves out.
        digits: Decimals of numbers.
        page: Whether pages show it; else it is in the CSV file alone.
    """

    key: str
    heading: str
    kind: Kind = "number"
    latex: str = ""
    digits: int = 3
    page: bool = True

    def text(self, cell: Cell) -> str:
        """Write a value for people."""
        if isinstance(cell, Estimate):
            change = self.kind == "change"
            text = (signed if change else number)(cell.value, self.digits)
            ends = (signed_interval if change else format_interval)(cell.interval, self.digits)
            return f"{text} ({ends})" if cell.interval and cell.value is not None else text
        if isinstance(cell, str):
            return words(cell) if self.kind == "name" else cell
        if _absent(cell):
            return NONE
        writers: dict[str, Callable[[float], str]] = {
            "count": count,
            "percent": percent,
            "p": p_text,
            "signed": functools.partial(signed, digits=self.digits),
        }
        plain = functools.partial(number, digits=self.digits)
        return writers.get(self.kind, plain)(float(cell or 0))

    def sort_value(self, cell: Cell) -> str:
        """Return what a page sorts by; empty where there is no value."""
        value = cell.value if isinstance(cell, Estimate) else cell
        if isinstance(value, str) and not self.left:
            return ""
        return "" if _absent(value) else str(value)

    @property
    def left(self) -> bool:
        """Whether its cells are aligned to the left."""
        return self.kind in _LEFT

    def latex_text(self, cell: Cell) -> str:
        """Write a value for print."""
        text = self.text(cell)
        if isinstance(cell, Estimate) and cell.interval and cell.value is not None:
            low, high = (number(end, self.digits) for end in cell.interval)
            text = f"{number(cell.value, self.digits)} [{low}, {high}]"
        return _latex(text)


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        name: Of its files, without suffix.
        caption: Its heading.
        columns: In their order; the first one names the row.
        rows: Values by the keys of the columns.
        source: The files its values come from.
        sortable: Whether a click on a heading sorts it.
        foot: Rows below the others, e.g. means; on pages alone.
        strong: Tells which rows stand out.
    """

    name: str
    caption: str
    columns: tuple[Column, ...]
    rows: Sequence[Row]
    source: str = ""
    sortable: bool = False
    foot: Sequence[Row] = ()
    strong: Callable[[Row], bool] = lambda row: False

    def __bool__(self) -> bool:
        return bool(self.rows)

    @property
    def page_columns(self) -> list[Column]:
        """The columns that a page shows."""
        return [column for column in self.columns if column.page]

    @property
    def has_head(self) -> bool:
        """Whether there are headings beside that of the first column."""
        return any(column.heading for column in self.page_columns[1:])

    def select(self, *keys: str, caption: str | None = None) -> Table:
        """Return the same rows with these columns alone."""
        by_key = {column.key: column for column in self.columns}
        columns = tuple(replace(by_key[key], page=True) for key in keys if key in by_key)
        return replace(self, columns=columns, caption=self.caption if caption is None else caption)

    def where(self, keep: Callable[[Row], bool], caption: str | None = None) -> Table:
        """Return the rows for which ``keep`` holds."""
        rows = [row for row in self.rows if keep(row)]
        return replace(self, rows=rows, caption=self.caption if caption is None else caption)

    def frame(self) -> pd.DataFrame:
        """Return every column with full precision, as CSV files hold it."""
        columns: dict[str, list[object]] = {}
        for column in self.columns:
            cells = [row.get(column.key) for row in self.rows]
            if column.kind in _ESTIMATES:
                pairs = [cell if isinstance(cell, Estimate) else None for cell in cells]
                columns[column.key] = [pair and pair.value for pair in pairs]
                for end, name in enumerate(("low", "high")):
                    columns[f"{column.key}_{name}"] = [
                        pair.interval[end] if pair and pair.interval else None for pair in pairs
                    ]
            else:
                columns[column.key] = list(cells)
        return pd.DataFrame(columns)

    def csv(self) -> str:
        """Return every column with full precision."""
        return csv_text(self.frame())

    def latex(self) -> str:
        """Return a booktabs ``tabular`` of the columns for print; empty where there are none."""
        columns = [column for column in self.columns if column.latex]
        if not columns:
            return ""
        lines = [
            r"\begin{tabular}{" + "".join("l" if c.left else "r" for c in columns) + "}",
            r"\toprule",
            " & ".join(column.latex for column in columns) + r" \\",
            r"\midrule",
        ]
        for row in self.rows:
            cells = [column.latex_text(row.get(column.key)) for column in columns]
            lines.append(" & ".join(cells) + r" \\")
        return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])

    def markdown(self) -> str:
        """Return the columns of the page as a Markdown table."""
        lines = [
            [column.heading for column in self.page_columns],
            ["---" if column.left else "--:" for column in self.page_columns],
        ]
        lines += [[c.text(row.get(c.key)) for c in self.page_columns] for row in self.rows]
        return "".join(f"| {' | '.join(c.replace('|', '/') for c in cells)} |\n" for cells in lines)


def text_table(
    caption: str, headings: Sequence[str], rows: Sequence[Sequence[str]], source: str = ""
) -> Table:
    """Return a table of texts."""
    columns = tuple(Column(str(n), heading, "text") for n, heading in enumerate(headings))
    cells = [{str(n): text for n, text in enumerate(row)} for row in rows]
    return Table("", caption, columns, cells, source)


def write_tables(tables: Sequence[Table], folder: Path) -> list[Path]:
    """Write each table that has rows as CSV and Markdown, those for print as LaTeX too."""
    written = []
    for table in tables:
        texts = {"csv": table.csv(), "md": table.markdown(), "tex": table.latex()}
        for suffix, text in texts.items():
            path = folder / f"{table.name}.{suffix}"
            if table and text:
                write_text(path, text)
                written.append(path)
            else:
                path.unlink(missing_ok=True)  # of an earlier report
    return written


def p_text(value: float | None) -> str:
    """Write a p value; very small ones only as such."""
    return "<\u202f0.001" if value is not None and value < 0.001 else number(value)


def _absent(value: object) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _latex(text: str) -> str:
    for sign in "&%#_$":
        text = text.replace(sign, f"\\{sign}")
    signs = {"\u202f": r"\,", "\N{MINUS SIGN}": "$-$", NONE: "--", "<": "$<$"}
    for sign, print_sign in signs.items():
        text = text.replace(sign, print_sign)
    return text
