"""Looks at every image file once: is it there, is it whole, what is its content hash."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd

from medsgssl.errors import ImageError
from medsgssl.images.integrity import check_image, read_checked
from medsgssl.utils.system import cpu_count

Progress = Callable[[int, int], None]

_CHUNK = 256


def check_files(
    root: Path,
    paths: pd.Series,
    *,
    hash_content: bool,
    workers: int | None = None,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """Check the files of a table.

    Args:
        root: Folder of the data set.
        paths: Paths relative to it, ``N``; ``""`` where there is no file.
        hash_content: Read whole files: slower, finds damage inside PNGs and gives hashes.
        workers: Threads; twice the CPU count when not given, since most of the time is waiting.
        progress: Called with (files done, files in all).

    Returns:
        ``status`` (``ok``, ``missing``, ``unreadable``), ``problem`` and ``content_hash`` (128-bit
        BLAKE2 in hexadecimal, or ``""``), ``N`` rows with the index of ``paths``.
    """
    files = paths.tolist()
    chunks = [files[start : start + _CHUNK] for start in range(0, len(files), _CHUNK)]
    results: list[tuple[str, str, str]] = []
    with ThreadPoolExecutor(workers or 2 * cpu_count()) as pool:
        for part in pool.map(lambda chunk: _check_chunk(root, chunk, hash_content), chunks):
            results += part
            if progress is not None:
                progress(len(results), len(files))
    columns = ["status", "problem", "content_hash"]
    return pd.DataFrame(results, index=paths.index, columns=columns, dtype="str")


def set_lateral_aside(checked: pd.DataFrame, views: pd.Series) -> pd.DataFrame:
    """Return the result of ``check_files`` with lateral views set aside as status ``lateral``."""
    lateral = (checked["status"] == "ok") & (views == "LATERAL")
    why = "a lateral view: lungs are drawn on frontal ones"
    return checked.assign(
        status=checked["status"].mask(lateral, "lateral"),
        problem=checked["problem"].mask(lateral, why),
    )


def _check_chunk(root: Path, paths: Sequence[str], whole: bool) -> list[tuple[str, str, str]]:
    return [_check_one(root / path if path else None, whole) for path in paths]


def _check_one(path: Path | None, whole: bool) -> tuple[str, str, str]:
    if path is None:
        return "missing", "no such image file in the data folder", ""
    try:
        if whole:
            content, _ = read_checked(path)
            return "ok", "", hashlib.blake2b(content, digest_size=16).hexdigest()
        check_image(path)
    except ImageError as error:
        return "unreadable", error.problem, ""
    return "ok", "", ""
