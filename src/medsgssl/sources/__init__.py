"""Sources: files of a data set become grey images and rows of labels."""

from medsgssl.sources.boxes import BOX_FRAME, read_boxes
from medsgssl.sources.find import find_source
from medsgssl.sources.folder import FolderSource
from medsgssl.sources.grey import INTENSITY, to_grey8
from medsgssl.sources.image import read_image
from medsgssl.sources.labels import DISEASES, NO_FINDING
from medsgssl.sources.nih import NihSource
from medsgssl.sources.source import ListFile, Source, SourceRows
from medsgssl.sources.structure import check_image, read_checked

__all__ = [
    "BOX_FRAME",
    "DISEASES",
    "INTENSITY",
    "NO_FINDING",
    "FolderSource",
    "ListFile",
    "NihSource",
    "Source",
    "SourceRows",
    "check_image",
    "find_source",
    "read_boxes",
    "read_checked",
    "read_image",
    "to_grey8",
]
