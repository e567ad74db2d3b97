"""Builds a mask store on all cores, continues a killed build, and merges shards."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from medsgssl.errors import DataError, ImageError, MaskError
from medsgssl.images.isolated_reading import CrashCount
from medsgssl.images.reading import read_hashed
from medsgssl.masks.sources import DEFAULT_GRID, ImageMaker, Maker, RecipeMaker, unreadable_row
from medsgssl.masks.store import (
    STORE_FILE,
    MaskStore,
    Row,
    StoreHeader,
    read_whole_part,
    write_part,
)
from medsgssl.utils.formatting import join_names
from medsgssl.utils.interrupts import check
from medsgssl.utils.io import atomic_path, file_hash, fingerprint, read_json, write_json
from medsgssl.utils.locks import shared_work
from medsgssl.utils.worker_processes import map_surviving

Item = tuple[str, Path]
Progress = Callable[[int, int], None]
#: Called in the worker with id, pixels (uint8, H x W) and content hash of each image decoded there.
Keep = Callable[[str, NDArray[np.uint8], str], None]

PART_IMAGES = 512
BATCH_IMAGES = 16
_HEADER_COPY = f".{STORE_FILE}.copy"


def build_store(
    folder: Path,
    items: Sequence[Item],
    recipe: str | Maker = "anatomic",
    workers: int = 0,
    *,
    progress: Progress | None = None,
    shard: tuple[int, int] = (1, 1),
    grid: int = DEFAULT_GRID,
    part_images: int = PART_IMAGES,
    keep: Keep | None = None,
) -> MaskStore:
    """Draw the masks of many images into a store.

    Parts that an earlier, interrupted call completed are kept, and no image is drawn twice; masks
    of files that have changed since, and those of a damaged part, are drawn again. Another process
    that builds the same store is waited for. At most one part is held in memory, whatever the
    number of images.

    Args:
        folder: The store; one folder per shard.
        items: ``(image_id, path)`` of the whole data set, the same list for every shard.
        recipe: Name of a recipe, or a `Maker` such as `FolderMaker`.
        workers: Number of processes; 0 works in this process, where an image on which a decoder
            crashes ends everything. Elsewhere it is set aside as unreadable.
        progress: Called with images done and images in all after every batch.
        shard: ``(i, n)``: take every n-th image from the i-th on, counted from 1.
        grid: Longer side of the stored masks in pixels.
        part_images: Images per part.
        keep: Takes every image that is decoded for its mask, so that none is decoded twice; it
            must survive pickling.

    Returns:
        The complete store of this shard.

    Raises:
        MaskError: The folder holds masks of another recipe, other constants, another list of
            images or another shard.
        DataError: Decoders crash on more than twenty images.
    """
    maker = RecipeMaker(recipe) if isinstance(recipe, str) else recipe
    header = _header(maker, items, shard, grid)
    if not (folder / STORE_FILE).exists():
        # Before the lock, which makes the folder: a refusal leaves nothing behind.
        maker.check(items)
    with shared_work(folder):
        _claim(folder, header)
        _draw(folder, items, maker, workers, progress, shard, grid, part_images, keep)
    return MaskStore.open(folder)


def _draw(
    folder: Path,
    items: Sequence[Item],
    maker: Maker,
    workers: int,
    progress: Progress | None,
    shard: tuple[int, int],
    grid: int,
    part_images: int,
    keep: Keep | None,
) -> None:
    i, n = shard
    mine = items[i - 1 :: n]
    done = _keep_valid(folder, dict(mine))
    waiting = [item for item in mine if item[0] not in done]
    finished = len(done)
    number = len(list(folder.glob("part-*.parquet")))
    rows: list[Row] = []
    for batch in _made(maker, waiting, workers, grid, keep):
        check()
        rows.extend(batch)
        finished += len(batch)
        while len(rows) >= part_images:
            number = _write(folder, shard, number, rows[:part_images])
            rows = rows[part_images:]
        if progress is not None:
            progress(finished, len(mine))
    if rows:
        _write(folder, shard, number, rows)


def _header(maker: Maker, items: Sequence[Item], shard: tuple[int, int], grid: int) -> StoreHeader:
    i, n = shard
    if not 1 <= i <= n:
        raise MaskError(f"shard {i}/{n} does not exist", f"give a shard from 1/{n} to {n}/{n}")
    ids = [image_id for image_id, _ in items]
    if len(set(ids)) != len(ids):
        raise MaskError("the list of images names an image id twice", "make the image ids unique")
    return StoreHeader(
        recipe=maker.name,
        recipe_version=maker.version,
        parameter_hash=maker.parameter_hash,
        grid=grid,
        images=len(ids),
        images_hash=fingerprint(ids),
        opencv=cv2.__version__,
        shard=shard,
    )


def _claim(folder: Path, header: StoreHeader) -> None:
    """Write the header of a new store, or compare with that of the store to be continued.

    A second copy of the header lies beside it: a damaged one is written again where the copy says
    that the store is the one that is wanted.
    """
    copy = folder / _HEADER_COPY
    begun = (folder / STORE_FILE).exists() or any(folder.glob("part-*.parquet"))
    if not begun or _holds(copy, header):
        if not _holds(folder / STORE_FILE, header):
            write_json(folder / STORE_FILE, header.as_json())
        if not begun:
            write_json(copy, header.as_json())
        return
    if not (folder / STORE_FILE).exists():
        raise MaskError(f"{folder} holds parts but no {STORE_FILE}", "choose a new folder")
    held = StoreHeader.read(folder)
    if held == header:
        write_json(copy, header.as_json())
        return
    differing = [
        f"{name} {value!r} (wanted: {header.as_json()[name]!r})"
        for name, value in held.as_json().items()
        if value != header.as_json()[name]
    ]
    raise MaskError(
        f"{folder} holds other masks: {', '.join(differing)}",
        "choose another folder for --out",
    )


def _holds(source: Path, header: StoreHeader) -> bool:
    """Whether a file can be read and holds this very header."""
    try:
        return bool(read_json(source) == json.loads(json.dumps(header.as_json())))
    except DataError:
        return False


def _keep_valid(folder: Path, paths: Mapping[str, Path]) -> set[str]:
    """Return the images whose masks are done; rows that are damaged or out of date are dropped."""
    done: set[str] = set()
    for part in sorted(folder.glob("part-*.parquet")):
        try:
            frame = read_whole_part(part)
        except MaskError:
            part.unlink()
            continue
        current = [
            image_id not in paths or stamp == _stamp(paths[image_id])
            or content == _content(paths[image_id])
            for image_id, stamp, content in frame[["image_id", "stamp", "content"]].itertuples(
                index=False
            )
        ]  # fmt: skip
        twice = frame["image_id"].isin(done) | frame["image_id"].duplicated()
        kept = frame[np.array(current, bool) & ~twice]
        if kept.empty:
            part.unlink()
        elif len(kept) < len(frame):
            write_part(
                part,
                [
                    Row(**{str(name): value for name, value in row.items()})
                    for row in kept.to_dict("records")
                ],
            )
        done |= set(kept["image_id"])
    return done


def _write(folder: Path, shard: tuple[int, int], number: int, rows: Sequence[Row]) -> int:
    """Write the next part under a name that no other shard uses; return the next number."""
    i, n = shard
    while True:
        target = folder / f"part-{i:04d}of{n:04d}-{number:05d}.parquet"
        number += 1
        if not target.exists():
            write_part(target, rows)
            return number


def _made(
    maker: Maker, items: Sequence[Item], workers: int, grid: int, keep: Keep | None
) -> Iterator[list[Row]]:
    """Yield the rows of the items in order, a batch at a time."""
    batches = (items[start : start + BATCH_IMAGES] for start in range(0, len(items), BATCH_IMAGES))
    if workers == 0:
        for batch in batches:
            yield _make_batch(maker, batch, grid, keep)
        return
    crashes = CrashCount()

    def crashed(item: Item, signal: str) -> Row:
        image_id, path = item
        row = unreadable_row(image_id, crashes.error(path, signal))
        return replace(row, stamp=_stamp(path), content=_content(path))

    job = partial(_make_kept_batch, maker, grid)
    # Fresh processes: OpenCV's threads do not survive a fork.
    yield from map_surviving(job, batches, crashed, workers, partial(_start_worker, keep))


# What a worker process was started with: sent once, not with every batch.
_kept_by: list[Keep] = []


def _start_worker(keep: Keep | None) -> None:
    """One core per process: OpenCV's own threads would only compete."""
    cv2.setNumThreads(1)
    _kept_by[:] = [] if keep is None else [keep]


