"""MIMIC-CXR-JPG as it is released: folders by patient and study, tables by study and by image.

Source: Johnson et al., "MIMIC-CXR-JPG, a large publicly available database of labeled chest
radiographs", arXiv:1901.07042, 2019.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Self

import numpy as np
import pandas as pd

from medsgssl.data.readers.base import DataFolder, Reader, SourceRows
from medsgssl.data.readers.chexpert import observation_labels
from medsgssl.data.readers.columns import check_names, describe_images
from medsgssl.data.readers.patients import summarize_patients
from medsgssl.data.readers.scan import image_frame
from medsgssl.data.readers.text_table import TextTable, read_text_table
from medsgssl.errors import DataError
from medsgssl.runs.data_summary import LabelsSummary
from medsgssl.utils.formatting import plural
from medsgssl.utils.io import file_hash

_PREFIX = "mimic-cxr-2"
_KEYS = ("subject_id", "study_id")


class MimicReader(Reader):
    """The MIMIC-CXR-JPG layout: ``files/p10/p10000032/s50414267/<dicom id>.jpg`` and its tables.

    Labels come from ``...-chexpert.csv`` or ``...-negbio.csv``, one row per study; views from
    ``...-metadata.csv``; the split from ``...-split.csv`` (all also as ``.csv.gz``). Only images
    that lie in the folder or stand in the metadata table are rows; the image id is the DICOM id.
    """

    name = "mimic-cxr-jpg"
    rank = 20

    @classmethod
    def detect(cls, folder: DataFolder) -> Self | None:
        """Recognize the layout by the names of its tables.

        Raises:
            DataError: The table of the labels or of the metadata is missing.
        """
        if folder.table is not None and not set(_KEYS) <= set(folder.header):
            return None
        labels = folder.table or _table(folder, "chexpert") or _table(folder, "negbio")
        metadata = _table(folder, "metadata")
        if labels is None and metadata is None:
            return None
        if labels is None or metadata is None:
            kind = "chexpert" if labels is None else "metadata"
            raise DataError(
                f"{folder.root} holds tables of MIMIC-CXR-JPG, but no mimic-cxr-2.0.0-{kind}.csv",
                "put it (or its .csv.gz) beside them",
            )
        split = _table(folder, "split")
        return cls(folder, (labels, metadata, *([split] if split else [])))

    @cached_property
    def images(self) -> pd.DataFrame:
        """The image files, the file name without suffix as id."""
        files = self.folder.scan.images
        return image_frame(files, [PurePosixPath(file.path).stem for file in files])

    def rows(self) -> SourceRows:
        """Read the tables.

        Raises:
            DataError: A table lacks a column, a cell holds no label, or an image has no study.
        """
        labels_path, metadata_path, *rest = self.inputs
        metadata = read_text_table(metadata_path)
        metadata.require(("dicom_id", *_KEYS), "give the table as MIMIC-CXR-JPG released it")
        names = metadata.text["dicom_id"]
        check_names(names, metadata)
        studies = read_text_table(labels_path)
        studies.require(_KEYS, "give the table as MIMIC-CXR-JPG released it")
        values, label_set = observation_labels(studies, self.folder.settings, self.name)
        values.index = pd.Index(studies.text["study_id"])
        if values.index.duplicated().any():
            raise DataError(f"{labels_path} has a study twice", "fetch the table again")
        study_ids = metadata.text["study_id"]
        unlabeled = int((~study_ids.isin(values.index)).sum())
        described, column_summary = describe_images(
            metadata, {"age": None, "sex": None, "view_position": metadata.column("view_position")}
        )
        patients = metadata.text["subject_id"]
        frame = self.image_columns(names, patients)
        matched = values.reindex(study_ids).reset_index(drop=True)
        summary: LabelsSummary = {
            "label_revision": f"{labels_path.name.split('-')[-1].split('.')[0]}, "
            f"{self.folder.settings.uncertain}",
            "labels_file": labels_path.name,
            "labels_hash": file_hash(labels_path),
            "patients": summarize_patients(
                patients, "the column subject_id", (names.iloc[-1], patients.iloc[-1])
            ),
            "columns": column_summary,
        }
        if unlabeled:
            belong = plural(unlabeled, "image belongs", "images belong")
            summary["remarks"] = [f"{unlabeled:,} {belong} to studies without labels"]
        return SourceRows(
            pd.concat([frame, described, matched], axis=1),
            summary,
            label_set,
            own_split=_own_split(rest[0], metadata) if rest else None,
        )


def _table(folder: DataFolder, kind: str) -> Path | None:
    for suffix in (".csv", ".csv.gz"):
        for path in sorted(folder.root.glob(f"{_PREFIX}*-{kind}{suffix}")):
            return path
    return None


def _own_split(path: Path, metadata: TextTable) -> pd.Series:
    table = read_text_table(path)
    table.require(("dicom_id", "split"), "give the table as MIMIC-CXR-JPG released it")
    split = table.text.set_index("dicom_id")["split"].replace("validate", "val")
    bad = ~split.isin(["train", "val", "test"]).to_numpy()
    if bad.any():
        row = int(np.argmax(bad))
        raise DataError(
            f"{table.where(row)}: unknown split {split.iloc[row]!r}",
            "write train, validate or test",
        )
    assigned = split.reindex(metadata.text["dicom_id"]).reset_index(drop=True)
    return assigned.fillna("").astype("str")
