"""The 14 observations of the CheXpert labeler, which CheXpert and MIMIC-CXR-JPG are labeled by.

Source: Irvin et al., "CheXpert: a large chest radiograph dataset with uncertainty labels and expert
comparison", AAAI 2019.
"""

from __future__ import annotations

import pandas as pd

from medsgssl.config.schema import DataSettings
from medsgssl.data.labels import LabelSet
from medsgssl.data.readers.columns import binary_labels
from medsgssl.data.readers.tables import TextTable

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
