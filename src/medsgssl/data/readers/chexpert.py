"""CheXpert as it is released: folders by patient and study, one table per part.

Source: Irvin et al., "CheXpert: a large chest radiograph dataset with uncertainty labels and expert
comparison", AAAI 2019.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Self

import pandas as pd

from medsgssl.config.schema import DataSettings
from medsgssl.data.labels import NO_LABELS, LabelSet
from medsgssl.data.readers.base import DataFolder, Reader, SourceRows
from medsgssl.data.readers.columns import binary_labels, check_names, describe_images
from medsgssl.data.readers.patients import summarize_patients
from medsgssl.data.readers.scan import ImageFile, image_frame, path_id
from medsgssl.data.readers.text_table import TextTable, read_text_table
from medsgssl.errors import DataError
from medsgssl.runs.data_summary import LabelsSummary
from medsgssl.utils.io import file_hash

_TABLES = ("train.csv", "valid.csv", "test.csv")
_REQUIRED = ("Path", "Sex", "Age", "Frontal/Lateral", "AP/PA")
#: The observations of the CheXpert labeler; MIMIC-CXR-JPG is labeled by them too.
OBSERVATIONS = (
    "No Finding",
    "Enlarged Cardiomediastinum",
    "Cardiomegaly",
    "Lung Opacity",
    "Lung Lesion",
    "Edema",
    "Consolidation",
    "Pneumonia",
    "Atelectasis",
    "Pneumothorax",
    "Pleural Effusion",
    "Pleural Other",
    "Fracture",
    "Support Devices",
)


class ChexpertReader(Reader):
    """The CheXpert layout: ``train/patient00001/study1/view1_frontal.jpg`` and its tables.

    The image id is the path from the part's name on, with ``_`` for ``/``. Paths in the tables may
    begin with the name of the release, e.g. ``CheXpert-v1.0-small``. Its own split: ``valid.csv``
    is test where there is no ``test.csv``, else validation.
    """

    name = "chexpert"
    rank = 20

    @classmethod
    def detect(cls, folder: DataFolder) -> Self | None:
        """Recognize the layout by the header of its tables."""
        tables = folder.tables_with(_REQUIRED, [folder.root / name for name in _TABLES])
        return cls(folder, tables) if tables else None

    @cached_property
    def _by_id(self) -> dict[str, ImageFile]:
        """The image files by the id that the tables give them."""
        return {path_id("/".join(_from_part(file.path) or (file.path,))): file
                for file in self.folder.scan.images}  # fmt: skip

    @cached_property
    def images(self) -> pd.DataFrame:
        """The image files."""
        return image_frame(list(self._by_id.values()), list(self._by_id))

    def rows(self) -> SourceRows:
        """Read the tables.

        Raises:
            DataError: A table cannot be read, or a path leaves the folder or names no patient.
        """
        tables = [_read(path) for path in self.inputs]
        text = pd.concat([table.text for table in tables], ignore_index=True).fillna("")
        table = TextTable(self.inputs[0], text, tables[0].lines)
        if len(tables) == 1:
            table = tables[0]
        path_parts = [_path_parts(part, row) for part in tables for row in range(len(part.text))]
        names = pd.Series(["_".join(parts) for parts in path_parts], dtype="str")
        patients = pd.Series([parts[1] for parts in path_parts], dtype="str")
        start = 0
        for part in tables:
            check_names(names.iloc[start : start + len(part.text)], part)
            start += len(part.text)
        lateral = text["Frontal/Lateral"].str.lower() == "lateral"
        positions = text["AP/PA"].mask(lateral, "LATERAL")
        described, column_summary = describe_images(
            TextTable(self.inputs[0], text.assign(view_position=positions), table.lines),
            {"age": "Age", "sex": "Sex", "view_position": "view_position"},
        )
        frame = self.image_columns(names, patients)
        summary: LabelsSummary = {
            "label_revision": "none",
            "ages_set_missing": column_summary["not_understood"].get("age", 0),
            "patients": summarize_patients(
                patients,
                "the folder patientNNNNN of the paths",
                (names.iloc[-1], patients.iloc[-1]),
            ),
            "columns": column_summary,
        }
        label_set = NO_LABELS
        frame = pd.concat([frame, described], axis=1)
        if set(OBSERVATIONS) & set(text.columns):
            parts = [observation_labels(part, self.folder.settings, self.name) for part in tables]
            label_set = parts[0][1]
            values = pd.concat([labels for labels, _ in parts], ignore_index=True)
            frame = pd.concat([frame, values[list(label_set.names)]], axis=1)
            summary["label_revision"] = self.folder.settings.uncertain
            summary["labels_file"] = ", ".join(path.name for path in self.inputs)
            summary["labels_hash"] = " ".join(file_hash(path) for path in self.inputs)
        return SourceRows(frame, summary, label_set, own_split=self._own_split(path_parts))

    def _own_split(self, path_parts: list[tuple[str, ...]]) -> pd.Series | None:
        names = {path.stem for path in self.inputs}
        if len(names) < 2 or "train" not in names:
            return None
        part = {"train": "train", "valid": "val" if "test" in names else "test", "test": "test"}
        return pd.Series([part[parts[0]] for parts in path_parts], dtype="str")


def _read(path: Path) -> TextTable:
    table = read_text_table(path)
    table.require(_REQUIRED, "give the table as CheXpert released it")
    return table


def _from_part(path: str) -> tuple[str, ...] | None:
    """Return the parts of a path from ``train``, ``valid`` or ``test`` on."""
    parts = PurePosixPath(path).parts
    names = {Path(name).stem for name in _TABLES}
    start = next((i for i, part in enumerate(parts) if part in names), None)
    if start is None or ".." in parts or len(parts) - start < 3:
        return None
    return parts[start:]


def _path_parts(table: TextTable, row: int) -> tuple[str, ...]:
    name = table.text["Path"].iloc[row]
    parts = _from_part(name)
    if parts is None:
        raise DataError(
            f"{table.where(row)}: {name!r} is not a path like train/patient00001/study1/view1.jpg",
            "give the table as CheXpert released it; images may not lie outside the data folder",
        )
    return parts


def observation_labels(
    table: TextTable, settings: DataSettings, name: str
) -> tuple[pd.DataFrame, LabelSet]:
    """Read the observations that a table holds, or those of ``data.classes``.

    A blank cell means that the report does not mention the observation; as in the publication it is
    taken for negative. What becomes of an uncertain one (-1) is ``data.uncertain``: ``ignore``
    (U-Ignore), ``zeros`` (U-Zeros) or ``ones`` (U-Ones).

    Raises:
        DataError: A class is not there, or a cell holds no label.
    """
    wanted = settings.classes or tuple(
        column for column in OBSERVATIONS if column in table.text.columns
    )
    table.require(wanted, f"name some of: {', '.join(OBSERVATIONS)}")
    labels = binary_labels(table, wanted, settings.uncertain, blank=0.0)
    return labels, LabelSet(name, wanted, settings.uncertain == "ignore", negative="")