def _make_kept_batch(maker: Maker, grid: int, items: Sequence[Item]) -> list[Row]:
    return _make_batch(maker, items, grid, _kept_by[0] if _kept_by else None)


def _make_batch(
    maker: Maker, items: Sequence[Item], grid: int, keep: Keep | None = None
) -> list[Row]:
    rows = []
    for image_id, path in items:
        # Before the image is read: a file that changes meanwhile is then drawn again.
        stamp = _stamp(path)
        row, content = _row_and_content(maker, image_id, path, grid, keep)
        rows.append(replace(row, stamp=stamp, content=content))
    return rows


def _row_and_content(
    maker: Maker, image_id: str, path: Path, grid: int, keep: Keep | None
) -> tuple[Row, str]:
    """Return the row of an image and the hash of its file, read and decoded once."""
    if not isinstance(maker, ImageMaker):
        content = _content(path)
        return maker.make(image_id, path, grid), content
    try:
        gray, content = read_hashed(path, maker.max_pixels)
    except ImageError as error:
        return unreadable_row(image_id, error), _content(path)
    if keep is not None:
        keep(image_id, gray, content)
    return maker.draw_row(image_id, gray, grid), content


def _stamp(path: Path) -> str:
    """Return size and time of a file as text, empty where it cannot be looked at."""
    try:
        status = path.stat()
    except OSError:
        return ""
    return f"{status.st_size}-{max(status.st_mtime_ns, status.st_ctime_ns)}"


