"""Images decoded once, at training resolution, into one memory-mapped array.

Row i belongs to row i of the catalog's table; ``cache_rows.py`` has the files. Workers write
disjoint rows, and a killed build continues where it stopped. A row whose checksum is wrong is
decoded again; another process that needs the same cache waits for the one that builds it. Where
files have changed, a new cache takes the rows of all other files from an older one beside it.
Whoever decodes the images anyhow, to draw masks, fills the cache on the way (``filling``).
Images and masks share one geometry: they are fitted into a square, the rest is black.
"""

from __future__ import annotations

import contextlib
import functools
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from medsgssl.config.schema import MAX_PIXELS
from medsgssl.data.cache_rows import (
    DONE,
    TODO,
    UNUSABLE,
    UNUSABLE_SUM,
    allocate,
    arrays_for_writing,
    confirmed_rows,
    open_arrays,
    set_rows,
    write_contents,
)
from medsgssl.data.catalog import Catalog
from medsgssl.data.letterbox import Letterbox
from medsgssl.errors import DataError, ImageError
from medsgssl.images.intensity import INTENSITY
from medsgssl.images.isolated_reading import CrashCount, IsolatedReader
from medsgssl.images.reading import read_with_notes
from medsgssl.utils.io import (
    fingerprint,
    read_json,
    write_json,
)
from medsgssl.utils.locks import shared_work
from medsgssl.utils.worker_processes import map_surviving

_CHUNK = 256

Progress = Callable[[int, int], None]
_Item = tuple[int, Path]


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


def cache_folder(parent: Path, catalog: Catalog, size: int) -> Path:
    """Return where the decoded images of a catalog lie below the data set's ``parent`` folder."""
    rows = catalog.table[["image_id", "path", "status"]].to_numpy().tolist()
    content = catalog.summary.get("files_fingerprint")
    return parent / "decoded" / f"{size}-{fingerprint([INTENSITY, content, rows])}"


def decode(
    catalog: Catalog, parent: Path, size: int, workers: int = 0, progress: Progress | None = None
) -> DecodedCache:
    """Decode every readable image of the catalog; complete rows of an earlier try are kept.

    Args:
        catalog: The images.
        parent: The data set's folder below the cache directory.
        size: Side S of the decoded square in pixels.
        workers: Processes; 0 decodes in this one.
        progress: Called with (images done, images in all).

    Returns:
        The complete cache. Images that cannot be decoded are set aside, counted and named.

    Raises:
        DataError: The disk is too small, or no image at all can be decoded.
    """
    folder = cache_folder(parent, catalog, size)
    if not _is_intact(folder, len(catalog.table), size):
        with shared_work(folder):
            if not _is_intact(folder, len(catalog.table), size):
                _build(catalog, folder, size, workers, progress)
    return open_cache(folder)


@dataclass(frozen=True)
class CacheWriter:
    """Puts decoded images into their rows, from any process; rows that are there stay.

    Attributes:
        folder: An allocated cache.
        rows: Row of each image id.
        contents: Content hash of each image id; of other content nothing is kept.
    """

    folder: Path
    rows: dict[str, int]
    contents: dict[str, str]

    def __call__(self, image_id: str, gray: NDArray[np.uint8], content: str) -> None:
        """Fit one image into its row.

        Args:
            image_id: The image's key; one that has no row here is passed over.
            gray: Its pixels, uint8 (H, W).
            content: Hash of the bytes that they were decoded from.
        """
        row = self.rows.get(image_id)
        if row is None or self.contents[image_id] != content:
            return
        images, sums, states = arrays_for_writing(self.folder)
        square = Letterbox.of((gray.shape[0], gray.shape[1]), images.shape[1]).image(gray)
        # Nothing is flushed: the checksum tells whether the pixels reached the disk.
        images[row], sums[row] = square, zlib.crc32(square.data)
        states[row] = DONE


@contextlib.contextmanager
def filling(catalog: Catalog, parent: Path, size: int) -> Iterator[CacheWriter | None]:
    """Hold the cache of a catalog, to be filled by whoever decodes its images anyhow.

    ``decode`` afterwards does what is left, and completes the cache.

    Args:
        catalog: The images, with their content hashes.
        parent: The data set's folder below the cache directory.
        size: Side S of the decoded square in pixels.

    Yields:
        What takes decoded images; None where all are there.
    """
    folder, table = cache_folder(parent, catalog, size), catalog.table
    if _is_intact(folder, len(table), size):
        yield None
        return
    with shared_work(folder):
        (folder / "cache.json").unlink(missing_ok=True)
        state = allocate(folder, len(table), size, _contents(catalog))
        rows = np.flatnonzero((state == TODO) & (table["status"] == "ok").to_numpy())
        ids = table["image_id"].iloc[rows].tolist()
        contents = table["content_hash"].iloc[rows].tolist()
        writer = CacheWriter(
            folder,
            dict(zip(ids, rows.tolist(), strict=True)),
            dict(zip(ids, contents, strict=True)),
        )
        try:
            yield writer if ids else None
        finally:
            arrays_for_writing.cache_clear()


