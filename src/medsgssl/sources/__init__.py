"""Sources: files of a data set become grey images and rows of labels."""

from medsgssl.sources.labels import DISEASES, NO_FINDING

__all__ = ["DISEASES", "NO_FINDING"]
