"""``stages.json``: which stages of a run are complete."""

from __future__ import annotations

from pathlib import Path

from typing_extensions import TypedDict  # pydantic needs this one before Python 3.12

from medsgssl.runs.artifact import read_artifact


class StageRecord(TypedDict):
    """One complete stage."""

    key: str  # fingerprint of all that decided its result
    finished: str  # UTC, ISO 8601
    seconds: float


def read_stage_records(path: Path) -> dict[str, StageRecord]:
    """Read ``stages.json``, by name of the stage; empty where it is not there.

    Raises:
        DataError: It is damaged or of another version.
    """
    if not path.is_file():
        return {}
    return read_artifact(path, dict[str, StageRecord], "`medsgssl run`")
