"""``stages.json``: which stages of a run are complete."""

from __future__ import annotations

from pathlib import Path
from typing import NotRequired  # pydantic needs this one before Python 3.12

from typing_extensions import TypedDict

from medsgssl.runs.artifact import read_artifact


class OutputRecord(TypedDict):
    """One output of a stage, as it was written."""

    size: int  # bytes
    hash: str  # 128-bit BLAKE2, hexadecimal


class StageRecord(TypedDict):
    """One complete stage."""

    key: str  # fingerprint of all that decided its result
    finished: str  # UTC, ISO 8601
    seconds: float
    outputs: NotRequired[dict[str, OutputRecord]]  # by file name


def read_stage_records(path: Path) -> dict[str, StageRecord]:
    """Read ``stages.json``, by name of the stage; empty where it is not there.

    Raises:
        DataError: It is damaged or of another version.
    """
    if not path.is_file():
        return {}
    return read_artifact(path, dict[str, StageRecord], "`medsgssl run`")
