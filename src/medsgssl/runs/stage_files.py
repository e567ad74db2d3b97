"""What stages leave in a run folder beside their results: ``stages.json``, ``kept_epoch.json``."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, NotRequired

from typing_extensions import TypedDict  # pydantic needs this one before Python 3.12

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


class EpochScore(TypedDict):
    """Validation after one epoch."""

    epoch: int  # from 0
    val_mean_auc: float
    standard_error: float | None  # over resampled patients; None where no resample has all classes


class KeptEpoch(TypedDict):
    """The choice that fine-tuning made."""

    keep: Literal["last", "best", "ema"]
    reason: str  # one sentence, also in the log
    epoch: int  # from 0; for ema the last one
    classes: list[str]  # the diseases of the validation mean AUC
    epochs: list[EpochScore]  # empty without validation images
    within_noise: list[int]  # epochs that validation does not tell from the kept one, that included


def read_kept_epoch(path: Path) -> KeptEpoch | None:
    """Read ``kept_epoch.json``; None where there is none, as in runs of earlier versions.

    Raises:
        DataError: The file is damaged or of another version.
    """
    return read_artifact(path, KeptEpoch, "`medsgssl finetune`") if path.is_file() else None