def _content(path: Path) -> str:
    """Return the hash of a file, empty where it cannot be read."""
    try:
        return file_hash(path)
    except OSError:
        return ""


def merge_shards(folders: Sequence[Path], out: Path) -> MaskStore:
    """Join the complete shards of one data set.

    Args:
        folders: One store per shard, in any order.
        out: Folder of the joined store; it must not hold a store yet.

    Returns:
        The joined store.

    Raises:
        MaskError: A shard is missing, incomplete, given twice or of other masks.
    """
    if not folders:
        raise MaskError("there are no shards to merge", "name the folders of all shards")
    if (out / STORE_FILE).exists() or any(out.glob("part-*.parquet")):
        raise MaskError(f"{out} already holds masks", "choose a new folder")
    stores = [MaskStore.open(folder) for folder in folders]
    whole = replace(stores[0].header, shard=(1, 1))
    for store in stores:
        if replace(store.header, shard=(1, 1)) != whole:
            raise MaskError(
                f"{store.folder} was made by another recipe or for other images than "
                f"{stores[0].folder}",
                "make all shards with the same recipe, version and data set",
            )
        if not store.complete:
            raise MaskError(
                f"{store.folder} holds {len(store)} of {store.header.expected} images",
                "finish this shard by running its command again",
            )
    _check_all_present(stores)
    for store in stores:
        for part in sorted(store.folder.glob("part-*.parquet")):
            with atomic_path(out / part.name) as temporary:
                shutil.copyfile(part, temporary)
    write_json(out / STORE_FILE, whole.as_json())
    return MaskStore.open(out)


def _check_all_present(stores: Sequence[MaskStore]) -> None:
    count = stores[0].header.shard[1]
    given = sorted(store.header.shard for store in stores)
    expected = [(i, count) for i in range(1, count + 1)]
    if given != expected:
        missing = [f"{i}/{n}" for i, n in expected if (i, n) not in given]
        problem = f"missing: {join_names(missing)}" if missing else "a shard is given twice"
        raise MaskError(
            f"the {len(stores)} folders are not the {count} shards of one data set ({problem})",
            "name the folder of every shard exactly once",
        )
