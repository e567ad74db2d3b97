"""What every layout of data gives: its image files and one row of labels per image.

A reader is one file of this package, or a class that another package offers as entry point
``medsgssl.readers``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Self

import pandas as pd

from medsgssl.config.schema import DataSettings
from medsgssl.data.labels import NO_LABELS, LabelSet
from medsgssl.data.readers.scan import Scan
from medsgssl.data.readers.text_table import read_header
from medsgssl.errors import DataError
from medsgssl.runs.data_summary import LabelsSummary


@dataclass(frozen=True)
class SourceRows:
    """The rows of one data set, before files are checked and splits are given.

    Attributes:
        table: One row per image: ``image_id``, ``path`` (relative to the root, ``""`` where the
            file is missing), ``patient_id``, ``age``, ``sex``, ``view_position``, ``follow_up`` and
            the labels (nullable ``Int8``: 0, 1 or missing), typed as in the catalog.
        summary: Remarks on the labels; always ``label_revision`` (``"none"`` where there are none).
        label_set: Names the columns of the labels.
        lists: Image ids of the list files by part (``"trainval"``, ``"test"``), or ``None``.
        own_split: Split of each row that the data set itself gives: ``train``, ``val``, ``test``
            or ``""``; ``None`` where it gives none.
    """

    table: pd.DataFrame
    summary: LabelsSummary
    label_set: LabelSet = NO_LABELS
    lists: dict[str, ListFile] | None = None
    own_split: pd.Series | None = None


@dataclass(frozen=True)
class ListFile:
    """One list file: its path and the image ids in it, in order and without repeats."""

    path: Path
    image_ids: tuple[str, ...] = field(repr=False)


@dataclass(frozen=True)
class DataFolder:
    """A data folder as readers see it.

    Attributes:
        scan: Every file below it.
        settings: The data settings.
        table: The label table that ``data.labels`` names; None where none is named.
        header: That table's columns.
    """

    scan: Scan
    settings: DataSettings
    table: Path | None = None
    header: tuple[str, ...] = ()

    @property
    def root(self) -> Path:
        """The folder."""
        return self.scan.root

    def file(self, *names: str) -> Path | None:
        """Return the first of some files, paths relative to the folder, that exists."""
        return next((self.root / name for name in names if (self.root / name).is_file()), None)

    def tables_with(self, columns: Iterable[str], candidates: Iterable[Path]) -> tuple[Path, ...]:
        """Return the tables whose header holds all of some columns.

        Args:
            columns: Names of columns, exactly.
            candidates: Where to look, unless ``data.labels`` names a table: then only that one
                decides. Paths that do not exist are passed over.
        """
        required = set(columns)
        if self.table is not None:
            return (self.table,) if required <= set(self.header) else ()
        there = [path for path in candidates if path.is_file()]
        return tuple(path for path in there if required <= set(read_header(path)))


class Reader(ABC):
    """A data set that has been recognized, but whose tables have not been read.

    Attributes:
        name: Name of the layout, e.g. ``nih``.
        rank: Readers of smaller rank are asked first.
    """

    name: ClassVar[str]
    rank: ClassVar[int] = 50

    def __init__(self, folder: DataFolder, inputs: tuple[Path, ...] = ()) -> None:
        self.folder = folder
        self.inputs = inputs
        """The tables and lists that ``rows`` reads."""

    @property
    def root(self) -> Path:
        """Folder of the data set."""
        return self.folder.root

    @classmethod
    @abstractmethod
    def detect(cls, folder: DataFolder) -> Self | None:
        """Recognize the layout; ``None`` where the folder holds another one.

        Where ``folder.table`` is given, only that table decides.
        """

    @property
    @abstractmethod
    def images(self) -> pd.DataFrame:
        """The image files, indexed by ``image_id``, with ``path``, ``size`` and ``changed``."""

    def image_columns(self, image_ids: pd.Series, patients: pd.Series) -> pd.DataFrame:
        """Return the columns that rows begin with: ``image_id``, ``path``, ``patient_id``.

        Args:
            image_ids: (N,) text; the path is ``""`` where the folder has no such image.
            patients: (N,) text, with the same index.
        """
        paths = self.images["path"].reindex(image_ids).astype("str").fillna("").to_numpy()
        return pd.DataFrame({"image_id": image_ids, "path": paths, "patient_id": patients})

    @abstractmethod
    def rows(self) -> SourceRows:
        """Read the tables.

        Raises:
            DataError: A table is malformed; the message names the line.
        """


def unknown_description(index: pd.Index) -> pd.DataFrame:
    """Return the columns that describe images, for a data set that does not: all of it unknown."""
    unknown = pd.Series(pd.NA, index=index, dtype="Int16")
    blank = pd.Series("", index=index, dtype="str")
    return pd.DataFrame(
        {"age": unknown, "sex": blank, "view_position": blank, "follow_up": unknown}
    )


def read_list(path: Path) -> ListFile:
    """Read a list file: one image id per line.

    Raises:
        DataError: The file is missing or empty, or an id is a path.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}", "give a text list of images") from error
    names = tuple(dict.fromkeys(line.strip() for line in lines if line.strip()))
    if not names:
        raise DataError(f"{path} is empty", "fill it with one image name per line, or remove it")
    bad = next((name for name in names if not is_plain_name(name)), None)
    if bad is not None:
        raise DataError(f"{path} holds the path {bad!r}", "write plain file names, without folders")
    return ListFile(path, names)


def is_plain_name(name: str) -> bool:
    """Tell whether a name stays inside its folder: no separators, not ``..``."""
    return bool(name) and not {"/", "\\", "\0"} & set(name) and name not in {".", ".."}
