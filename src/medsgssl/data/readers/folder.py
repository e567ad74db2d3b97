"""A plain folder of images without labels, for pretraining."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd

from medsgssl.data.readers.base import SourceRows, scan_tree


@dataclass(frozen=True)
class FolderSource:
    """Every image below a folder; hidden folders are passed over.

    The image id is the file name; below the top it is the relative path with ``_`` for ``/``. The
    patient id is the image id up to the first underscore after a digit, or else its stem: so
    ``17_a.png``, ``17_b.png`` and ``17/c.png`` are one patient, ``MCUCXR_0001_0.png`` and
    ``MCUCXR_0002_0.png`` are two.
    """

    root: Path
    name: str = "folder"

    @cached_property
    def images(self) -> pd.DataFrame:
        """The image files (see ``scan_tree``)."""
        return scan_tree(self.root)

    @property
    def inputs(self) -> tuple[Path, ...]:
        """Nothing besides the images."""
        return ()

    def rows(self) -> SourceRows:
        """Give one row per image, without labels."""
        names = self.images.index.to_series().reset_index(drop=True)
        blank = pd.Series("", index=names.index, dtype="str")
        unknown = pd.Series(pd.NA, index=names.index, dtype="Int16")
        table = pd.DataFrame(
            {
                "image_id": names,
                "path": self.images["path"].to_numpy(),
                "patient_id": _patients(names),
                "age": unknown,
                "sex": blank,
                "view": blank,
                "follow_up": unknown,
            }
        )
        return SourceRows(table, {"label_revision": "none"})


def _patients(names: pd.Series) -> pd.Series:
    stems = names.str.replace(r"\.[^.]*$", "", regex=True)
    return stems.str.extract(r"^(\D*\d[^_]*)", expand=False).fillna(stems).astype("str")
