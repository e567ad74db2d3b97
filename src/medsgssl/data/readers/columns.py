"""Columns of text as typed columns: labels, ages, sex, view; vectorized over the whole table."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from medsgssl.data.labels import LabelSet
from medsgssl.data.readers.base import is_plain_name
from medsgssl.errors import DataError

OLDEST = 120
_VIEWS = {"PA": "PA", "AP": "AP", "LATERAL": "LATERAL", "LL": "LATERAL", "L": "LATERAL"}
_PER_YEAR = {"": 1.0, "Y": 1.0, "M": 12.0, "W": 52.18, "D": 365.25}


def label_columns(
    labels: pd.Series, label_set: LabelSet, path: Path, first_line: int = 2
) -> pd.DataFrame:
    """Turn ``A|B`` strings into binary columns, matching names exactly.

    Args:
        labels: Text, ``N`` rows.
        label_set: The known names.
        path: The table's file, for messages.
        first_line: Line number of the first row, for messages.

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
        line = first_line + int(np.argmax(codes == row))
        if negative in names and len(names) > 1:
            raise DataError(
                f"{path}, line {line}: {spelling!r} is both a finding and none",
                f"remove {negative!r} or the diseases from that line",
            )
        for name in names:
            if name != negative and name not in known:
                raise DataError(
                    f"{path}, line {line}: unknown label {name!r}",
                    f"write one of: {', '.join((*label_set.names, negative))}",
                )
            if name in known:
                vectors[row, known[name]] = 1
    return pd.DataFrame(vectors[codes], columns=list(label_set.names), index=labels.index).astype(
        "Int8"
    )


def age_column(ages: pd.Series) -> tuple[pd.Series, int]:
    """Turn ages as text into years: ``58``, ``058Y``, ``009M`` (under one year: 0).

    Args:
        ages: Text, ``N`` rows.

    Returns:
        Nullable ``Int16`` years, 0 to 120, and how many values were given but set missing, because
        they are above 120 or no age.
    """
    text = ages.astype("str").str.strip()
    parts = text.str.extract(r"^(\d{1,4})(?:\.0*)?([YMWD]?)$")
    years = pd.to_numeric(parts[0]) / parts[1].map(_PER_YEAR)
    kept = years.where(years <= OLDEST)
    lost = int((kept.isna() & (text != "")).sum())
    return pd.Series(np.floor(kept.to_numpy(float)), index=ages.index).astype("Int16"), lost


def code_column(values: pd.Series, codes: dict[str, str]) -> pd.Series:
    """Map the known codes of a text column, and everything else to ``""``."""
    return values.astype("str").str.strip().str.upper().map(codes).fillna("").astype("str")


def sex_column(values: pd.Series) -> pd.Series:
    """Return ``M``, ``F`` or ``""``."""
    return code_column(values, {"M": "M", "F": "F", "MALE": "M", "FEMALE": "F"})


def view_column(values: pd.Series) -> pd.Series:
    """Return ``PA``, ``AP``, ``LATERAL`` or ``""``."""
    return code_column(values, _VIEWS)


def small_integers(values: pd.Series) -> pd.Series:
    """Return nullable ``Int16``; what is no number from 0 to 32767 is missing."""
    numbers = pd.to_numeric(values, errors="coerce")
    return numbers.where(numbers.between(0, 32767)).round().astype("Int16")


def check_names(names: pd.Series, path: Path, first_line: int = 2) -> None:
    """Check that image names are unique and stay inside the data folder.

    Raises:
        DataError: A name is empty, holds a folder or ``..``, or occurs twice.
    """
    plain: NDArray[np.bool_] = np.array([is_plain_name(name) for name in names], dtype=bool)
    if not plain.all():
        row = int(np.argmin(plain))
        raise DataError(
            f"{path}, line {first_line + row}: {names.iloc[row]!r} is not a plain file name",
            "write file names without folders; images may not lie outside the data folder",
        )
    twice = names.duplicated().to_numpy()
    if twice.any():
        row = int(np.argmax(twice))
        raise DataError(
            f"{path}, line {first_line + row}: {names.iloc[row]!r} occurs a second time",
            "keep one line per image",
        )
