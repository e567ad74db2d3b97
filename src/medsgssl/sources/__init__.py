"""Sources: files of a data set become grey images and rows of labels."""

from medsgssl.sources.grey import INTENSITY, to_grey8
from medsgssl.sources.labels import DISEASES, NO_FINDING

__all__ = ["DISEASES", "INTENSITY", "NO_FINDING", "to_grey8"]
