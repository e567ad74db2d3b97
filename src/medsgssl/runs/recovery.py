"""A training stage that is no longer finite (NaN): its last good state stays usable.

The stage leaves ``STAGE.diverged.json`` beside its checkpoint. It says which settings the stage ran
with; the same command with a lower learning rate then goes on from the last good state (or from the
beginning, where there is none yet), and ``STAGE.recovered.json`` records the change.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from typing_extensions import TypedDict  # pydantic needs this one before Python 3.12

from medsgssl.errors import MedsgsslError
from medsgssl.utils.io import read_json, write_json

#: Settings of a stage that may change after it was no longer finite.
RECOVERY_SETTINGS = ("lr", "warmup_epochs", "clip_grad", "precision")


class Diverged(TypedDict):
    """Where a stage was no longer finite.

    Attributes:
        step: The step by which it was noticed.
        key: Fingerprint that the stage ran under; its checkpoint carries it.
        what: Which of its values were not finite.
        saved_step: The step of the last good state; None where there is none.
    """

    step: int
    key: str
    what: str
    saved_step: int | None


class Recovery(TypedDict):
    """A change of settings after a stage was no longer finite.

    Attributes:
        diverged: Where the stage was no longer finite.
        changes: The old and the new value by the setting's dotted name.
    """

    diverged: Diverged | None
    changes: dict[str, list[Any]]


def diverged_path(folder: Path, stage: str) -> Path:
    """Return the file that says that a stage was no longer finite."""
    return folder / f"{stage}.diverged.json"


def recovered_path(folder: Path, stage: str) -> Path:
    """Return the file that records what was changed after a stage was no longer finite."""
    return folder / f"{stage}.recovered.json"


def read_diverged(folder: Path, stage: str) -> Diverged | None:
    """Return where a stage was no longer finite, or None where it was not."""
    path = diverged_path(folder, stage)
    value: Diverged | None = read_json(path) if path.is_file() else None
    return value


def diverged_error(
    folder: Path, stage: str, key: str, lr: float, step: int, what: str, saved_step: int | None
) -> MedsgsslError:
    """Leave the mark of a stage that is no longer finite, and return the error to raise.

    Args:
        folder: The run folder.
        stage: ``pretrain`` or ``finetune``.
        key: Fingerprint of everything that decides the stage's result.
        lr: Its peak learning rate.
        step: The step by which it was noticed.
        what: What is not finite, e.g. ``"loss"``.
        saved_step: The step of the last good state; None where there is none.
    """
    mark: Diverged = {"step": step, "key": key, "what": what, "saved_step": saved_step}
    before = read_diverged(folder, stage)
    if saved_step is not None and _is_ruined(before, step, saved_step):
        (folder / f"{stage}.checkpoint").unlink(missing_ok=True)
        mark["saved_step"] = saved_step = None
    write_json(diverged_path(folder, stage), mark)
    start = "the beginning" if saved_step is None else f"step {saved_step}, the last good state"
    return MedsgsslError(
        f"the {what} of {stage} is no longer finite in step {step}",
        "give the same command with a lower rate, e.g. "
        f"--set {stage}.lr={min(lr / 10, 1e-3):g}: it goes on from {start}, and the change is "
        "recorded",
    )


def read_recovered(folder: Path) -> list[Recovery]:
    """Return every change that was made after a stage was no longer finite, pretraining first."""
    paths = [recovered_path(folder, stage) for stage in ("pretrain", "finetune")]
    return [recovery for path in paths if path.is_file() for recovery in read_json(path)]


def _is_ruined(before: Diverged | None, step: int, saved_step: int) -> bool:
    """Whether the last saved state leads nowhere, finite as it is.

    Its very next step has failed, or a lower rate was tried from it before.
    """
    return step <= saved_step + 1 or (before is not None and before["saved_step"] == saved_step)


def record_recovery(folder: Path, stage: str, changes: dict[str, list[Any]]) -> None:
    """Record that settings were changed after a stage was no longer finite.

    Args:
        folder: The run folder.
        stage: ``pretrain`` or ``finetune``.
        changes: The old and the new value by the setting's name.
    """
    path = recovered_path(folder, stage)
    before: list[Recovery] = read_json(path) if path.is_file() else []
    recovery: Recovery = {"diverged": read_diverged(folder, stage), "changes": changes}
    write_json(path, [*before, recovery])
