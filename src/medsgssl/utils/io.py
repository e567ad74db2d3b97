"""Atomic writes, JSON and fingerprints: a killed process never leaves half a file."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from medsgssl.errors import DataError


@contextlib.contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``target`` that replaces it when the block succeeds.

    Args:
        target: The file to write; its folder is created.

    Yields:
        The path to write to. It is removed when the block raises, and ``target`` stays as it was.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
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
    finally:
        temporary.unlink(missing_ok=True)


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


def read_json(source: Path) -> Any:
    """Read a JSON file.

    Raises:
        DataError: The file is missing or is not JSON.
    """
    try:
        return json.loads(source.read_text())
    except FileNotFoundError as error:
        raise DataError(f"{source} does not exist", "run the step that writes it first") from error
    except ValueError as error:
        raise DataError(
            f"{source} is not valid JSON: {error}", "delete it and run the step again"
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
