"""Catalog, decoded images and masks brought together: what every loader of a run draws from.

Rows are NumPy arrays of training size; ``loader.py`` makes tensors of views of them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from medsgssl.data.catalog import Catalog
from medsgssl.data.image_cache import DecodedCache
from medsgssl.data.labels import NO_LABELS, LabelSet, label_array
from medsgssl.data.mask_cache import MaskArray
from medsgssl.errors import DataError
from medsgssl.utils.rng import generator, stable_hash


class BatchSource(ABC):
    """What steps are rendered from: N images with their masks, and what is known of each.

    Attributes:
        image_seeds: (N,) uint64 hash of each image's name, from which its random numbers are drawn.
        labels: (N, D) float32 of 0 and 1, NaN where a label is unknown.
        domains: (N,) int64 number of each image's data set.
        splits: (N,) name of each image's split; empty where the image cannot be used.
    """

    image_seeds: NDArray[np.uint64]
    labels: NDArray[np.float32]
    domains: NDArray[np.int64]
    splits: NDArray[np.str_]

    @property
    @abstractmethod
    def quality(self) -> NDArray[np.float32]:
        """Quality of each mask, (N,) in [0, 1]."""

    @abstractmethod
    def image(self, row: int) -> NDArray[np.uint8]:
        """Return the image of a row, (S, S)."""

    @abstractmethod
    def pair(self, row: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Return image and mask of a row, (S, S) each; the mask of 0 and 1."""

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


@dataclass(frozen=True)
class ImageMaskDataset(BatchSource):
    """One data set; row i of all parts is the same image.

    Attributes:
        cache: The decoded images.
        masks: Their masks, or one of the controls.
        patients: (N,) patient of each image.
        label_set: What the D labels are called.
    """

    cache: DecodedCache
    masks: MaskArray
    image_seeds: NDArray[np.uint64]
    labels: NDArray[np.float32]
    domains: NDArray[np.int64]
    splits: NDArray[np.str_]
    patients: NDArray[np.str_]
    label_set: LabelSet = NO_LABELS

    @classmethod
    def of(cls, catalog: Catalog, cache: DecodedCache, masks: MaskArray) -> ImageMaskDataset:
        """Bring together what was made from one catalog."""
        table = catalog.table
        image_seeds = [stable_hash(image_id) for image_id in table["image_id"]]
        splits = np.where(cache.usable, table["split"].to_numpy(dtype=str), "")
        return cls(
            cache=cache,
            masks=masks,
            image_seeds=np.array(image_seeds, dtype=np.uint64),
            labels=label_array(table, catalog.label_set.names),
            domains=np.zeros(len(table), np.int64),
            splits=splits,
            patients=table["patient_id"].to_numpy(dtype=str),
            label_set=catalog.label_set,
        )

    def examples(self, seed: int, count: int = 6) -> NDArray[np.int64]:
        """Return a few rows of the training split, the same for one seed, to be shown."""
        train = self.rows("train")
        drawn = generator(seed, "examples").choice(train, min(count, len(train)), replace=False)
        return np.sort(drawn)

    def blank_rows(self, *splits: str) -> NDArray[np.int64]:
        """Return the usable rows of the splits whose image has one gray level alone."""
        rows = np.flatnonzero(np.isin(self.splits, splits))
        levels = [np.ptp(self.cache.images[row]) for row in rows]
        blank: NDArray[np.int64] = rows[np.array(levels, dtype=np.uint8) == 0]
        return blank

    @property
    def quality(self) -> NDArray[np.float32]:
        """Quality of each mask, (N,) in [0, 1]."""
        return self.masks.quality

    def image(self, row: int) -> NDArray[np.uint8]:
        """Return the image of a row, (S, S)."""
        return np.asarray(self.cache.images[row], np.uint8)

    def pair(self, row: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Return image and mask of a row, (S, S) each; the mask of 0 and 1."""
        return self.cache.images[row], self.masks.mask(row)


@dataclass(frozen=True)
class ConcatDataset(BatchSource):
    """Several data sets as one, one domain each; the rows of the first come first.

    Attributes:
        parts: The data sets.
        starts: (P,) int64 first row of each.
    """

    parts: tuple[ImageMaskDataset, ...]
    starts: NDArray[np.int64]
    image_seeds: NDArray[np.uint64]
    labels: NDArray[np.float32]
    domains: NDArray[np.int64]
    splits: NDArray[np.str_]

    @classmethod
    def of(cls, parts: Sequence[ImageMaskDataset]) -> ConcatDataset:
        """Join data sets whose images are decoded at one size."""
        counts = [len(part.image_seeds) for part in parts]

        def unknown(part: ImageMaskDataset) -> NDArray[np.float32]:
            # The classes are those of the first; nobody looked for them in the others.
            return np.full((len(part.image_seeds), parts[0].labels.shape[1]), np.nan, np.float32)

        # Two sets may hold images of one name; the first keeps the keys it has alone.
        salts = [0, *(stable_hash("data set", number) for number in range(1, len(parts)))]
        image_seeds = [
            part.image_seeds ^ np.uint64(salt) for part, salt in zip(parts, salts, strict=True)
        ]
        return cls(
            parts=tuple(parts),
            starts=np.cumsum([0, *counts[:-1]]),
            image_seeds=np.concatenate(image_seeds),
            labels=np.concatenate([parts[0].labels, *(unknown(part) for part in parts[1:])]),
            domains=np.repeat(np.arange(len(parts)), counts),
            splits=np.concatenate([part.splits for part in parts]),
        )

    @cached_property
    def quality(self) -> NDArray[np.float32]:
        """Quality of each mask, (N,) in [0, 1]."""
        return np.concatenate([part.quality for part in self.parts])

    def image(self, row: int) -> NDArray[np.uint8]:
        """Return the image of a row, (S, S)."""
        part, inside = self._place(row)
        return part.image(inside)

    def pair(self, row: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Return image and mask of a row, (S, S) each; the mask of 0 and 1."""
        part, inside = self._place(row)
        return part.pair(inside)

    def _place(self, row: int) -> tuple[ImageMaskDataset, int]:
        """Return the data set of a row and its row there."""
        part = int(np.searchsorted(self.starts, row, side="right")) - 1
        return self.parts[part], int(row - self.starts[part])
