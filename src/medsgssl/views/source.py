"""Catalog, decoded images and masks brought together: what every loader of a run draws from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medsgssl.cache import DecodedCache, MaskArray
from medsgssl.catalog import Catalog
from medsgssl.errors import DataError
from medsgssl.randomness import stable_hash
from medsgssl.sources import DISEASES


@dataclass(frozen=True)
class ViewSource:
    """Images, masks and labels; row i of all parts is the same image.

    Attributes:
        cache: The decoded images.
        masks: Their masks, or one of the controls.
        keys: (N,) uint64 stable key of each image, the image's part in its random numbers.
        labels: (N, 14) float32 of 0 and 1.
        domains: (N,) int64 number of each image's data set.
        splits: (N,) name of each image's split; empty where the image cannot be used.
        patients: (N,) patient of each image.
    """

    cache: DecodedCache
    masks: MaskArray
    keys: NDArray[np.uint64]
    labels: NDArray[np.float32]
    domains: NDArray[np.int64]
    splits: NDArray[np.str_]
    patients: NDArray[np.str_]

    @classmethod
    def of(cls, catalog: Catalog, cache: DecodedCache, masks: MaskArray) -> ViewSource:
        """Bring together what was made from one catalog."""
        table = catalog.table
        keys = [stable_hash(image_id) for image_id in table["image_id"]]
        splits = np.where(cache.usable, table["split"].to_numpy(dtype=str), "")
        return cls(
            cache=cache,
            masks=masks,
            keys=np.array(keys, dtype=np.uint64),
            labels=table[list(DISEASES)].to_numpy(dtype=np.float32),
            domains=np.asarray(table["source"].astype("category").cat.codes, dtype=np.int64),
            splits=splits,
            patients=table["patient_id"].to_numpy(dtype=str),
        )

    def rows(self, split: str) -> NDArray[np.int64]:
        """Return the usable rows of a split, in the order of the catalog.

        Raises:
            DataError: There is none.
        """
        rows = np.flatnonzero(self.splits == split)
        if len(rows) == 0:
            raise DataError(
                f"no usable image is in the split {split!r}",
                "look at `medsgssl catalog`; choose another data.split",
            )
        return rows
