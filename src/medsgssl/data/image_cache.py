"""Images decoded once, at training resolution, into one memory-mapped array.

The folder holds ``images.npy`` (N, S, S) uint8, ``state.npy`` (N,) uint8 and, when complete,
``cache.json``. Row i belongs to row i of the catalog's table. Workers write disjoint rows; a row
counts as done only after its pixels are on disk, so a killed build continues where it stopped.
Images and masks share one geometry: they are fitted into a square, the rest is black.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from medsgssl.config.schema import MAX_PIXELS
from medsgssl.data.catalog import Catalog
from medsgssl.errors import DataError, ImageError
from medsgssl.images.intensity import INTENSITY
from medsgssl.images.reading import read_with_notes
from medsgssl.utils.io import atomic_path, fingerprint, read_json, write_json


@dataclass(frozen=True, slots=True)
class Letterbox:
    """How an image of any shape lies in the cached square.

    Attributes:
        height: Rows of the picture inside the square.
        width: Columns of the picture inside the square.
        top: First row of the picture.
        left: First column of the picture.
        size: Side of the square.
    """

    height: int
    width: int
    top: int
    left: int
    size: int

    @classmethod
    def of(cls, shape: tuple[int, int], size: int) -> Letterbox:
        """Fit ``shape`` (height, width) into a square of ``size`` pixels, aspect kept, centered."""
        scale = size / max(shape)
        height, width = (max(1, round(side * scale)) for side in shape)
        return cls(height, width, (size - height) // 2, (size - width) // 2, size)

    def image(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return a uint8 image (H, W) as (size, size); area interpolation where it shrinks."""
        shrinks = self.height < image.shape[0] or self.width < image.shape[1]
        way = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        square = np.zeros((self.size, self.size), np.uint8)
        inside = square[self.top : self.top + self.height, self.left : self.left + self.width]
        inside[...] = cv2.resize(image, (self.width, self.height), interpolation=way)
        return square

    def mask(self, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return a bool mask (H, W) as (size, size): a pixel is lung where half of its area is."""
        if mask.dtype != np.bool_:
            raise TypeError(f"masks are bool, not {mask.dtype}")
        return self.image(mask.astype(np.uint8) * 255) >= 128


TODO, DONE, UNUSABLE = 0, 1, 2
_CHUNK = 256

Progress = Callable[[int, int], None]
_Job = tuple[Path, Path, NDArray[np.int64], list[Path], int]


@dataclass(frozen=True)
class DecodedCache:
    """The decoded images of one catalog.

    Attributes:
        images: (N, S, S) uint8, memory-mapped; rows of unusable images are never read.
        usable: (N,) bool.
        problems: Image id and problem of every image that was set aside.
        folder: Where the cache lies.
    """

    images: NDArray[np.uint8]
    usable: NDArray[np.bool_]
    problems: dict[str, str]
    folder: Path

    @property
    def size(self) -> int:
        """Side S of the cached images in pixels."""
        return int(self.images.shape[1])

    def __reduce__(self) -> tuple[Callable[[Path], DecodedCache], tuple[Path]]:
        """Travel to other processes as a path: a pickled memory map would carry all pixels."""
        return open_cache, (self.folder,)


def cache_folder(place: Path, catalog: Catalog, size: int) -> Path:
    """Return where the decoded images of a catalog lie below the data set's ``place``."""
    rows = catalog.table[["image_id", "path", "status"]].to_numpy().tolist()
    content = catalog.facts.get("files_fingerprint")
    return place / "decoded" / f"{size}-{fingerprint([INTENSITY, content, rows])}"


def decode(
    catalog: Catalog, place: Path, size: int, workers: int = 0, progress: Progress | None = None
) -> DecodedCache:
    """Decode every readable image of the catalog; complete rows of an earlier try are kept.

    Args:
        catalog: The images.
        place: The data set's folder below the cache directory.
        size: Side S of the decoded square in pixels.
        workers: Processes; 0 decodes in this one.
        progress: Called with (images done, images in all).

    Returns:
        The complete cache. Images that cannot be decoded are set aside, counted and named.

    Raises:
        DataError: The disk is too small, or no image at all can be decoded.
    """
    folder = cache_folder(place, catalog, size)
    if not (folder / "cache.json").is_file():
        _build(catalog, folder, size, workers, progress)
    return open_cache(folder)


def open_cache(folder: Path) -> DecodedCache:
    """Open a complete cache, memory-mapped and read-only.

    Raises:
        DataError: The cache is missing or incomplete.
    """
    facts = read_json(folder / "cache.json")
    images = np.load(folder / "images.npy", mmap_mode="r")
    usable = np.load(folder / "state.npy") == DONE
    return DecodedCache(images, usable, facts["problems"], folder)


def _build(
    catalog: Catalog, folder: Path, size: int, workers: int, progress: Progress | None
) -> None:
    table = catalog.table
    total = len(table)
    state = _allocate(folder, total, size)
    readable = (table["status"] == "ok").to_numpy()
    state[~readable] = UNUSABLE
    pixels, flags = folder / "images.npy", folder / "state.npy"
    todo = np.flatnonzero(state == TODO)
    chunks = [todo[start : start + _CHUNK] for start in range(0, len(todo), _CHUNK)]
    paths = table["path"].tolist()
    most = _max_pixels(catalog)
    jobs = [
        (pixels, flags, rows, [catalog.root / paths[row] for row in rows], most) for rows in chunks
    ]
    done = total - len(todo)
    for count in _map(_decode_chunk, jobs, workers):
        done += count
        if progress is not None:
            progress(done, total)
    state = np.load(flags)
    state[~readable] = UNUSABLE
    _save_state(flags, state)
    problems = _problems(catalog, state)
    if not (state == DONE).any():
        first = next(iter(problems.items()), ("", "the catalog has no image"))
        raise DataError(
            f"no image below {catalog.root} can be decoded; the first: {first[0]} {first[1]}",
            "check the data folder with `medsgssl catalog`",
        )
    write_json(folder / "cache.json", {"images": total, "size": size, "problems": problems})


def _max_pixels(catalog: Catalog) -> int:
    return catalog.facts.get("max_pixels", MAX_PIXELS)


def _problems(catalog: Catalog, state: NDArray[np.uint8]) -> dict[str, str]:
    rows = np.flatnonzero(state == UNUSABLE)
    problems = {}
    for row in catalog.table.iloc[rows].itertuples(index=False):
        reason = str(row.problem or row.status)
        if row.status == "ok":
            try:
                read_with_notes(catalog.root / str(row.path), _max_pixels(catalog))
            except ImageError as error:
                reason = error.problem
        problems[str(row.image_id)] = reason
    return problems


def _allocate(folder: Path, total: int, size: int) -> NDArray[np.uint8]:
    pixels, flags = folder / "images.npy", folder / "state.npy"
    if pixels.is_file() and flags.is_file():
        return np.asarray(np.load(flags), dtype=np.uint8)
    folder.mkdir(parents=True, exist_ok=True)
    needed = total * size * size
    room = os.statvfs(folder)
    free = room.f_bavail * room.f_frsize
    if needed > free:
        raise DataError(
            f"the decoded images need {needed / 2**30:.1f} GiB in {folder}, "
            f"{free / 2**30:.1f} GiB are free",
            "set data.cache_dir to a larger disk, or data.img_size to a smaller side",
        )
    with atomic_path(pixels) as temporary:
        np.lib.format.open_memmap(temporary, mode="w+", dtype=np.uint8, shape=(total, size, size))
    state = np.zeros(total, np.uint8)
    _save_state(flags, state)
    return state


def _save_state(flags: Path, state: NDArray[np.uint8]) -> None:
    with atomic_path(flags) as temporary, temporary.open("wb") as stream:
        np.save(stream, state)


def _map(
    job: Callable[[_Job], int],
    jobs: Sequence[_Job],
    workers: int,
) -> Iterator[int]:
    if workers <= 1 or len(jobs) <= 1:
        yield from map(job, jobs)
        return
    # Before the fork: OpenCV's pool of threads does not survive one.
    cv2.setNumThreads(1)
    with ProcessPoolExecutor(workers) as pool:
        for future in as_completed([pool.submit(job, item) for item in jobs]):
            yield future.result()


def _decode_chunk(job: _Job) -> int:
    pixels, flags, rows, paths, max_pixels = job
    images = np.lib.format.open_memmap(pixels, mode="r+")
    states = np.full(len(rows), DONE, np.uint8)
    for place, (row, path) in enumerate(zip(rows, paths, strict=True)):
        try:
            image, _ = read_with_notes(path, max_pixels)
        except ImageError:
            states[place] = UNUSABLE
            continue
        images[row] = Letterbox.of((image.shape[0], image.shape[1]), images.shape[1]).image(image)
    images.flush()
    state = np.lib.format.open_memmap(flags, mode="r+")
    state[rows] = states
    state.flush()
    return len(rows)
