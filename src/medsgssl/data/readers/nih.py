"""NIH ChestX-ray14 as it is released: folders of PNGs, one table, two lists.

Source: Wang et al., "ChestX-ray8: hospital-scale chest X-ray database and benchmarks on
weakly-supervised classification and localization of common thorax diseases", CVPR 2017.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Self

import pandas as pd

from medsgssl.data.labels import NIH
from medsgssl.data.readers.base import DataFolder, ListFile, Reader, SourceRows, read_list
from medsgssl.data.readers.columns import check_names, describe_images, joined_labels
from medsgssl.data.readers.patients import summarize_patients
from medsgssl.data.readers.scan import image_frame
from medsgssl.data.readers.text_table import TextTable, read_header, read_text_table
from medsgssl.errors import DataError
from medsgssl.runs.data_summary import LabelsSummary
from medsgssl.utils.io import file_hash

REVISIONS = {"Data_Entry_2017.csv": "2017", "Data_Entry_2017_v2020.csv": "v2020"}
"""Label tables by file name, the preferred one first: published figures stand on 2017."""

TRAINVAL_LIST, TEST_LIST = "train_val_list.txt", "test_list.txt"
_REQUIRED = ("Image Index", "Finding Labels", "Patient ID")


class NihReader(Reader):
    """The NIH layout: images by name, wherever they lie below the data folder.

    Where both revisions of the labels are there and none is asked for, the 2017 one is taken; which
    one it was is recorded as ``label_revision``, decided by the file name. Also the table of
    Kaggle's sample, where ``data.labels`` names it or it is there alone.
    """

    name = "nih"
    rank = 10

    @classmethod
    def detect(cls, folder: DataFolder) -> Self | None:
        """Recognize the layout by its label table.

        Raises:
            DataError: Parts of the release are there without a label table.
        """
        table = folder.table
        if table is not None:
            if not set(_REQUIRED[:2]) <= set(folder.header):
                return None
        else:
            table = folder.file(*REVISIONS, "sample_labels.csv")
            if table is None:
                _require_no_lists(folder)
                return None
        lists = (folder.file(TRAINVAL_LIST), folder.file(TEST_LIST))
        return cls(folder, (table, *(path for path in lists if path is not None)))

    @property
    def labels(self) -> Path:
        """The label table."""
        return self.inputs[0]

    @cached_property
    def images(self) -> pd.DataFrame:
        """The image files by name; of files of one name that in the release's own folders."""
        chosen = []
        for files in self.folder.scan.by_name.values():
            released = [file for file in files if file.path.startswith("images")]
            # "images" before "images_001", as the copies that hold both mean it.
            chosen.append(
                min(released or files, key=lambda file: (file.path.count("/"), file.path))
            )
        return image_frame(chosen, [file.path.rpartition("/")[2] for file in chosen])

    def rows(self) -> SourceRows:
        """Read the label table and the lists.

        Raises:
            DataError: A table or list is malformed; the message names the line.
        """
        table = _read(self.labels)
        names = table.text["Image Index"]
        check_names(names, table)
        patients = _patients(table)
        columns = {
            kind: table.column(kind) for kind in ("age", "sex", "view_position", "follow_up")
        }
        described, column_summary = describe_images(table, columns)
        frame = self.image_columns(names, patients)
        labels = joined_labels(table.text["Finding Labels"], NIH, table)
        summary: LabelsSummary = {
            "label_revision": REVISIONS.get(self.labels.name, "other"),
            "labels_file": _shown_path(self.labels, self.root),
            "other_labels_files": [
                name
                for name in REVISIONS
                if name != self.labels.name and (self.root / name).is_file()
            ],
            "labels_hash": file_hash(self.labels),
            "ages_set_missing": column_summary["not_understood"].get("age", 0),
            "patients": summarize_patients(
                patients, "the column Patient ID", (names.iloc[-1], patients.iloc[-1])
            ),
            "columns": column_summary,
        }
        frame = pd.concat([frame, described, labels], axis=1)
        return SourceRows(frame, summary, NIH, self._lists())

    def _lists(self) -> dict[str, ListFile] | None:
        parts = {"trainval": TRAINVAL_LIST, "test": TEST_LIST}
        paths = {part: self.folder.file(name) for part, name in parts.items()}
        return {part: read_list(path) for part, path in paths.items() if path is not None} or None


def _require_no_lists(folder: DataFolder) -> None:
    if folder.file(TRAINVAL_LIST, TEST_LIST):
        raise DataError(
            f"{folder.root} holds NIH list files but no label table",
            f"put {' or '.join(REVISIONS)} beside them",
        )


def _shown_path(path: Path, root: Path) -> str:
    return path.name if path.parent == root else str(path)


def _read(path: Path) -> TextTable:
    # The bracketed headers hold bare commas ("OriginalImage[Width,Height]"), which split into as
    # many cells as the rows have; older copies end every line with a comma. Positions are right.
    header = read_header(path)
    plain = [name for name in header if name and "[" not in name and "]" not in name]
    table = read_text_table(path, {name: header.index(name) for name in plain})
    table.require(_REQUIRED, "give the label table as NIH released it")
    return table


def _patients(table: TextTable) -> pd.Series:
    """Patient ids without leading zeros, checked against the first 8 digits of the file name."""
    patients = table.text["Patient ID"].str.replace(r"^0+(?=\d)", "", regex=True)
    named = table.text["Image Index"].str.extract(r"^(\d{8})_", expand=False)
    named = named.str.replace(r"^0+(?=\d)", "", regex=True)
    wrong = ((patients == "") | (named.notna() & (named != patients))).to_numpy()
    if wrong.any():
        row = int(wrong.argmax())
        raise DataError(
            f"{table.where(row)}: patient {table.text['Patient ID'].iloc[row]!r} does not fit "
            f"image {table.text['Image Index'].iloc[row]!r}",
            "fetch the label table again; a wrong patient would leak between splits",
        )
    return patients
