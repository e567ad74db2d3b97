"""Label tables as text: every cell a string, every row with its line number in the file."""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from medsgssl.errors import DataError

#: Names of columns that describe an image, in any spelling of the field; compared by ``_plain``.
KNOWN_COLUMNS: dict[str, tuple[str, ...]] = {
    "image": (
        "image", "image index", "image id", "image name", "image file", "filename", "file name",
        "file", "path", "image path", "file path", "img",
    ),
    "patient": ("patient", "patient id", "subject", "subject id", "person", "person id"),
    "age": ("patient age", "age", "patient age years", "age years"),
    "sex": ("patient gender", "patient sex", "sex", "gender", "patient sex dicom"),
    "view_position": (
        "view position", "view", "projection", "view position dicom", "frontal lateral",
    ),
    "follow_up": ("follow up #", "follow up", "follow up number"),
    "split": ("split", "subset", "partition"),
}  # fmt: skip
_SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "bars"}


@dataclass(frozen=True)
class TextTable:
    """A table as it stands in its file.

    Attributes:
        path: The file.
        text: Every cell as text without spaces around it, ``""`` where there is none.
        lines: (N,) line number of each row, counted from 1, blank lines included.
    """

    path: Path
    text: pd.DataFrame
    lines: NDArray[np.int64]

    def where(self, row: int) -> str:
        """Return file and line of a row, for messages."""
        return f"{self.path}, line {self.lines[row]}"

    def column(self, kind: str) -> str | None:
        """Return the name that a column of ``KNOWN_COLUMNS`` has here."""
        present = {_joined(name): name for name in reversed(list(self.text.columns))}
        known = map(_joined, KNOWN_COLUMNS[kind])
        return next((present[name] for name in known if name in present), None)

    def cells(self, column: str | None) -> pd.Series:
        """Return a column; blank cells where there is none."""
        if column is None:
            return pd.Series("", index=self.text.index, dtype="str")
        return self.text[column].astype("str")

    def require(self, columns: Iterable[str], what: str) -> None:
        """Check that columns are there.

        Raises:
            DataError: One is missing.
        """
        for name in columns:
            if name not in self.text.columns:
                raise DataError(
                    f"{self.path} has no column {name!r}; it has {list_some(self.text.columns)}",
                    what,
                )


def list_some(names: Iterable[str], most: int = 12) -> str:
    """Return names as a list for a message, a few of many."""
    every = list(names)
    return ", ".join(every[:most]) + (", ..." if len(every) > most else "")


def read_header(path: Path) -> list[str]:
    """Return the cells of a table's first line; empty where it cannot be read as text."""
    try:
        with _open(path) as stream:
            return _header(stream, path)[0]
    except (OSError, UnicodeDecodeError, EOFError, csv.Error):
        return []


def read_text_table(path: Path, positions: Mapping[str, int] | None = None) -> TextTable:
    """Read a CSV file (UTF-8, also gzip).

    Args:
        path: The file.
        positions: Columns to take and where they stand; by default all of the header.

    Raises:
        DataError: It cannot be read, has no rows, is separated by something else than commas, or
            a row has more cells than the header.
    """
    try:
        with _open(path) as stream:
            header, delimiter, before = _header(stream, path)
            rows, lines = _rows(stream, delimiter, before)
    except (OSError, UnicodeDecodeError, EOFError, csv.Error) as error:
        raise DataError(
            f"{path} cannot be read as a table: {error}", "give a CSV file in UTF-8"
        ) from error
    if not rows:
        raise DataError(f"{path} has no rows", "fetch the label table again")
    if positions is None:
        for row, line in zip(rows, lines, strict=True):
            if any(row[len(header) :]):
                raise DataError(
                    f"{path}, line {line}: {len(row)} cells under {len(header)} columns",
                    "quote cells that hold commas",
                )
        positions = {name: index for index, name in enumerate(header) if name}
        repeated = [name for name in positions if header.count(name) > 1]
        if repeated:
            raise DataError(f"{path} has the column {repeated[0]!r} twice", "rename one of them")
    text = pd.DataFrame(
        {
            name: pd.Series(
                [row[index].strip() if index < len(row) else "" for row in rows], dtype="str"
            )
            for name, index in positions.items()
        }
    )
    return TextTable(path, text, np.array(lines, np.int64))


def _open(path: Path) -> io.TextIOBase:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8-sig", newline="")
    return path.open(encoding="utf-8-sig", newline="")


def _header(stream: io.TextIOBase, path: Path) -> tuple[list[str], str, int]:
    """Return the cells of the header, the separator, and how many lines were read."""
    line, count = stream.readline(), 1
    while line and not line.strip():
        line, count = stream.readline(), count + 1
    tabs = path.name.removesuffix(".gz").endswith((".tsv", ".tab"))
    delimiter = "\t" if tabs else ","
    cells = next(csv.reader([line], delimiter=delimiter), [])
    if len(cells) == 1 and not tabs:
        for separator, name in _SEPARATORS.items():
            if separator in line:
                raise DataError(
                    f"{path} separates its columns by {name}, not by commas",
                    "save it as CSV with commas between the columns",
                )
    return [cell.strip() for cell in cells], delimiter, count


def _rows(stream: io.TextIOBase, delimiter: str, before: int) -> tuple[list[list[str]], list[int]]:
    rows, lines = [], []
    reader = csv.reader(stream, delimiter=delimiter)
    for row in reader:
        if any(cell.strip() for cell in row):
            rows.append(row)
            lines.append(before + reader.line_num)
    return rows, lines


def _joined(name: str) -> str:
    """Return a name as ``_plain`` does and without spaces: ``patientid`` is ``Patient ID``."""
    return _plain(name).replace(" ", "")


def _plain(name: str) -> str:
    """Return a column's name in lower case with single spaces, ``PatientSex`` as two words."""
    words = []
    for index, char in enumerate(name):
        if char.isupper() and index and name[index - 1].islower():
            words.append(" ")
        words.append(char if char.isalnum() or char == "#" else " ")
    return " ".join("".join(words).lower().split())
