"""Reads a JSON file of a run folder and checks it against its typed definition.

The definitions are ``TypedDict`` classes or dataclasses, one module per file: writers build them,
so mypy checks what is written; readers go through here, so a file of another version is refused in
one line instead of failing somewhere inside a report.
"""

from __future__ import annotations

import functools
from collections.abc import Hashable
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

from pydantic import TypeAdapter, ValidationError

from medsgssl.errors import DataError
from medsgssl.utils.io import read_json

Artifact = TypeVar("Artifact")


def read_artifact(path: Path, kind: type[Artifact], stage: str) -> Artifact:
    """Read a JSON file as ``kind``; keys that a ``TypedDict`` does not name are kept.

    Args:
        path: The file.
        kind: The ``TypedDict``, dataclass or list of plain values that describes it.
        stage: What writes the file again, for the message, e.g. ``medsgssl evaluate RUN``.

    Raises:
        DataError: The file is missing, damaged, or was written by a version that kept other
            values.
    """
    value: Artifact = read_json(path)
    try:
        checked: Artifact = _adapter(cast("Hashable", kind)).validate_python(value)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the whole file"
        others = error.error_count() - 1
        more = f" (and {others} more)" if others else ""
        raise DataError(
            f"{path} does not fit this version of medsgssl: {where}: {first['msg']}{more}",
            f"write it again with {stage} (in a new folder, if this one is refused), or read it "
            "with the version that wrote it",
        ) from error
    return checked if is_dataclass(kind) else value


@functools.cache
def _adapter(kind: Hashable) -> TypeAdapter[Any]:
    return TypeAdapter(cast("type[Any]", kind))
