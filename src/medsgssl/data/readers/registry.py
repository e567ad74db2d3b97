"""Recognizes which data set a folder holds."""

from __future__ import annotations

from pathlib import Path

from medsgssl.data.readers.base import Source
from medsgssl.data.readers.chexpert import find_chexpert
from medsgssl.data.readers.folder import FolderSource
from medsgssl.data.readers.nih import REVISIONS, TEST_LIST, TRAINVAL_LIST, find_nih
from medsgssl.errors import DataError


def find_source(root: Path, labels: str | None = None) -> Source:
    """Find the data set in a folder: NIH or CheXpert by its tables, else a plain folder of images.

    Args:
        root: Folder of the data set.
        labels: File name of the label table inside ``root``, where there are several.

    Raises:
        DataError: The folder does not exist, holds no images and no table, or holds parts of the
            NIH release without its label table.
    """
    root = root.absolute()
    if not root.is_dir():
        raise DataError(f"{root} is not a folder", "give the folder of the data set with --data")
    nih = find_nih(root, labels)
    if nih is not None:
        return nih
    if any((root / name).is_file() for name in (TRAINVAL_LIST, TEST_LIST)):
        raise DataError(
            f"{root} holds NIH list files but no label table",
            f"put {' or '.join(REVISIONS)} beside them",
        )
    chexpert = find_chexpert(root)
    if chexpert is not None:
        return chexpert
    folder = FolderSource(root)
    if folder.images.empty:
        raise DataError(
            f"{root} holds neither {' nor '.join(REVISIONS)} nor PNG, JPEG or DICOM images",
            "give the folder of the data set with --data",
        )
    return folder
