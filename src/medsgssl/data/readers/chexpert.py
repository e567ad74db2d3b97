"""CheXpert as it is released: folders by patient and study, one table per part; for pretraining.

Source: Irvin et al., "CheXpert: a large chest radiograph dataset with uncertainty labels and expert
comparison", AAAI 2019. Its 14 observations are other ones than the 14 diseases of NIH, and many are
marked uncertain: they are not read.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

import pandas as pd

from medsgssl.data.readers.base import SourceRows, scan_tree
from medsgssl.data.readers.columns import age_column, check_names, sex_column, view_column
from medsgssl.errors import DataError
from medsgssl.runs.data_summary import LabelsSummary

_TABLES = ("train.csv", "valid.csv", "test.csv")
_PARTS = frozenset(Path(name).stem for name in _TABLES)
_REQUIRED = ("Path", "Sex", "Age", "Frontal/Lateral", "AP/PA")


@dataclass(frozen=True)
class ChexpertSource:
    """The CheXpert layout: ``train/patient00001/study1/view1_frontal.jpg`` and its tables.

    The image id is the path below the folder with ``_`` for ``/``. Paths in the tables may begin
    with the name of the release, e.g. ``CheXpert-v1.0-small``.

    Attributes:
        root: The folder that holds the tables.
        inputs: Those tables that are there.
    """

    root: Path
    inputs: tuple[Path, ...]
    name: str = "chexpert"

    @cached_property
    def images(self) -> pd.DataFrame:
        """The image files (see ``scan_images``)."""
        return scan_tree(self.root)

    def rows(self) -> SourceRows:
        """Read the tables, without labels.

        Raises:
            DataError: A table cannot be read, or a path leaves the folder or names no patient.
        """
        parts = [self._read(path) for path in self.inputs]
        text = pd.concat(parts, ignore_index=True)
        names = text["image_id"]
        ages, lost = age_column(text["Age"])
        lateral = text["Frontal/Lateral"].str.strip().str.lower() == "lateral"
        table = pd.DataFrame(
            {
                "image_id": names,
                "path": self.images["path"].reindex(names).astype("str").fillna("").to_numpy(),
                "patient_id": text["patient"],
                "age": ages,
                "sex": sex_column(text["Sex"]),
                "view": view_column(text["AP/PA"].mask(lateral, "LATERAL")),
                "follow_up": pd.Series(pd.NA, index=names.index, dtype="Int16"),
            }
        )
        facts: LabelsSummary = {"label_revision": "none", "ages_set_missing": lost}
        return SourceRows(table, facts)

    def _read(self, path: Path) -> pd.DataFrame:
        try:
            text = pd.read_csv(path, usecols=list(_REQUIRED), dtype=str, keep_default_na=False)
        except (OSError, ValueError) as error:
            raise DataError(
                f"{path} cannot be read: {error}", "give the table as CheXpert released it"
            ) from error
        places = [_place(name, path, line) for line, name in enumerate(text["Path"], start=2)]
        text["image_id"] = pd.Series(["_".join(place) for place in places], dtype="str")
        text["patient"] = pd.Series([place[1] for place in places], dtype="str")
        check_names(text["image_id"], path)
        return text


def find_chexpert(root: Path) -> ChexpertSource | None:
    """Recognize the CheXpert layout by the header of its tables."""
    there = [root / name for name in _TABLES if (root / name).is_file()]
    tables = tuple(path for path in there if _is_table(path))
    return ChexpertSource(root, tables) if tables else None


def _is_table(path: Path) -> bool:
    with path.open(encoding="utf-8-sig", errors="replace") as stream:
        header = stream.readline().strip().split(",")
    return set(_REQUIRED) <= set(header)


def _place(name: str, path: Path, line: int) -> tuple[str, ...]:
    """Return the parts of an image's path from ``train``, ``valid`` or ``test`` on."""
    parts = PurePosixPath(name.strip()).parts
    start = next((i for i, part in enumerate(parts) if part in _PARTS), None)
    if start is None or ".." in parts or len(parts) - start < 3:
        raise DataError(
            f"{path}, line {line}: {name!r} is no path like train/patient00001/study1/view1.jpg",
            "give the table as CheXpert released it; images may not lie outside the data folder",
        )
    return parts[start:]
