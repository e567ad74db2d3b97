"""Checks every image file once, and sets aside what is missing, corrupt or cannot be decoded.

``images/integrity.py`` decides what is wrong with a file. Here it becomes the ``status`` and the
``problem`` of the file's row in the catalog: no row is dropped, ``Catalog.usable()`` leaves these
out, ``audit.py`` counts them, and a run lists them in ``set_aside.csv`` (``prepare.py``). What
shows only when ``image_cache.py`` decodes is set aside there.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

import cv2
import pandas as pd

from medsgssl.config.schema import MAX_PIXELS
from medsgssl.errors import ImageError, printable
from medsgssl.images.isolated_reading import CrashCount
from medsgssl.images.reading import FileCheck, check_file, check_structure
from medsgssl.runs.data_summary import FormatCount
from medsgssl.utils.formatting import plural
from medsgssl.utils.system import cpu_count
from medsgssl.utils.worker_processes import map_surviving

Progress = Callable[[int, int], None]


class FileRow(NamedTuple):
    """What is known of one file; the columns of ``check_files``."""

    status: str
    problem: str = ""
    content_hash: str = ""
    notes: str = ""
    kind: str = ""
    transfer_syntax: str = ""
    install: str = ""
    reason: str = ""
    rotated: bool = False


_CHUNK = 256
_DECODED_AT_ONCE = 16


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
            What must be decoded (DICOM with ``hash_content``, TIFF, BMP, WebP) is decoded in other
            processes, one per CPU: a decoder that crashes costs one file.
        progress: Called with (files done, files in all).
        max_pixels: An image of more pixels is unreadable.

    Returns:
        ``status`` (``ok``, ``missing``, ``unreadable``), ``problem``, ``content_hash`` (128-bit
        BLAKE2 in hexadecimal, or ``""``), ``notes`` (what in a file is passed over when it is
        read, or ``""``), ``kind`` (``png``, ...; ``""`` where unreadable for another reason than a
        missing decoder), ``transfer_syntax`` (UID, of DICOM), ``install`` (what brings a missing
        decoder), ``reason`` (the problem without names and numbers) and ``rotated`` (has a
        rotation tag); ``N`` rows with the index of ``paths``.
    """
    files = paths.tolist()
    results: dict[int, FileRow] = {}

    def show() -> None:
        if progress is not None:
            progress(len(results), len(files))

    def check(rows: Sequence[int]) -> dict[int, FileRow | None]:
        return {
            row: _check_one(root / files[row] if files[row] else None, hash_content, max_pixels)
            for row in rows
        }

    with ThreadPoolExecutor(workers or 2 * cpu_count()) as pool:
        for part in pool.map(check, _chunks(range(len(files)), _CHUNK)):
            results |= {row: checked for row, checked in part.items() if checked is not None}
            show()
    undecided = [row for row in range(len(files)) if row not in results]
    for batch, checks in _decoded(root, files, undecided, hash_content, max_pixels):
        results |= dict(zip(batch, checks, strict=True))
        show()
    ordered = [results[row] for row in range(len(files))]
    frame = pd.DataFrame(ordered, index=paths.index, columns=list(FileRow._fields), dtype="str")
    return frame.assign(rotated=[row.rotated for row in ordered])


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
    return [f"{count} {plural(count, 'image')}: {note}" for note, count in counts.most_common()]


def file_formats(checked: pd.DataFrame) -> list[FormatCount]:
    """Count the result of ``check_files`` by format, most frequent first.

    Files whose decoder is missing are counted with what to install; others that cannot be read
    are not, since nobody knows what they are.
    """
    keys = ["kind", "transfer_syntax", "install"]
    rows = checked.loc[checked["kind"] != "", keys].itertuples(index=False, name=None)
    counts: Counter[tuple[str, str, str]] = Counter(rows)
    return [
        FormatCount(
            format=_format_name(kind, syntax),
            files=files,
            transfer_syntax=syntax,
            readable=not install,
            install=install,
        )
        for (kind, syntax, install), files in counts.most_common()
    ]


