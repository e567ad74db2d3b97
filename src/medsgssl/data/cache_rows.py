"""The files of the decoded cache, row by row: allocated, checked, taken over from older caches.

The folder holds ``images.npy`` (N, S, S) uint8, ``state.npy`` (N,) uint8, ``checksums.npy`` (N,)
uint32 and, when complete, ``contents.json`` (what the rows were made from) and ``cache.json``. A
row counts as done only after its pixels are on disk and its checksum (CRC-32) confirms them.
"""

from __future__ import annotations

import functools
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medsgssl.errors import DataError
from medsgssl.images.intensity import INTENSITY
from medsgssl.utils.io import atomic_path, read_json, require_space, reserve, write_json

TODO, DONE, UNUSABLE = 0, 1, 2
#: Stands for the pixels of an image that cannot be used.
UNUSABLE_SUM = 0xFFFFFFFF
_CHUNK = 256
_CONTENTS = "contents.json"


def open_arrays(
    folder: Path, total: int, size: int
) -> tuple[NDArray[np.uint8], NDArray[np.uint32], NDArray[np.uint8]]:
    """Return state, checksums and images, which are memory-mapped.

    Raises:
        OSError, EOFError: A file is missing or empty.
        ValueError: A file is damaged or of another shape.
    """
    state, sums = np.load(folder / "state.npy"), np.load(folder / "checksums.npy")
    images = np.load(folder / "images.npy", mmap_mode="r")
    if state.shape != (total,) or sums.shape != (total,) or images.shape != (total, size, size):
        raise ValueError("the shapes are those of other images")
    return state, sums, images


def confirmed_rows(
    state: NDArray[np.uint8], sums: NDArray[np.uint32], images: NDArray[np.uint8]
) -> NDArray[np.bool_]:
    """Return which rows have an outcome that their checksum confirms, (N,)."""
    checked = np.asarray((state == UNUSABLE) & (sums == UNUSABLE_SUM), np.bool_)
    for row in np.flatnonzero(state == DONE):
        checked[row] = zlib.crc32(images[row].data) == sums[row]
    return checked


def allocate(folder: Path, total: int, size: int, contents: list[str]) -> NDArray[np.uint8]:
    """Return the state of an earlier, unfinished build, or begin a new one with older rows.

    Args:
        folder: Of the cache.
        total: Number of rows N.
        size: Side S of the images in pixels.
        contents: Content hash of each row's file, empty where it cannot be used.

    Returns:
        ``TODO``, ``DONE`` or ``UNUSABLE`` of each row, (N,).

    Raises:
        ResourceError: The disk is too small.
    """
    try:
        state, sums, images = open_arrays(folder, total, size)
    except (OSError, EOFError, ValueError):
        pass  # not there yet, or damaged: from the beginning
    else:
        rows = np.flatnonzero(~confirmed_rows(state, sums, images))
        state[rows] = TODO
        set_rows(folder, rows, TODO, 0)
        return state
    for name in ("images.npy", "state.npy", "checksums.npy"):
        (folder / name).unlink(missing_ok=True)
    needed = total * size * size
    require_space(
        folder,
        needed,
        "the decoded images",
        "set data.cache_dir to a folder on a larger disk, or data.img_size to a smaller side",
    )
    with atomic_path(folder / "images.npy") as temporary:
        np.lib.format.open_memmap(temporary, mode="w+", dtype=np.uint8, shape=(total, size, size))
        reserve(temporary, temporary.stat().st_size)
    for name, dtype in (("checksums", np.uint32), ("state", np.uint8)):
        with atomic_path(folder / f"{name}.npy") as temporary, temporary.open("wb") as stream:
            np.save(stream, np.zeros(total, dtype))
    for older in sorted(folder.parent.glob(f"{size}-*")):
        if older != folder:
            _copy_rows(older, folder, size, contents)
    return np.asarray(np.load(folder / "state.npy"), np.uint8)


def write_contents(folder: Path, contents: list[str]) -> None:
    """Note the content hash of each row's file, for caches that take over rows later."""
    write_json(folder / _CONTENTS, {"intensity": INTENSITY, "contents": contents})


def _copy_rows(older: Path, folder: Path, size: int, contents: list[str]) -> None:
    """Take over the rows of files that an older, complete cache was made from as well."""
    try:
        made = read_json(older / _CONTENTS)
        known = list(made["contents"])
        state, sums, images = open_arrays(older, len(known), size)
        if made["intensity"] != INTENSITY:
            return
    except (DataError, OSError, EOFError, ValueError, KeyError, TypeError):
        return  # of an earlier version, unfinished or damaged: its images are decoded again
    row_of = {content: row for row, content in enumerate(known) if state[row] == DONE}
    row_of.pop("", None)
    todo = np.flatnonzero(np.load(folder / "state.npy") == TODO)
    rows = np.array([row for row in todo if contents[row] in row_of], np.int64)
    target = np.lib.format.open_memmap(folder / "images.npy", mode="r+")
    for start in range(0, len(rows), _CHUNK):
        part = rows[start : start + _CHUNK]
        source = np.array([row_of[contents[row]] for row in part])
        whole = [zlib.crc32(images[row].data) == sums[row] for row in source]
        part, source = part[whole], source[whole]
        target[part] = images[source]
        set_rows(folder, part, DONE, sums[source])


def set_rows(
    folder: Path,
    rows: NDArray[np.int64],
    states: int | NDArray[np.uint8],
    sums: int | NDArray[np.uint32],
) -> None:
    """Write states and checksums of some rows to the disk."""
    # The state last: a row counts only with its checksum on disk.
    for name, values in (("checksums", sums), ("state", states)):
        column = np.lib.format.open_memmap(folder / f"{name}.npy", mode="r+")
        column[rows] = values
        column.flush()


@functools.lru_cache(maxsize=1)
def arrays_for_writing(
    folder: Path,
) -> tuple[NDArray[np.uint8], NDArray[np.uint32], NDArray[np.uint8]]:
    """Open pixels, checksums and states for writing, once per process."""
    images, sums, states = (
        np.lib.format.open_memmap(folder / f"{name}.npy", mode="r+")
        for name in ("images", "checksums", "state")
    )
    return images, sums, states