def _contents(catalog: Catalog) -> list[str]:
    """Return the content hash of each row, empty where the image cannot be used or is not known."""
    table = catalog.table
    return table["content_hash"].where(table["status"] == "ok", "").tolist()


def open_cache(folder: Path) -> DecodedCache:
    """Open a complete cache, memory-mapped and read-only.

    Raises:
        DataError: The cache is missing or incomplete.
    """
    metadata = read_json(folder / "cache.json")  # written last
    images = np.load(folder / "images.npy", mmap_mode="r")
    usable = np.load(folder / "state.npy") == DONE
    return DecodedCache(images, usable, metadata["problems"], folder)


def _is_intact(folder: Path, total: int, size: int) -> bool:
    """Whether a cache is complete, of the right shape, and every row as it was written."""
    try:
        metadata = read_json(folder / "cache.json")
        state, sums, images = open_arrays(folder, total, size)
    except (DataError, OSError, EOFError, ValueError):
        return False
    return isinstance(metadata.get("problems"), dict) and bool(
        (confirmed_rows(state, sums, images)).all()
    )


def _build(
    catalog: Catalog, folder: Path, size: int, workers: int, progress: Progress | None
) -> None:
    table = catalog.table
    total = len(table)
    (folder / "cache.json").unlink(missing_ok=True)
    contents = _contents(catalog)
    state = allocate(folder, total, size, contents)
    readable = (table["status"] == "ok").to_numpy()
    todo = np.flatnonzero((state == TODO) & readable)
    paths = table["path"].tolist()
    items = [(int(row), catalog.root / paths[row]) for row in todo]
    chunks = [items[start : start + _CHUNK] for start in range(0, len(items), _CHUNK)]
    done = total - len(todo)
    reasons: dict[int, str] = {}
    for chunk, results in zip(chunks, _decoded(folder, chunks, catalog, workers), strict=True):
        reasons |= {row: text for (row, _), text in zip(chunk, results, strict=True) if text}
        done += len(chunk)
        if progress is not None:
            progress(done, total)
    set_rows(folder, np.flatnonzero(~readable), UNUSABLE, UNUSABLE_SUM)
    state = np.load(folder / "state.npy")
    problems = _problems(catalog, state, reasons)
    if not (state == DONE).any():
        first = next(iter(problems.items()), ("", "the catalog has no image"))
        raise DataError(
            f"no image below {catalog.root} can be decoded; the first: {first[0]} {first[1]}",
            "check the data folder with `medsgssl catalog`",
        )
    write_contents(folder, contents)
    write_json(folder / "cache.json", {"images": total, "size": size, "problems": problems})


def _max_pixels(catalog: Catalog) -> int:
    return catalog.summary.get("max_pixels", MAX_PIXELS)


def _problems(
    catalog: Catalog, state: NDArray[np.uint8], reasons: dict[int, str]
) -> dict[str, str]:
    """Return why each row is not used; what an earlier, killed build set aside is read again."""
    rows, problems = np.flatnonzero(state == UNUSABLE), {}
    with IsolatedReader() as reader:
        for row, image in zip(rows, catalog.table.iloc[rows].itertuples(index=False), strict=True):
            reason = reasons.get(int(row)) or str(image.problem or image.status)
            if reason == "ok":
                try:
                    reader.read_in_worker(catalog.root / str(image.path), _max_pixels(catalog))
                except ImageError as error:
                    reason = error.problem
            problems[str(image.image_id)] = reason.replace(f"{catalog.root}/", "")
    return problems


def _decoded(
    folder: Path, chunks: Sequence[list[_Item]], catalog: Catalog, workers: int
) -> Iterator[list[str]]:
    """Decode chunk after chunk into the cache; yield what is wrong with each image, or ""."""
    job = functools.partial(_decode_chunk, folder, _max_pixels(catalog))
    if workers <= 1 or len(chunks) <= 1:
        yield from map(job, chunks)
        return
    crashes = CrashCount()

    def crashed(item: _Item, signal: str) -> str:
        row, path = item
        set_rows(folder, np.array([row]), UNUSABLE, UNUSABLE_SUM)
        return crashes.error(path, signal).problem

    # OpenCV's own threads would only compete.
    one_thread = functools.partial(cv2.setNumThreads, 1)
    yield from map_surviving(job, chunks, crashed, workers, one_thread)


def _decode_chunk(folder: Path, max_pixels: int, items: Sequence[_Item]) -> list[str]:
    images = np.lib.format.open_memmap(folder / "images.npy", mode="r+")
    states = np.full(len(items), DONE, np.uint8)
    sums = np.full(len(items), UNUSABLE_SUM, np.uint32)
    problems = [""] * len(items)
    for index, (row, path) in enumerate(items):
        try:
            image, _ = read_with_notes(path, max_pixels)
        except ImageError as error:
            states[index], problems[index] = UNUSABLE, error.problem
            continue
        square = Letterbox.of((image.shape[0], image.shape[1]), images.shape[1]).image(image)
        images[row], sums[index] = square, zlib.crc32(square.data)
    images.flush()
    set_rows(folder, np.array([row for row, _ in items], np.int64), states, sums)
    return problems
