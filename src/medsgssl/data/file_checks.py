"""Looks at every image file once: is it there, is it whole, what is its content hash."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd

from medsgssl.config.schema import MAX_PIXELS
from medsgssl.errors import ImageError
from medsgssl.images.reading import check_file
from medsgssl.utils.system import cpu_count

Progress = Callable[[int, int], None]
FileRow = tuple[str, str, str, str]
"""Status, problem, content hash and notes of one file."""

_CHUNK = 256


def check_files(
    root: Path,
    paths: pd.Series,
    *,
    hash_content: bool,
    workers: int | None = None,
    progress: Progress | None = None,
    max_pixels: int = MAX_PIXELS,
) -> pd.DataFrame:
    """Check the files of a table.

    Args:
        root: Folder of the data set.
        paths: Paths relative to it, ``N``; ``""`` where there is no file.
        hash_content: Read whole files: slower, finds damage inside files and gives hashes.
        workers: Threads; twice the CPU count when not given, since most of the time is waiting.
        progress: Called with (files done, files in all).
        max_pixels: An image of more pixels is unreadable.

    Returns:
        ``status`` (``ok``, ``missing``, ``unreadable``), ``problem``, ``content_hash`` (128-bit
        BLAKE2 in hexadecimal, or ``""``) and ``notes`` (what in a file is passed over when it is
        read, or ``""``), ``N`` rows with the index of ``paths``.
    """
    files = paths.tolist()
    chunks = [files[start : start + _CHUNK] for start in range(0, len(files), _CHUNK)]
    results: list[FileRow] = []

    def check(chunk: Sequence[str]) -> list[FileRow]:
        return [
            _check_one(root / path if path else None, hash_content, max_pixels) for path in chunk
        ]

    with ThreadPoolExecutor(workers or 2 * cpu_count()) as pool:
        for part in pool.map(check, chunks):
            results += part
            if progress is not None:
                progress(len(results), len(files))
    columns = ["status", "problem", "content_hash", "notes"]
    return pd.DataFrame(results, index=paths.index, columns=columns, dtype="str")


def set_lateral_aside(checked: pd.DataFrame, views: pd.Series) -> pd.DataFrame:
    """Return the result of ``check_files`` with lateral views set aside as status ``lateral``."""
    lateral = (checked["status"] == "ok") & (views == "LATERAL")
    why = "a lateral view: lungs are drawn on frontal ones"
    return checked.assign(
        status=checked["status"].mask(lateral, "lateral"),
        problem=checked["problem"].mask(lateral, why),
    )


def note_warnings(checked: pd.DataFrame) -> list[str]:
    """Return one warning for each kind of note in the result of ``check_files``, with its count."""
    notes = checked.loc[checked["status"] == "ok", "notes"]
    counts = Counter(note for text in notes for note in text.split("; ") if note)
    return [f"{count} images: {note}" for note, count in counts.most_common()]


def _check_one(path: Path | None, whole: bool, max_pixels: int) -> FileRow:
    if path is None:
        return "missing", "no such image file in the data folder", "", ""
    try:
        check = check_file(path, whole=whole, max_pixels=max_pixels)
    except ImageError as error:
        return "unreadable", error.problem, "", ""
    return "ok", "", check.content_hash, "; ".join(check.notes)
