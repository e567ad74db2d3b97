"""VinDr-CXR as it is released: DICOM files in ``train`` and ``test``, labels by radiologist.

Source: Nguyen et al., "VinDr-CXR: an open dataset of chest X-rays with radiologist's annotations",
Scientific Data 9, 2022.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Self

import pandas as pd

from medsgssl.data.labels import NO_FINDING, LabelSet
from medsgssl.data.readers.base import DataFolder, Reader, SourceRows, unknown_description
from medsgssl.data.readers.columns import binary_labels
from medsgssl.data.readers.patients import summarize_patients
from medsgssl.data.readers.scan import ImageFile, image_frame
from medsgssl.data.readers.text_table import read_header, read_text_table
from medsgssl.runs.data_summary import LabelsSummary
from medsgssl.utils.io import file_hash

# PhysioNet gives one column per class, Kaggle one row per box.
_WIDE = ("image_labels_train.csv", "image_labels_test.csv")
_BOXES = ("image_id", "class_name", "rad_id")


class VindrReader(Reader):
    """The VinDr-CXR layouts of PhysioNet (one column per class) and Kaggle (one row per box).

    Training images were read by three radiologists: a label is what most of them say. Patients are
    not published: every image counts as its own patient.
    """

    name = "vindr-cxr"
    rank = 20

    @classmethod
    def detect(cls, folder: DataFolder) -> Self | None:
        """Recognize the layout by its tables."""
        if folder.table is not None:
            known = {"image_id", "rad_id"} <= set(folder.header)
            return cls(folder, (folder.table,)) if known else None
        wide = [folder.file(name, f"annotations/{name}") for name in _WIDE]
        tables = tuple(path for path in wide if path is not None)
        if not tables:
            kaggle = folder.file("train.csv")
            tables = (kaggle,) if kaggle and set(_BOXES) <= set(read_header(kaggle)) else ()
        return cls(folder, tables) if tables else None

    @cached_property
    def images(self) -> pd.DataFrame:
        """The image files, the file name without suffix as id."""
        chosen: dict[str, ImageFile] = {}
        for file in sorted(self.folder.scan.images, key=lambda one: one.path.count("/")):
            chosen.setdefault(PurePosixPath(file.path).stem, file)
        return image_frame(list(chosen.values()), list(chosen))

    def rows(self) -> SourceRows:
        """Read the tables.

        Raises:
            DataError: One is malformed; the message names the line.
        """
        parts = [self._read(path) for path in self.inputs]
        names = self.folder.settings.classes or tuple(
            name for name in parts[0].columns if name.strip().lower() != NO_FINDING.lower()
        )
        labels = pd.concat(parts).reindex(columns=list(names))
        images = pd.Series(labels.index, dtype="str")
        patients = images.copy()
        columns = self.image_columns(images, patients), unknown_description(images.index)
        frame = pd.concat([*columns, labels.reset_index(drop=True).astype("Int8")], axis=1)
        summary: LabelsSummary = {
            "label_revision": "majority of radiologists",
            "labels_file": ", ".join(path.name for path in self.inputs),
            "labels_hash": " ".join(file_hash(path) for path in self.inputs),
            "patients": summarize_patients(
                patients, "every image (patients are not published)",
                (images.iloc[-1], patients.iloc[-1]),
            ),
        }  # fmt: skip
        return SourceRows(
            frame, summary, LabelSet(self.name, names), own_split=self._own_split(parts)
        )

    def _read(self, path: Path) -> pd.DataFrame:
        """Return the labels of one table by image: 1 where most radiologists say so."""
        table = read_text_table(path)
        table.require(("image_id",), "give the table as VinDr-CXR released it")
        text = table.text
        if set(_BOXES) <= set(text.columns):
            readings = text.drop_duplicates(["image_id", "rad_id", "class_name"])
            votes = pd.crosstab(
                [readings["image_id"], readings["rad_id"]], readings["class_name"]
            ).clip(0, 1)
        else:
            names = [name for name in text.columns if name not in ("image_id", "rad_id")]
            values = binary_labels(table, names, self.folder.settings.uncertain).astype("float64")
            votes = values.set_index([text["image_id"], text.index])
        share = votes.groupby(level=0).mean()
        return (share > 0.5).astype("int8").where(share.notna())

    def _own_split(self, parts: list[pd.DataFrame]) -> pd.Series | None:
        if len(parts) < 2:
            return None
        names = ["train" if path.name == _WIDE[0] else "test" for path in self.inputs]
        return pd.Series(
            [name for name, part in zip(names, parts, strict=True) for _ in range(len(part))],
            dtype="str",
        )
