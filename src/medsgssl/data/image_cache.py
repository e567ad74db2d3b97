"""Images decoded once, at training resolution, into one memory-mapped array.

The folder holds ``images.npy`` (N, S, S) uint8, ``state.npy`` (N,) uint8, ``checksums.npy`` (N,)
uint32 and, when complete, ``cache.json``. Row i belongs to row i of the catalog's table. Workers
write disjoint rows; a row counts as done only after its pixels are on disk, so a killed build
continues where it stopped. A row whose checksum is wrong is decoded again; another process that
needs the same cache waits for the one that builds it. Where files have changed, a new cache takes
the rows of all other files from an older one beside it (``contents.json`` says what its rows were
made from). Whoever decodes the images anyhow, to draw masks, fills the cache on the way
(``filling``).
Images and masks share one geometry: they are fitted into a square, the rest is black.
"""

from __future__ import annotations

import contextlib
import functools
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from medsgssl.config.schema import MAX_PIXELS
from medsgssl.data.catalog import Catalog
from medsgssl.data.letterbox import Letterbox
from medsgssl.errors import DataError, ImageError
from medsgssl.images.apart import ApartReader, CrashCount
from medsgssl.images.intensity import INTENSITY
from medsgssl.images.reading import read_with_notes
from medsgssl.utils.io import (
    atomic_path,
    fingerprint,
    read_json,
    require_space,
    reserve,
    write_json,
)
from medsgssl.utils.locks import shared_work
from medsgssl.utils.worker_processes import map_surviving

TODO, DONE, UNUSABLE = 0, 1, 2
_CHUNK = 256
_CONTENTS = "contents.json"

Progress = Callable[[int, int], None]
_Item = tuple[int, Path]
# Stands for the pixels of an image that cannot be used.
_UNUSABLE_SUM = 0xFFFFFFFF


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
        images, sums, states = _opened(self.folder)
        square = Letterbox.of((gray.shape[0], gray.shape[1]), images.shape[1]).image(gray)
        # Nothing is flushed: the checksum tells whether the pixels reached the disk.
        images[row], sums[row] = square, zlib.crc32(square.data)
        states[row] = DONE


@functools.lru_cache(maxsize=1)
def _opened(folder: Path) -> tuple[NDArray[np.uint8], NDArray[np.uint32], NDArray[np.uint8]]:
    """Open pixels, checksums and states for writing, once per process."""
    images, sums, states = (
        np.lib.format.open_memmap(folder / f"{name}.npy", mode="r+")
        for name in ("images", "checksums", "state")
    )
    return images, sums, states


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
        state = _allocate(folder, len(table), size, _contents(catalog))
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
            _opened.cache_clear()


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
        state, sums, images = _arrays(folder, total, size)
    except (DataError, OSError, EOFError, ValueError):
        return False
    return isinstance(metadata.get("problems"), dict) and bool(
        (_checked(state, sums, images)).all()
    )


def _arrays(
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


def _checked(
    state: NDArray[np.uint8], sums: NDArray[np.uint32], images: NDArray[np.uint8]
) -> NDArray[np.bool_]:
    """Return which rows have an outcome that their checksum confirms, (N,)."""
    checked = np.asarray((state == UNUSABLE) & (sums == _UNUSABLE_SUM), np.bool_)
    for row in np.flatnonzero(state == DONE):
        checked[row] = zlib.crc32(images[row].data) == sums[row]
    return checked


def _build(
    catalog: Catalog, folder: Path, size: int, workers: int, progress: Progress | None
) -> None:
    table = catalog.table
    total = len(table)
    (folder / "cache.json").unlink(missing_ok=True)
    contents = _contents(catalog)
    state = _allocate(folder, total, size, contents)
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
    _set_rows(folder, np.flatnonzero(~readable), UNUSABLE, _UNUSABLE_SUM)
    state = np.load(folder / "state.npy")
    problems = _problems(catalog, state, reasons)
    if not (state == DONE).any():
        first = next(iter(problems.items()), ("", "the catalog has no image"))
        raise DataError(
            f"no image below {catalog.root} can be decoded; the first: {first[0]} {first[1]}",
            "check the data folder with `medsgssl catalog`",
        )
    write_json(folder / _CONTENTS, {"intensity": INTENSITY, "contents": contents})
    write_json(folder / "cache.json", {"images": total, "size": size, "problems": problems})


def _max_pixels(catalog: Catalog) -> int:
    return catalog.summary.get("max_pixels", MAX_PIXELS)


def _problems(
    catalog: Catalog, state: NDArray[np.uint8], reasons: dict[int, str]
) -> dict[str, str]:
    """Return why each row is not used; what an earlier, killed build set aside is read again."""
    rows, problems = np.flatnonzero(state == UNUSABLE), {}
    with ApartReader() as apart:
        for row, image in zip(rows, catalog.table.iloc[rows].itertuples(index=False), strict=True):
            reason = reasons.get(int(row)) or str(image.problem or image.status)
            if reason == "ok":
                try:
                    apart.read_in_worker(catalog.root / str(image.path), _max_pixels(catalog))
                except ImageError as error:
                    reason = error.problem
            problems[str(image.image_id)] = reason.replace(f"{catalog.root}/", "")
    return problems


def _allocate(folder: Path, total: int, size: int, contents: list[str]) -> NDArray[np.uint8]:
    """Return the state of an earlier, unfinished build, or begin a new one with older rows."""
    try:
        state, sums, images = _arrays(folder, total, size)
    except (OSError, EOFError, ValueError):
        pass  # not there yet, or damaged: from the beginning
    else:
        rows = np.flatnonzero(~_checked(state, sums, images))
        state[rows] = TODO
        _set_rows(folder, rows, TODO, 0)
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


def _copy_rows(older: Path, folder: Path, size: int, contents: list[str]) -> None:
    """Take over the rows of files that an older, complete cache was made from as well."""
    try:
        made = read_json(older / _CONTENTS)
        known = list(made["contents"])
        state, sums, images = _arrays(older, len(known), size)
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
        _set_rows(folder, part, DONE, sums[source])


def _set_rows(
    folder: Path, rows: NDArray[np.int64], states: int | NDArray[np.uint8], sums: Any
) -> None:
    # The state last: a row counts only with its checksum on disk.
    for name, values in (("checksums", sums), ("state", states)):
        column = np.lib.format.open_memmap(folder / f"{name}.npy", mode="r+")
        column[rows] = values
        column.flush()


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
        _set_rows(folder, np.array([row]), UNUSABLE, _UNUSABLE_SUM)
        return crashes.error(path, signal).problem

    # OpenCV's own threads would only compete.
    one_thread = functools.partial(cv2.setNumThreads, 1)
    yield from map_surviving(job, chunks, crashed, workers, one_thread)


def _decode_chunk(folder: Path, max_pixels: int, items: Sequence[_Item]) -> list[str]:
    images = np.lib.format.open_memmap(folder / "images.npy", mode="r+")
    states = np.full(len(items), DONE, np.uint8)
    sums = np.full(len(items), _UNUSABLE_SUM, np.uint32)
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
    _set_rows(folder, np.array([row for row, _ in items], np.int64), states, sums)
    return problems
