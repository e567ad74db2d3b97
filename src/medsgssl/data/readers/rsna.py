"""The RSNA Pneumonia Detection Challenge as it is released: DICOM files and one row per box.

Source: Shih et al., "Augmenting the National Institutes of Health chest radiograph dataset with
expert annotations of possible pneumonia", Radiology: Artificial Intelligence 1, 2019.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import PurePosixPath
from typing import Self

import pandas as pd

from medsgssl.data.labels import LabelSet
from medsgssl.data.readers.base import DataFolder, Reader, SourceRows, unknown_description
from medsgssl.data.readers.columns import binary_labels
from medsgssl.data.readers.patients import summarize_patients
from medsgssl.data.readers.scan import ImageFile, image_frame
from medsgssl.data.readers.text_table import read_text_table
from medsgssl.runs.data_summary import LabelsSummary
from medsgssl.utils.io import file_hash

_TABLE = "stage_2_train_labels.csv"
_REQUIRED = ("patientId", "Target")
_CLASS = "Pneumonia"


class RsnaReader(Reader):
    """The RSNA layout: ``stage_2_train_images/<patientId>.dcm`` and ``stage_2_train_labels.csv``.

    One class; an image is positive where any box was drawn. Images of the test folder have no
    labels and are not in the table.
    """

    name = "rsna-pneumonia"
    rank = 20

    @classmethod
    def detect(cls, folder: DataFolder) -> Self | None:
        """Recognize the layout by its table."""
        names = (_TABLE, "stage_1_train_labels.csv")
        tables = folder.tables_with(_REQUIRED, [folder.root / name for name in names])
        return cls(folder, tables[:1]) if tables else None

    @cached_property
    def images(self) -> pd.DataFrame:
        """The image files, the file name without suffix as id."""
        chosen: dict[str, ImageFile] = {}
        for file in self.folder.scan.images:
            chosen.setdefault(PurePosixPath(file.path).stem, file)
        return image_frame(list(chosen.values()), list(chosen))

    def rows(self) -> SourceRows:
        """Read the table.

        Raises:
            DataError: It is malformed; the message names the line.
        """
        table = read_text_table(self.inputs[0])
        table.require(_REQUIRED, "give the table as RSNA released it")
        target = binary_labels(table, ["Target"], "ignore")["Target"]
        labels = target.groupby(table.text["patientId"]).max()
        images = pd.Series(labels.index, dtype="str")
        columns = self.image_columns(images, images), unknown_description(images.index)
        label = labels.reset_index(drop=True).astype("Int8").rename(_CLASS)
        frame = pd.concat([*columns, label], axis=1)
        summary: LabelsSummary = {
            "label_revision": self.inputs[0].stem,
            "labels_file": self.inputs[0].name,
            "labels_hash": file_hash(self.inputs[0]),
            "patients": summarize_patients(
                frame["patient_id"], "the column patientId", (images.iloc[-1], images.iloc[-1])
            ),
        }
        return SourceRows(frame, summary, LabelSet(self.name, (_CLASS,)))
