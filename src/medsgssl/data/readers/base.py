"""What every data set gives: its image files and one row of labels per image."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import pandas as pd

from medsgssl.data.labels import NO_LABELS, LabelSet
from medsgssl.errors import DataError
from medsgssl.images.integrity import IMAGE_SUFFIXES
from medsgssl.runs.data_summary import LabelsSummary

ImageFile = tuple[str, int, int]
"""Path relative to the root, size in bytes, modification time in ns."""


@dataclass(frozen=True)
class SourceRows:
    """The rows of one data set, before files are checked and splits are given.

    Attributes:
        table: One row per image: ``image_id``, ``path`` (relative to the root, ``""`` where the
            file is missing), ``patient_id``, ``age``, ``sex``, ``view``, ``follow_up`` and the
            labels (nullable ``Int8``: 0, 1 or missing), typed as in the catalog.
        facts: JSON-like remarks on the labels; always ``label_revision`` (``"none"`` where there
            are no labels).
        label_set: Names the columns of the labels.
        lists: Image ids of the list files by part (``"trainval"``, ``"test"``), or ``None``.
    """

    table: pd.DataFrame
    facts: LabelsSummary
    label_set: LabelSet = NO_LABELS
    lists: dict[str, ListFile] | None = None


@dataclass(frozen=True)
class ListFile:
    """One list file: its path and the image ids in it, in order and without repeats."""

    path: Path
    image_ids: tuple[str, ...] = field(repr=False)


class Source(Protocol):
    """A data set that has been found on disk, but whose tables have not been read."""

    @property
    def name(self) -> str:
        """Name of the data set, e.g. ``nih``."""

    @property
    def root(self) -> Path:
        """Folder of the data set."""

    @property
    def images(self) -> pd.DataFrame:
        """The image files as ``scan_images`` gives them."""

    @property
    def inputs(self) -> tuple[Path, ...]:
        """The tables and lists that ``rows`` reads."""

    def rows(self) -> SourceRows:
        """Read the tables."""


def scan_images(root: Path, folders: Iterable[Path]) -> pd.DataFrame:
    """List the image files that lie directly in some folders.

    Args:
        root: Folder that paths are given relative to.
        folders: Folders below it, in order of preference; those that do not exist are skipped.

    Returns:
        A frame indexed by ``image_id`` (file name, unique) with ``path`` (relative, with ``/``),
        ``size`` (bytes) and ``changed`` (modification time, ns). Of files with one name the first
        counts.
    """
    found: dict[str, ImageFile] = {}
    for folder in folders:
        if folder.is_dir():
            for name, file in image_files(root, folder):
                found.setdefault(name, file)
    return image_frame(found)


def scan_tree(root: Path) -> pd.DataFrame:
    """List every image file below a folder; hidden folders are passed over.

    Args:
        root: The folder.

    Returns:
        A frame as ``scan_images`` gives it; the image id is the relative path with ``_`` for ``/``.

    Raises:
        DataError: Two files have one image id.
    """
    found: dict[str, ImageFile] = {}
    for folder, below, _ in os.walk(root):
        below[:] = sorted(name for name in below if not name.startswith("."))
        for _, file in image_files(root, Path(folder)):
            name = file[0].replace("/", "_")
            if name in found:
                raise DataError(
                    f"{root}: {found[name][0]} and {file[0]} have one image id",
                    "rename one of the two files",
                )
            found[name] = file
    return image_frame(found)


def image_files(root: Path, folder: Path) -> Iterator[tuple[str, ImageFile]]:
    """Yield name and facts of each image file that lies directly in a folder below ``root``."""
    prefix = "" if folder == root else f"{folder.relative_to(root).as_posix()}/"
    # scandir gives names without one Path object per file: there are 112,120 of them.
    with os.scandir(folder) as entries:
        for entry in entries:
            suffix = os.path.splitext(entry.name)[1].lower()  # noqa: PTH122
            if suffix in IMAGE_SUFFIXES and entry.is_file():
                facts = entry.stat()
                yield entry.name, (prefix + entry.name, facts.st_size, facts.st_mtime_ns)


def image_frame(found: dict[str, ImageFile]) -> pd.DataFrame:
    """Turn facts by image id into the frame of ``scan_images``."""
    names = sorted(found)
    return pd.DataFrame(
        [found[name] for name in names],
        index=pd.Index(names, name="image_id", dtype="str"),
        columns=["path", "size", "changed"],
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
