"""Atomic writes, JSON and fingerprints: a killed process never leaves half a file."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medsgssl.errors import DataError, ResourceError

if TYPE_CHECKING:
    import pandas as pd

_TEMPORARY = ".tmp"


@contextlib.contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``target`` that replaces it when the block succeeds.

    Args:
        target: The file to write; its folder is created.

    Yields:
        The path to write to. It is removed when the block raises, and ``target`` stays as it was.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(
        prefix=f".{target.name[:100]}.", suffix=_TEMPORARY, dir=target.parent
    )
    os.close(descriptor)
    temporary = Path(name)
    try:
        yield temporary
        # mkstemp makes private files; results are to be as readable as the user's umask says.
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        with temporary.open("rb") as stream:
            os.fsync(stream.fileno())
        temporary.replace(target)
        sync_folder(target.parent)
    finally:
        temporary.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable, where the system can: a rename is lost without."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:  # no such call on Windows
        return
    try:
        os.fsync(descriptor)
    except OSError:
        pass  # some network file systems have none
    finally:
        os.close(descriptor)


def sweep_temporary(folder: Path) -> None:
    """Remove what killed processes left of ``atomic_path`` in a folder; hold its lock meanwhile."""
    for leftover in folder.glob(f".*{_TEMPORARY}"):
        with contextlib.suppress(OSError):
            leftover.unlink()


def require_space(folder: Path, num_bytes: int, what: str, fix: str) -> None:
    """Check that a disk has space for a file before work on it begins.

    Args:
        folder: An existing folder on the disk.
        num_bytes: Size of the file.
        what: What needs the space, e.g. ``"the decoded images"``.
        fix: What to do where it has not.

    Raises:
        ResourceError: It has not.
    """
    free = shutil.disk_usage(folder).free
    if num_bytes > free:
        raise ResourceError(
            f"{what} need {num_bytes / 2**30:.2f} GiB in {folder}, {free / 2**30:.2f} GiB are free",
            fix,
        )


def reserve(path: Path, num_bytes: int) -> None:
    """Extend a file to ``num_bytes`` with disk blocks behind every byte.

    Writing to a memory map of a sparse file on a full disk kills the process with a bus error.

    Raises:
        OSError: The disk is full.
    """
    with path.open("r+b") as stream:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(stream.fileno(), 0, num_bytes)
        else:
            stream.truncate(num_bytes)


def write_bytes(target: Path, content: bytes) -> None:
    """Write ``content`` to ``target`` atomically."""
    with atomic_path(target) as temporary:
        temporary.write_bytes(content)


def write_text(target: Path, content: str) -> None:
    """Write UTF-8 text to ``target`` atomically."""
    write_bytes(target, content.encode())


def write_json(target: Path, value: Any) -> None:
    """Write ``value`` as indented JSON atomically; NaN is refused, use None for absent numbers."""
    write_text(target, json.dumps(value, indent=2, allow_nan=False) + "\n")


def csv_text(table: pd.DataFrame) -> str:
    """Return a table as CSV in which no text can run as a formula of a spreadsheet program.

    Text that begins like a formula (names of files may) is written behind an apostrophe.
    """
    safe = table.copy()
    for name in safe.select_dtypes(include=["object", "string"]):
        texts = safe[name].astype("string")
        formula = texts.str.startswith(("=", "+", "-", "@", "\t", "\r")).fillna(False)
        safe[name] = safe[name].where(~formula, "'" + texts)
    return str(safe.to_csv(index=False))


def read_json(source: Path) -> Any:
    """Read a JSON file.

    Raises:
        DataError: The file is missing or is not JSON.
    """
    try:
        return json.loads(source.read_text())
    except FileNotFoundError as error:
        raise DataError(f"{source} does not exist", "run the step that writes it first") from error
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"{source} is not valid JSON: {error}", f"remove {source} and run the step again"
        ) from error


def fingerprint(value: Any, length: int = 12) -> str:
    """Return a short hexadecimal hash of a JSON-like value, independent of key order."""
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=32).hexdigest()[:length]


def file_hash(source: Path) -> str:
    """Return the 128-bit BLAKE2 hash of a file's content as 32 hexadecimal digits."""
    digest = hashlib.blake2b(digest_size=16)
    with source.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
