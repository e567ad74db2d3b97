"""A plain folder of images without labels, for pretraining."""

from __future__ import annotations

from functools import cached_property
from typing import Self

import pandas as pd

from medsgssl.data.readers.base import DataFolder, Reader, SourceRows, unknown_description
from medsgssl.data.readers.patients import patients_of_paths, summarize_patients
from medsgssl.data.readers.scan import image_frame, path_id
from medsgssl.runs.data_summary import LabelsSummary


class FolderReader(Reader):
    """Every image below a folder; hidden folders are passed over.

    The image id is the relative path with ``_`` for ``/``. Who the patient is, decides
    ``data.patient_pattern`` or the rules of ``patients.py``: ``17_a.png``, ``17_b.png`` and
    ``17/c.png`` are one patient, ``MCUCXR_0001_0.png`` and ``MCUCXR_0002_0.png`` are two.
    """

    name = "folder"
    rank = 100

    @classmethod
    def detect(cls, folder: DataFolder) -> Self | None:
        """Take any folder with images."""
        return cls(folder) if folder.scan.images and folder.table is None else None

    @cached_property
    def images(self) -> pd.DataFrame:
        """The image files."""
        files = self.folder.scan.images
        return image_frame(files, [path_id(file.path) for file in files])

    def rows(self) -> SourceRows:
        """Give one row per image, without labels."""
        names = self.images.index.to_series().reset_index(drop=True)
        paths = self.images["path"].tolist()
        patients = patients_of_paths(paths, self.folder.settings.patient_pattern)
        table = pd.DataFrame({"image_id": names, "path": paths, "patient_id": patients.series()})
        table = pd.concat([table, unknown_description(names.index)], axis=1)
        patient_summary = summarize_patients(table["patient_id"], patients.rule, patients.example)
        facts: LabelsSummary = {"label_revision": "none", "patients": patient_summary}
        tables = sum(self.folder.scan.others.get(suffix, 0) for suffix in (".csv", ".tsv", ".xlsx"))
        if tables and self.folder.settings.labels is None:
            facts["remarks"] = [
                f"{tables} tables lie in folders below and are not read: name one with data.labels"
            ]
        return SourceRows(table, facts)
