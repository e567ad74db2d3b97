"""The labels of a data set: names in display order, and whether some of them may be unknown.

Labels are 0, 1 or unknown. An unknown label (uncertain, blank, not looked at) is NaN in arrays and
missing in tables: it adds nothing to a loss, an AUC or a threshold, and it is counted.

Each reader gives the labels of its data set. Those of a table of your own (``data.labels``) are
read by ``readers/table.py``, those of folders by class by ``readers/class_folders.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypedDict

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from medsgssl.errors import DataError

NO_FINDING = "No Finding"


class LabelSetRecord(TypedDict):
    """A ``LabelSet`` in the header of a catalog file."""

    name: str
    names: list[str]
    uncertain: bool
    negative: str


@dataclass(frozen=True)
class LabelSet:
    """What the labels of a data set are called; each is a binary label of its own.

    Attributes:
        name: The release or table that defines the labels, e.g. ``nih`` or ``labels.csv``.
        names: The classes in the order in which they are shown and stored; empty where a data
            set has no labels.
        uncertain: Whether a label may be unknown.
        negative: What an image without any finding is called; empty where the data set has no
            such name, or has it as a class.
    """

    name: str
    names: tuple[str, ...]
    uncertain: bool = False
    negative: str = NO_FINDING

    def __post_init__(self) -> None:
        """Check the names.

        Raises:
            DataError: A name is empty, has spaces around it or occurs twice.
        """
        for name in self.names:
            if not name or name != name.strip() or self.names.count(name) > 1:
                raise DataError(
                    f"the labels of {self.name} name the class {name!r} twice or not properly",
                    "give every class a name of its own, without spaces around it",
                )

    def __len__(self) -> int:
        return len(self.names)

    def to_json(self) -> LabelSetRecord:
        """Return the JSON form that ``from_json`` reads."""
        return {
            "name": self.name,
            "names": list(self.names),
            "uncertain": self.uncertain,
            "negative": self.negative,
        }

    @classmethod
    def from_json(cls, stored: LabelSetRecord) -> LabelSet:
        """Read the form of ``to_json``.

        Raises:
            KeyError: A part is missing.
        """
        return cls(
            str(stored["name"]),
            tuple(map(str, stored["names"])),
            bool(stored["uncertain"]),
            str(stored["negative"]),
        )


def label_array(table: pd.DataFrame, names: Sequence[str]) -> NDArray[np.float32]:
    """Return label columns as an array.

    Args:
        table: Rows with the columns; missing values are unknown labels.
        names: The columns.

    Returns:
        ``(N, D)`` float32: 0, 1, or NaN where a label is unknown.
    """
    columns = [table[name].to_numpy(dtype=np.float32, na_value=np.nan) for name in names]
    return np.stack(columns, axis=1) if columns else np.zeros((len(table), 0), np.float32)


NO_LABELS = LabelSet("none", (), negative="")

NIH = LabelSet(
    "nih",
    (
        "Atelectasis",
        "Cardiomegaly",
        "Effusion",
        "Infiltration",
        "Mass",
        "Nodule",
        "Pneumonia",
        "Pneumothorax",
        "Consolidation",
        "Edema",
        "Emphysema",
        "Fibrosis",
        "Pleural_Thickening",
        "Hernia",
    ),
)
"""The diseases of NIH ChestX-ray14, in the order of the release.

Source: Wang et al., "ChestX-ray8: hospital-scale chest X-ray database and benchmarks on
weakly-supervised classification and localization of common thorax diseases", CVPR 2017.
"""

DISEASES = NIH.names
