"""The masks beside the decoded images: packed bits, one row per image, and the mask controls.

A benefit of anatomy may be claimed only against masks that carry none; these controls take the
place of the rule-based masks in every method:

- ``none``: no mask; every pixel counts and no mask is trusted.
- ``shuffled``: another image's mask and quality.
- ``random-blob``: a random smooth shape of the same area.
- ``mean-template``: the mean mask of the training images, the same for all.

An image without a usable mask is given the whole-image mask and quality 0, whatever the source;
how many these are is kept in ``MaskArray.missing``.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import get_args

import cv2
import numpy as np
from numpy.typing import NDArray

from medsgssl.config.schema import MaskControl
from medsgssl.data.catalog import Catalog
from medsgssl.data.letterbox import Letterbox
from medsgssl.errors import MaskError
from medsgssl.masks.store import MaskStore
from medsgssl.utils.io import atomic_path, fingerprint
from medsgssl.utils.locks import shared_work
from medsgssl.utils.rng import generator

CONTROLS: tuple[str, ...] = get_args(MaskControl)
# Random blobs are drawn this much coarser than the masks.
_BLOB_SHRINK = 4
# Part of the name of kept files: raised where a control is made in another way.
_CONTROL_VERSION = 2


@dataclass(frozen=True)
class MaskArray:
    """Masks of N images at the size of the decoded cache.

    Attributes:
        packed: (N, ceil(S * S / 8)) uint8, the bits of each mask, row by row.
        quality: (N,) float32 in [0, 1].
        usable: (N,) bool; False where the whole-image mask stands in.
        size: Side S in pixels.
    """

    packed: NDArray[np.uint8]
    quality: NDArray[np.float32]
    usable: NDArray[np.bool_]
    size: int

    @property
    def missing(self) -> int:
        """Number of images that were given the whole-image mask."""
        return int((~self.usable).sum())

    def mask(self, row: int) -> NDArray[np.uint8]:
        """Return one mask as uint8 of 0 and 1, (S, S)."""
        bits = np.unpackbits(self.packed[row], count=self.size * self.size)
        return bits.reshape(self.size, self.size)


def whole_masks(count: int, size: int) -> MaskArray:
    """Return the whole-image mask with quality 0 for every image: the control ``none``.

    Args:
        count: Number of images N.
        size: Side S in pixels.
    """
    whole = _pack(np.ones((size, size), np.bool_))
    # One row in memory, seen N times.
    packed = np.broadcast_to(whole, (count, len(whole)))
    return MaskArray(packed, np.zeros(count, np.float32), np.zeros(count, np.bool_), size)


def mask_array(
    catalog: Catalog,
    store: MaskStore,
    folder: Path,
    size: int,
    control: str | None = None,
    seed: int = 0,
    *,
    in_memory: bool = True,
) -> MaskArray:
    """Return the masks of the catalog's images at cache size, made once and kept on disk.

    Args:
        catalog: The images; row i of the result belongs to row i of its table.
        store: The masks at their own resolution.
        folder: The data set's folder below the cache directory.
        size: Side S in pixels.
        control: ``shuffled``, ``random-blob`` or ``mean-template``; None for the masks
            themselves.
        seed: Seed of the random controls.
        in_memory: Read the packed masks into RAM (0.7 GB for all of NIH at 224 pixels); else
            memory-map them.

    Raises:
        MaskError: The store lacks an image of the catalog.
    """
    rules = _kept(
        folder / "masks-decoded" / f"{size}-{_identity(catalog, store)}.npz",
        lambda: _from_store(catalog, store, size),
        # A control reads the masks once, in order.
        in_memory and control is None,
    )
    if control is None:
        return rules
    train = np.flatnonzero((catalog.table["split"] == "train").to_numpy())
    make = {
        "shuffled": lambda: _shuffled(rules, catalog, seed),
        "random-blob": lambda: _random_blob(rules, seed),
        "mean-template": lambda: _mean_template(rules, train),
    }[control]
    splits = fingerprint(catalog.table["split"].tolist())
    name = f"{size}-{_identity(catalog, store)}-{control}-{_CONTROL_VERSION}-{seed}-{splits}.npz"
    return _kept(folder / "masks-decoded" / name, make, in_memory)


def mask_identity(store: MaskStore, control: str | None = None, seed: int | None = None) -> str:
    """Return the fingerprint by which ``data.json`` knows the masks of a run.

    Args:
        store: The masks at their own resolution.
        control: As for ``mask_array``.
        seed: Seed of a random control; None for the masks themselves.
    """
    return fingerprint([store.fingerprint, control, seed])


def _identity(catalog: Catalog, store: MaskStore) -> str:
    return fingerprint([store.fingerprint, catalog.table["image_id"].tolist()])


@dataclass(frozen=True)
class _Stream:
    """Masks on their way to the disk: never more than a few in memory.

    Attributes:
        packed: Yields (n, ceil(S * S / 8)) uint8, the rows in order, a few at a time.
        quality: As in ``MaskArray``, complete when ``packed`` has been read to its end.
        usable: As in ``MaskArray``, likewise.
        size: Side S in pixels.
    """

    packed: Iterator[NDArray[np.uint8]]
    quality: NDArray[np.float32]
    usable: NDArray[np.bool_]
    size: int


def _kept(base: Path, make: Callable[[], _Stream], in_memory: bool) -> MaskArray:
    # The bits lie apart, because members of an .npz cannot be memory-mapped.
    bits = base.with_suffix(".bits.npy")
    masks = _load(base, bits, in_memory)
    if masks is not None:
        return masks
    with shared_work(base.parent):
        masks = _load(base, bits, in_memory)
        if masks is None:
            made = make()
            checksum = _write_bits(bits, made)
            with atomic_path(base) as temporary, temporary.open("wb") as stream:
                np.savez(
                    stream,
                    quality=made.quality,
                    usable=made.usable,
                    size=made.size,
                    checksum=checksum,
                )
            masks = _load(base, bits, in_memory)
    if masks is None:
        raise MaskError(f"{base} cannot be read back", "check the disk of data.cache_dir")
    return masks


def _write_bits(bits: Path, made: _Stream) -> int:
    """Write the packed masks as one .npy file; return the checksum of its values."""
    shape = (len(made.quality), (made.size * made.size + 7) // 8)
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    checksum = 0
    with atomic_path(bits) as temporary, temporary.open("wb") as stream:
        np.lib.format.write_array_header_1_0(stream, header)
        for rows in made.packed:
            content = np.ascontiguousarray(rows).tobytes()
            checksum = zlib.crc32(content, checksum)
            stream.write(content)
    return checksum


def _load(base: Path, bits: Path, in_memory: bool) -> MaskArray | None:
    """Return the masks that are kept, or None where they are not there or damaged."""
    try:
        with np.load(base) as stored:
            quality, usable, size = stored["quality"], stored["usable"], int(stored["size"])
            checksum = int(stored["checksum"])
        packed = np.load(bits, mmap_mode=None if in_memory else "r")
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
        return None
    if len(packed) != len(quality) or zlib.crc32(np.ascontiguousarray(packed).data) != checksum:
        return None
    return MaskArray(packed, quality, usable, size)


def _pack(mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    return np.packbits(mask.reshape(-1))


def _from_store(catalog: Catalog, store: MaskStore, size: int) -> _Stream:
    start = whole_masks(len(catalog.table), size)
    quality, usable = start.quality, start.usable
    readable = (catalog.table["status"] == "ok").tolist()

    def rows() -> Iterator[NDArray[np.uint8]]:
        ids = catalog.table.loc[readable, "image_id"].tolist()
        read = store.read(ids)
        for row, there in enumerate(readable):
            lungs = next(read) if there else None
            if lungs is None or lungs.status == "failed":
                yield start.packed[row : row + 1]
                continue
            height, width = lungs.mask.shape
            quality[row], usable[row] = lungs.quality, True
            yield _pack(Letterbox.of((height, width), size).mask(lungs.mask))[None]

    return _Stream(rows(), quality, usable, size)


def _shuffled(rules: MaskArray, catalog: Catalog, seed: int) -> _Stream:
    # One cycle through a random order: nobody keeps its own mask. Within a split, so that no
    # mask crosses from test to training.
    other = np.arange(len(rules.quality))
    readable = catalog.table[catalog.table["status"] == "ok"]
    for number, (_, group) in enumerate(readable.groupby("split", sort=True)):
        rows = catalog.table.index.get_indexer(group.index)
        order = generator(seed, "shuffled masks", number).permutation(rows)
        other[order] = np.roll(order, 1)
    packed = (rules.packed[row : row + 1] for row in other)
    return _Stream(packed, rules.quality[other], rules.usable[other], rules.size)


def _random_blob(rules: MaskArray, seed: int) -> _Stream:
    def rows() -> Iterator[NDArray[np.uint8]]:
        for row in range(len(rules.quality)):
            packed = rules.packed[row]
            if rules.usable[row]:
                area = int(np.bitwise_count(packed).sum())
                packed = _pack(random_blob(rules.size, area, generator(seed, "random blob", row)))
            yield packed[None]

    return _Stream(rows(), rules.quality, rules.usable, rules.size)


def random_blob(size: int, area: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Return a random smooth shape of exactly ``area`` pixels, bool (size, size)."""
    # Smooth over a tenth of the side, so that a coarse field holds all of it.
    side = max(size // _BLOB_SHRINK, 8)
    coarse = cv2.GaussianBlur(rng.standard_normal((side, side), np.float32), (0, 0), side / 10)
    field = cv2.resize(coarse, (size, size), interpolation=cv2.INTER_LINEAR).ravel()
    if area == 0:
        return np.zeros((size, size), np.bool_)
    edge = np.partition(field, size * size - area)[size * size - area]
    blob = np.asarray(field > edge, dtype=np.bool_)
    # Of equal values the first pixels, so that the area is exact and the same everywhere.
    blob[np.flatnonzero(field == edge)[: area - int(blob.sum())]] = True
    return blob.reshape(size, size)


def _mean_template(rules: MaskArray, train: NDArray[np.int64]) -> _Stream:
    rows = train[rules.usable[train]]
    if len(rows) == 0:
        whole = whole_masks(len(rules.quality), rules.size)
        return _Stream(iter(whole.packed[:, None]), whole.quality, whole.usable, whole.size)
    total = np.zeros((rules.size, rules.size), np.int64)
    for row in rows:
        total += rules.mask(int(row))
    template = _pack(total * 2 >= len(rows))
    count = len(rules.quality)
    quality = np.full(count, rules.quality[rows].mean(), np.float32)
    return _Stream(repeat(template[None], count), quality, np.ones(count, np.bool_), rules.size)
