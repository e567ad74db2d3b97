"""PadChest as it is released: images in numbered folders, one table with lists of labels.

Source: Bustos et al., "PadChest: a large chest x-ray image dataset with multi-label annotated
reports", Medical Image Analysis 66, 2020.
"""

from __future__ import annotations

import ast
from collections import Counter
from functools import cached_property
from typing import Self

import numpy as np
import pandas as pd

from medsgssl.data.labels import LabelSet
from medsgssl.data.readers.base import DataFolder, Reader, SourceRows
from medsgssl.data.readers.columns import check_names, describe_images
from medsgssl.data.readers.patients import summarize_patients
from medsgssl.data.readers.scan import image_frame
from medsgssl.data.readers.text_table import TextTable, read_text_table
from medsgssl.errors import DataError
from medsgssl.runs.data_summary import LabelsSummary
from medsgssl.utils.io import file_hash

_REQUIRED = ("ImageID", "PatientID", "Labels")
_NORMAL = "normal"
# Remarks on an image or its report, and no findings.
_NO_FINDING = frozenset({_NORMAL, "exclude", "suboptimal study", "unchanged", ""})
# A label that is rarer than this has too few positives to be scored.
_LEAST = 0.001


class PadchestReader(Reader):
    """The PadChest layout: ``0/<image>.png`` ... ``54/<image>.png`` and its table.

    The classes are ``data.classes``, or every finding that at least one image in a thousand shows,
    the most frequent one first.
    """

    name = "padchest"
    rank = 20

    @classmethod
    def detect(cls, folder: DataFolder) -> Self | None:
        """Recognize the layout by its table."""
        anywhere = sorted([*folder.root.glob("*.csv"), *folder.root.glob("*.csv.gz")])
        tables = folder.tables_with(_REQUIRED, anywhere)
        return cls(folder, tables[:1]) if tables else None

    @cached_property
    def images(self) -> pd.DataFrame:
        """The image files by name."""
        chosen = [files[0] for files in self.folder.scan.by_name.values()]
        return image_frame(chosen, [file.path.rpartition("/")[2] for file in chosen])

    def rows(self) -> SourceRows:
        """Read the table.

        Raises:
            DataError: It is malformed; the message names the line.
        """
        table = read_text_table(self.inputs[0])
        table.require(_REQUIRED, "give the table as PadChest released it")
        names, patients = table.text["ImageID"], table.text["PatientID"]
        check_names(names, table)
        labels, label_set = _labels(table, self.folder.settings.classes)
        view_position = table.cells("Projection" if "Projection" in table.text.columns else None)
        text = table.text.assign(
            age=_ages(table),
            view_position=view_position.where(
                view_position != "", table.cells(table.column("view_position"))
            ),
        )
        described, column_summary = describe_images(
            TextTable(table.path, text, table.lines),
            {"age": "age", "sex": table.column("sex"), "view_position": "view_position"},
        )
        frame = self.image_columns(names, patients)
        summary: LabelsSummary = {
            "label_revision": "PadChest",
            "labels_file": self.inputs[0].name,
            "labels_hash": file_hash(self.inputs[0]),
            "patients": summarize_patients(
                patients, "the column PatientID", (names.iloc[-1], patients.iloc[-1])
            ),
            "columns": column_summary,
        }
        return SourceRows(pd.concat([frame, described, labels], axis=1), summary, label_set)


def _labels(table: TextTable, classes: tuple[str, ...]) -> tuple[pd.DataFrame, LabelSet]:
    parsed = [_names(table, row) for row in range(len(table.text))]
    counts = Counter(name for names in parsed for name in names if name not in _NO_FINDING)
    frequent = [name for name, count in counts.most_common() if count >= _LEAST * len(parsed)]
    chosen = classes or tuple(frequent)
    absent = [name for name in chosen if name not in counts]
    if absent or not chosen:
        raise DataError(
            f"{table.path} has no label {', '.join(absent) or 'at all'}",
            f"name some of: {', '.join(frequent[:20])}",
        )
    numbers = {name: index for index, name in enumerate(chosen)}
    values = np.zeros((len(parsed), len(chosen)), np.int8)
    for row, names in enumerate(parsed):
        for name in names & numbers.keys():
            values[row, numbers[name]] = 1
    frame = pd.DataFrame(values, columns=list(chosen)).astype("Int8")
    # Reports that were set aside by the publishers say nothing of any finding.
    frame[[("exclude" in names) for names in parsed]] = pd.NA
    unknown = bool(frame.isna().any(axis=None))
    return frame, LabelSet("padchest", chosen, unknown, negative=_NORMAL)


def _names(table: TextTable, row: int) -> set[str]:
    cell = table.text["Labels"].iloc[row]
    if cell in ("", "nan"):
        return {"exclude"}
    try:
        names = ast.literal_eval(cell)
        return {str(name).strip() for name in names}
    except (ValueError, SyntaxError, TypeError) as error:
        raise DataError(
            f"{table.where(row)}: {cell!r} is not a list like ['normal', 'pleural effusion']",
            "give the table as PadChest released it",
        ) from error


def _ages(table: TextTable) -> pd.Series:
    born = pd.to_numeric(table.cells("PatientBirth" if "PatientBirth" in table.text else None),
                         errors="coerce")  # fmt: skip
    day = table.cells("StudyDate_DICOM" if "StudyDate_DICOM" in table.text else None)
    years = pd.to_numeric(day.str[:4], errors="coerce") - born
    return years.map(lambda value: "" if np.isnan(value) else str(int(value))).astype("str")
