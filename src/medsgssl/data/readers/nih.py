"""NIH ChestX-ray14 as it is released: folders of PNGs, one table, two lists.

Source: Wang et al., "ChestX-ray8: hospital-scale chest X-ray database and benchmarks on
weakly-supervised classification and localization of common thorax diseases", CVPR 2017.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd

from medsgssl.data.labels import NIH
from medsgssl.data.readers.base import ListFile, SourceRows, read_list, scan_images
from medsgssl.data.readers.columns import (
    age_column,
    check_names,
    label_columns,
    sex_column,
    small_integers,
    view_column,
)
from medsgssl.errors import DataError
from medsgssl.runs.data_summary import LabelsSummary
from medsgssl.utils.io import file_hash

REVISIONS = {"Data_Entry_2017.csv": "2017", "Data_Entry_2017_v2020.csv": "v2020"}
"""Label tables by file name, the preferred one first: published figures stand on 2017."""

TRAINVAL_LIST, TEST_LIST = "train_val_list.txt", "test_list.txt"
_REQUIRED = ("Image Index", "Finding Labels", "Patient ID")
_OPTIONAL = ("Follow-up #", "Patient Age", "Patient Gender", "View Position")


@dataclass(frozen=True)
class NihSource:
    """The NIH layout: ``images/``, ``images_001/images/`` ... or images in the folder itself.

    Attributes:
        root: Folder of the data set.
        labels: The label table. Where both revisions are there and none is asked for, the 2017
            one is taken; which one it was is recorded as ``label_revision``, told by file name.
    """

    root: Path
    labels: Path
    name: str = "nih"

    @cached_property
    def images(self) -> pd.DataFrame:
        """The image files (see ``scan_images``)."""
        parts = sorted(self.root.glob("images_*"))
        folders = [self.root / "images", *(part / "images" for part in parts), *parts, self.root]
        return scan_images(self.root, folders)

    @property
    def inputs(self) -> tuple[Path, ...]:
        """The label table and those of the two lists that exist."""
        lists = (self.root / TRAINVAL_LIST, self.root / TEST_LIST)
        return (self.labels, *(path for path in lists if path.is_file()))

    def rows(self) -> SourceRows:
        """Read the label table and the lists.

        Raises:
            DataError: A table or list is malformed; the message names the line.
        """
        text = _read_text(self.labels)
        names = text["Image Index"]
        check_names(names, self.labels)
        ages, ages_lost = age_column(text["Patient Age"])
        table = pd.DataFrame(
            {
                "image_id": names,
                "path": self.images["path"].reindex(names).astype("str").fillna("").to_numpy(),
                "patient_id": _patients(text, self.labels),
                "age": ages,
                "sex": sex_column(text["Patient Gender"]),
                "view": view_column(text["View Position"]),
                "follow_up": small_integers(text["Follow-up #"]),
            }
        )
        table = pd.concat([table, label_columns(text["Finding Labels"], NIH, self.labels)], axis=1)
        facts: LabelsSummary = {
            "label_revision": REVISIONS.get(self.labels.name, "other"),
            "labels_file": self.labels.name,
            "other_labels_files": [
                name
                for name in REVISIONS
                if name != self.labels.name and (self.root / name).is_file()
            ],
            "labels_hash": file_hash(self.labels),
            "ages_set_missing": ages_lost,
        }
        return SourceRows(table, facts, NIH, self._lists())

    def _lists(self) -> dict[str, ListFile] | None:
        parts = {"trainval": self.root / TRAINVAL_LIST, "test": self.root / TEST_LIST}
        there = {part: read_list(path) for part, path in parts.items() if path.is_file()}
        return there or None


def find_nih(root: Path, labels: str | None = None) -> NihSource | None:
    """Recognize the NIH layout by its label table.

    Args:
        root: Folder of the data set.
        labels: File name of the label table, inside ``root``; by default the first of
            ``REVISIONS`` that is there.

    Raises:
        DataError: The table asked for is not there.
    """
    if labels is not None:
        path = root / labels
        if not path.is_file():
            raise DataError(f"{path} does not exist", "name a label table inside the data folder")
        return NihSource(root, path)
    there = [root / name for name in REVISIONS if (root / name).is_file()]
    return NihSource(root, there[0]) if there else None


def _read_text(path: Path) -> pd.DataFrame:
    # The bracketed headers hold bare commas ("OriginalImage[Width,Height]"), which split into as
    # many cells as the rows have; older copies end every line with a comma. Positions are right.
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            header = [cell.strip() for cell in next(csv.reader(stream), [])]
        absent = [name for name in _REQUIRED if name not in header]
        if absent:
            raise DataError(
                f"{path} has no column {absent[0]!r}", "give the label table as NIH released it"
            )
        kept = {header.index(name): name for name in (*_REQUIRED, *_OPTIONAL) if name in header}
        text = pd.read_csv(
            path,
            header=None,
            skiprows=1,
            usecols=list(kept),
            dtype=str,
            keep_default_na=False,
            encoding="utf-8-sig",
        )
    except pd.errors.EmptyDataError as error:
        raise DataError(f"{path} has no rows", "fetch the label table again") from error
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}", "fetch the label table again") from error
    text = text.fillna("").rename(columns=kept)
    return text.reindex(columns=[*_REQUIRED, *_OPTIONAL], fill_value="")


def _patients(text: pd.DataFrame, path: Path) -> pd.Series:
    """Patient ids without leading zeros, checked against the first 8 digits of the file name."""
    patients = text["Patient ID"].str.strip().str.replace(r"^0+(?=\d)", "", regex=True)
    named = text["Image Index"].str.extract(r"^(\d{8})_", expand=False)
    named = named.str.replace(r"^0+(?=\d)", "", regex=True)
    wrong = ((patients == "") | (named.notna() & (named != patients))).to_numpy()
    if wrong.any():
        row = int(wrong.argmax())
        raise DataError(
            f"{path}, line {row + 2}: patient {text['Patient ID'].iloc[row]!r} does not fit image "
            f"{text['Image Index'].iloc[row]!r}",
            "fetch the label table again; a wrong patient would leak between splits",
        )
    return patients
