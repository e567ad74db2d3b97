"""Label tables as text: every cell a string, every row with its line number in the file."""

from __future__ import annotations

import csv
import gzip
import io
import itertools
import re
from collections.abc import Iterable, Iterator, Mapping
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
_SEPARATOR_LINE = re.compile(r'"?sep=."?\s*$')
_LINE_END = re.compile(r"\s*[\r\n]\s*")
_NO_TEXT = {
    b"PK\x03\x04": "an Excel workbook", b"\xd0\xcf\x11\xe0": "an old Excel workbook",
    b"\xff\xfe": "in UTF-16", b"\xfe\xff": "in UTF-16",
}  # fmt: skip


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
    """Return the cells of a table's first row; empty where it cannot be read as text."""
    try:
        with _open(path) as stream:
            return _Rows(stream, path).header
    except (OSError, UnicodeDecodeError, EOFError, csv.Error):
        return []


def read_text_table(path: Path, positions: Mapping[str, int] | None = None) -> TextTable:
    """Read a CSV file (UTF-8, also gzip).

    Args:
        path: The file.
        positions: Columns to take and where they stand; by default all of the header.

    Raises:
        DataError: It cannot be read, has no rows, is separated by something else than commas,
            leaves a quote open, or a row has more cells than the header.
    """
    try:
        with _open(path) as stream:
            table = _Rows(stream, path)
            header, (rows, lines) = table.header, table.rest()
    except UnicodeDecodeError:
        raise _not_utf8(path) from None
    except (OSError, EOFError, csv.Error) as error:
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


def _not_utf8(path: Path) -> DataError:
    """Return the error for a table that is no UTF-8: what it is, and where that shows."""
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
        content = stream.read()
    fix = 'save it as CSV in UTF-8 (in Excel: "CSV UTF-8")'
    for start, name in _NO_TEXT.items():
        if content.startswith(start):
            return DataError(f"{path} is {name}, not a CSV file in UTF-8", fix)
    for number, line in enumerate(content.splitlines(), 1):
        try:
            line.decode()
        except UnicodeDecodeError as error:
            there = line[max(0, error.start - 20) : error.start + 20].decode("cp1252", "replace")
            return DataError(
                f"{path}, line {number} is not UTF-8; as Windows-1252 it reads {there!r}",
                f"{fix}, or convert it: iconv -f WINDOWS-1252 -t UTF-8",
            )
    return DataError(f"{path} is not a CSV file in UTF-8", fix)


class _Rows:
    """The rows of an open table.

    Attributes:
        header: The cells of the first row.
    """

    def __init__(self, stream: io.TextIOBase, path: Path) -> None:
        self._path, self._stream = path, stream
        self._skipped, self._read_lines = 0, list[str]()
        line = stream.readline()
        # Excel takes the separator from such a line.
        while line and (not line.strip() or _SEPARATOR_LINE.match(line)):
            line, self._skipped = stream.readline(), self._skipped + 1
        tabs = path.name.removesuffix(".gz").endswith((".tsv", ".tab"))
        self._delimiter = "\t" if tabs else ","
        self._reader = csv.reader(self._lines(line), delimiter=self._delimiter)
        self.header = [_LINE_END.sub(" ", cell.strip()) for cell in next(self._reader, [])]
        self._check_quotes()
        if len(self.header) == 1 and not tabs:
            for separator, name in _SEPARATORS.items():
                if separator in line:
                    raise DataError(
                        f"{path} separates its columns by {name}, not by commas",
                        "save it as CSV with commas between the columns",
                    )

    def rest(self) -> tuple[list[list[str]], list[int]]:
        """Return the rows below the header that are not blank, and the line where each ends."""
        rows, lines = [], []
        try:
            for row in self._reader:
                self._check_quotes()
                if any(cell.strip() for cell in row):
                    rows.append(row)
                    lines.append(self._skipped + self._reader.line_num)
        except csv.Error:
            self._check_quotes()  # a cell too large is a quote left open in a large table
            raise
        return rows, lines

    def _lines(self, first: str) -> Iterator[str]:
        for line in itertools.chain([first] if first else [], self._stream):
            self._read_lines.append(line)
            yield line

    def _check_quotes(self) -> None:
        """Check a row of several lines: a quote that is never closed makes one row of many."""
        lines, self._read_lines = self._read_lines, []
        if len(lines) == 1:
            return
        try:
            list(csv.reader(lines, delimiter=self._delimiter, strict=True))
        except csv.Error:
            first = self._skipped + self._reader.line_num - len(lines) + 1
            raise DataError(
                f"{self._path}, line {first}: a quote is opened and not closed before line "
                f"{first + len(lines) - 1}",
                "close it, or remove it",
            ) from None


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