def decoders_changed(formats: Sequence[FormatCount]) -> bool:
    """Return whether files can be decoded now that could not when they were counted, or reverse."""
    compressed = [row for row in formats if row["transfer_syntax"]]
    if not compressed:
        return False
    from medsgssl.images.decoders import INSTALL_12_BIT, is_readable  # noqa: PLC0415

    return any(
        is_readable(row["transfer_syntax"], 12 if row["install"] == INSTALL_12_BIT else 8)
        != row["readable"]
        for row in compressed
    )


def set_aside_reasons(checked: pd.DataFrame) -> dict[str, int]:
    """Count the unreadable files in the result of ``check_files`` by reason, most frequent first.

    Numbers and names are left out of the reasons, so that equal ones can be counted.
    """
    reasons = checked.loc[checked["status"] == "unreadable", "reason"]
    return {str(reason): int(count) for reason, count in reasons.value_counts().items()}


def _format_name(kind: str, syntax: str) -> str:
    if not syntax:
        return kind.upper()
    # pydicom is slow to import, and most data sets are PNG.
    from medsgssl.images.decoders import syntax_name  # noqa: PLC0415

    return f"{kind.upper()} ({syntax_name(syntax)})"


def _reason(problem: str, path: Path) -> str:
    """Return a problem without the file's name and without numbers."""
    text = problem.removeprefix(printable(str(path))).strip()
    head = text if "decoder" in text else text.split(":")[0]
    return re.sub(r"\d+(?:[.,]\d+)*", "N", head) if "decoder" not in text else head


def _chunks(rows: Sequence[int], size: int) -> list[Sequence[int]]:
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def _check_one(path: Path | None, whole: bool, max_pixels: int) -> FileRow | None:
    """Return the row of a file, or None where it must be decoded for that."""
    if path is None:
        return FileRow("missing", "no such image file in the data folder")
    try:
        check = check_structure(path, whole=whole, max_pixels=max_pixels)
    except ImageError as error:
        return _unreadable(path, error)
    return None if check is None else _readable(check)


def _decoded(
    root: Path, files: Sequence[str], rows: Sequence[int], whole: bool, max_pixels: int
) -> Iterator[tuple[Sequence[int], list[FileRow]]]:
    """Check files by decoding them in other processes, which a decoder may crash."""
    batches, crashes = _chunks(rows, _DECODED_AT_ONCE), CrashCount()
    if not batches:
        return

    def crashed(path: Path, signal: str) -> FileRow:
        return _unreadable(path, crashes.error(path, signal))

    checked = map_surviving(
        partial(_decode, whole, max_pixels),
        ([root / files[row] for row in batch] for batch in batches),
        crashed,
        min(cpu_count(), len(batches)),
        partial(cv2.setNumThreads, 1),
    )
    yield from zip(batches, checked, strict=True)


def _decode(whole: bool, max_pixels: int, paths: Sequence[Path]) -> list[FileRow]:
    rows = []
    for path in paths:
        try:
            rows.append(_readable(check_file(path, whole=whole, max_pixels=max_pixels)))
        except ImageError as error:
            rows.append(_unreadable(path, error))
    return rows


def _unreadable(path: Path, error: ImageError) -> FileRow:
    syntax = str(getattr(error, "transfer_syntax", ""))
    return FileRow(
        "unreadable",
        error.problem,
        kind="dicom" if syntax else "",
        transfer_syntax=syntax,
        install=error.fix if syntax else "",
        reason=_reason(error.problem, path),
    )


def _readable(check: FileCheck) -> FileRow:
    return FileRow(
        "ok",
        content_hash=check.content_hash,
        notes="; ".join(check.notes),
        kind=check.kind,
        transfer_syntax=check.transfer_syntax,
        rotated=check.orientation != 1,
    )
