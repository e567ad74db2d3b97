"""Columns of text as typed columns: labels, ages, sex, view position."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from medsgssl.config.schema import UncertainLabels
from medsgssl.data.labels import LabelSet
from medsgssl.data.readers.base import is_plain_name
from medsgssl.data.readers.text_table import TextTable, list_some
from medsgssl.errors import DataError
from medsgssl.runs.data_summary import ColumnSummary

OLDEST = 120
_VIEW_POSITIONS = {
    "PA": "PA", "AP": "AP", "AP_HORIZONTAL": "AP", "AP SUPINE": "AP", "FRONTAL": "",
    "LATERAL": "LATERAL", "LL": "LATERAL", "L": "LATERAL", "LAT": "LATERAL",
}  # fmt: skip
_PER_YEAR = {"": 1.0, "Y": 1.0, "M": 12.0, "W": 52.18, "D": 365.25}

#: Values of a 0/1 column; NaN is an unknown label, -1 an uncertain one.
_LABEL_VALUES = {
    "0": 0.0, "0.0": 0.0, "false": 0.0, "no": 0.0, "1": 1.0, "1.0": 1.0, "true": 1.0, "yes": 1.0,
    "-1": -1.0, "-1.0": -1.0, "uncertain": -1.0, "u": -1.0,
    "": np.nan, "nan": np.nan, "na": np.nan, "n/a": np.nan, "unknown": np.nan, "?": np.nan,
}  # fmt: skip


def joined_labels(labels: pd.Series, label_set: LabelSet, table: TextTable) -> pd.DataFrame:
    """Turn ``A|B`` strings into binary columns, matching names exactly.

    Args:
        labels: Text, ``N`` rows.
        label_set: The known names.
        table: The table, for messages.

    Returns:
        ``Int8`` frame, ``N x D``, 0 or 1, in the order of the label set.

    Raises:
        DataError: A label is unknown, or the negative one stands beside another one.
    """
    codes, spellings = pd.factorize(labels)
    vectors = np.zeros((len(spellings), len(label_set)), np.int8)
    negative = label_set.negative
    known = {name: column for column, name in enumerate(label_set.names)}
    for row, spelling in enumerate(spellings):
        names = str(spelling).split("|")
        where = table.where(int(np.argmax(codes == row)))
        if negative in names and len(names) > 1:
            raise DataError(
                f"{where}: {spelling!r} is both a finding and none",
                f"remove {negative!r} or the diseases from that line",
            )
        for name in names:
            if name != negative and name not in known:
                raise DataError(
                    f"{where}: unknown label {name!r}",
                    f"write one of: {list_some((*label_set.names, negative), 20)}",
                )
            if name in known:
                vectors[row, known[name]] = 1
    return pd.DataFrame(vectors[codes], columns=list(label_set.names), index=labels.index).astype(
        "Int8"
    )


def label_values(cells: pd.Series) -> NDArray[np.float64]:
    """Return the values of a 0/1 column: 0, 1, -1 (uncertain), NaN (blank), inf (no label)."""
    codes, spellings = pd.factorize(cells.str.lower())
    values = [_LABEL_VALUES.get(str(spelling), np.inf) for spelling in spellings]
    return np.asarray(np.array(values, np.float64)[codes])


def binary_labels(
    table: TextTable,
    names: Sequence[str],
    uncertain: UncertainLabels,
    *,
    blank: float = np.nan,
) -> pd.DataFrame:
    """Read 0/1 columns.

    Args:
        table: The table.
        names: Its columns that hold labels.
        uncertain: What becomes of -1 and "uncertain": unknown, 0 or 1.
        blank: What a blank cell means; NaN is unknown.

    Returns:
        ``Int8`` frame, ``N x D``: 0, 1 or missing.

    Raises:
        DataError: A cell holds something else.
    """
    replacement = {"ignore": np.nan, "zeros": 0.0, "ones": 1.0}[uncertain]
    columns = {}
    for name in names:
        values = label_values(table.text[name])
        bad = np.isinf(values)
        if bad.any():
            row = int(np.argmax(bad))
            raise DataError(
                f"{table.where(row)}: {table.text[name].iloc[row]!r} in the column {name!r} is "
                "not a label",
                "write 0, 1, or leave the cell blank (or -1, uncertain) where it is unknown; or "
                "name the label columns with data.classes",
            )
        values = np.where(np.isnan(values), blank, values)
        values = np.where(values == -1, replacement, values)
        columns[name] = pd.array(values, dtype="Float64").astype("Int8")
        columns[name][np.isnan(values)] = pd.NA
    return pd.DataFrame(columns, index=table.text.index)


def describe_images(
    table: TextTable, columns: Mapping[str, str | None], not_used: Sequence[str] = ()
) -> tuple[pd.DataFrame, ColumnSummary]:
    """Read age, sex, view position and follow-up number, and say what was understood.

    Args:
        table: The table.
        columns: Its column for ``age``, ``sex``, ``view_position`` and ``follow_up``; None where
            there is none; further ones are only listed.
        not_used: Columns that nothing was read from.
    """
    ages, ages_lost = age_column(table.cells(columns.get("age")))
    described = pd.DataFrame(
        {
            "age": ages,
            "sex": sex_column(table.cells(columns.get("sex"))),
            "view_position": view_position_column(table.cells(columns.get("view_position"))),
            "follow_up": small_integers(table.cells(columns.get("follow_up"))),
        }
    )
    lost = {"age": ages_lost}
    for kind in ("sex", "view_position"):
        given = table.cells(columns.get(kind)).str.strip() != ""
        lost[kind] = int((given & (described[kind] == "") & ~_frontal(table, columns, kind)).sum())
    return described, {
        "found": {kind: name for kind, name in columns.items() if name},
        "absent": [kind for kind in ("age", "sex", "view_position") if not columns.get(kind)],
        "not_understood": {kind: count for kind, count in lost.items() if count},
        "not_used": list(not_used),
    }


def _frontal(table: TextTable, columns: Mapping[str, str | None], kind: str) -> pd.Series:
    return table.cells(columns.get(kind)).str.upper().isin(["FRONTAL"]) & (kind == "view_position")


def age_column(ages: pd.Series) -> tuple[pd.Series, int]:
    """Turn ages as text into years: ``58``, ``58.5``, ``058Y``, ``009M`` (under one year: 0).

    Args:
        ages: Text, ``N`` rows.

    Returns:
        Nullable ``Int16`` years, 0 to 120, and how many values were given but set missing, because
        they are above 120 or no age.
    """
    text = ages.astype("str").str.strip()
    parts = text.str.extract(r"^([0-9]{1,4}(?:\.[0-9]*)?)([YMWD]?)$")
    years = pd.to_numeric(parts[0]) / parts[1].map(_PER_YEAR)
    kept = years.where(years <= OLDEST)
    lost = int((kept.isna() & (text != "")).sum())
    return pd.Series(np.floor(kept.to_numpy(float)), index=ages.index).astype("Int16"), lost


def code_column(values: pd.Series, codes: Mapping[str, str]) -> pd.Series:
    """Map the known codes of a text column, and everything else to ``""``."""
    return values.astype("str").str.strip().str.upper().map(dict(codes)).fillna("").astype("str")


def sex_column(values: pd.Series) -> pd.Series:
    """Return ``M``, ``F`` or ``""``."""
    return code_column(values, {"M": "M", "F": "F", "MALE": "M", "FEMALE": "F"})


def view_position_column(values: pd.Series) -> pd.Series:
    """Return ``PA``, ``AP``, ``LATERAL`` or ``""``."""
    return code_column(values, _VIEW_POSITIONS)


def small_integers(values: pd.Series) -> pd.Series:
    """Return nullable ``Int16``; what is no number from 0 to 32767 is missing."""
    numbers = pd.to_numeric(values, errors="coerce")
    return numbers.where(numbers.between(0, 32767)).round().astype("Int16")


def check_names(names: pd.Series, table: TextTable, *, plain: bool = True) -> None:
    """Check that image names are unique and stay inside the data folder.

    Raises:
        DataError: A name is empty, holds a folder or ``..``, or occurs twice.
    """
    if plain:
        good: NDArray[np.bool_] = np.array([is_plain_name(name) for name in names], dtype=bool)
        if not good.all():
            row = int(np.argmin(good))
            raise DataError(
                f"{table.where(row)}: {names.iloc[row]!r} is not a plain file name",
                "write file names without folders; images may not lie outside the data folder",
            )
    twice = names.duplicated().to_numpy()
    if twice.any():
        row = int(np.argmax(twice))
        raise DataError(
            f"{table.where(row)}: {names.iloc[row]!r} occurs a second time",
            "keep one line per image",
        )


def label_table_columns(table: TextTable, taken: Sequence[str]) -> tuple[list[str], list[str]]:
    """Tell which columns of a plain table hold labels.

    Args:
        table: The table.
        taken: Columns with another meaning.

    Returns:
        The columns with nothing but labels in them, and those that nothing is read from.

    Raises:
        DataError: Most cells of a column are labels and some are not.
    """
    labels, rest = [], []
    for name in table.text.columns:
        if name in taken:
            continue
        values = label_values(table.text[name])
        given = ~np.isnan(values)
        good = given & ~np.isinf(values)
        if good.any() and not (given & ~good).any():
            labels.append(str(name))
            continue
        if good.sum() > 0.9 * given.sum():
            row = int(np.argmax(given & ~good))
            raise DataError(
                f"{table.where(row)}: {table.text[name].iloc[row]!r} in the column {name!r} is "
                "not a label",
                "write 0, 1, or leave the cell blank where it is unknown; or name the label "
                f"columns with data.classes (this table has {list_some(table.text.columns)})",
            )
        rest.append(str(name))
    return labels, rest
