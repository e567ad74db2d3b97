"""The checkpoint of a student's training: read without running code, exact when resumed."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, TypedDict

import torch
from torch import Tensor

from medsgssl.errors import MaskError
from medsgssl.masks.recipes.distilled.network import Student
from medsgssl.masks.recipes.distilled.student_weights import StudentEpoch
from medsgssl.utils.io import atomic_path


class TrainState(TypedDict):
    """What a training needs to continue, and what is left of it at the end.

    Attributes:
        round: Round of the next epoch, from 0.
        epoch: Next epoch in the round, from 0.
        losses: Of the steps of this epoch that are done.
        best: Agreement plus stability of the best weights of this round.
        log: All epochs so far.
    """

    round: int
    epoch: int
    losses: list[float]
    best: float
    log: list[StudentEpoch]


class Checkpoint(TypedDict):
    """What the file holds."""

    key: str
    state: TrainState
    student: dict[str, Tensor]
    averaged: dict[str, Tensor]
    optimizer: dict[str, Any]  # as torch gives it
    best_weights: dict[str, Tensor]


def save(
    path: Path,
    key: str,
    state: TrainState,
    student: Student,
    averaged: Student,
    optimizer: torch.optim.Optimizer,
    best: dict[str, Tensor],
) -> None:
    """Write what a training needs to continue, atomically.

    Args:
        path: The checkpoint.
        key: Fingerprint of images, settings and teacher.
        state: How far the training is.
        student: The network in training.
        averaged: The running average of its weights.
        optimizer: Of the student.
        best: Weights of the best epoch of this round.
    """
    values: Checkpoint = {
        "key": key,
        "state": state,
        "student": student.state_dict(),
        "averaged": averaged.state_dict(),
        "optimizer": optimizer.state_dict(),
        "best_weights": best,
    }
    with atomic_path(path) as temporary:
        torch.save(values, temporary)


def resume(
    path: Path, key: str, student: Student, averaged: Student
) -> tuple[TrainState, Checkpoint | None]:
    """Load a checkpoint into both networks; a new state where there is none.

    Raises:
        MaskError: The checkpoint belongs to another training.
    """
    if not path.is_file():
        start: TrainState = {"round": 0, "epoch": 0, "losses": [], "best": -math.inf, "log": []}
        return start, None
    values: Checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    if values["key"] != key:
        raise MaskError(
            f"{path.parent} holds another training (other images, settings or teacher)",
            "choose another --out, or delete this folder",
        )
    student.load_state_dict(values["student"])
    averaged.load_state_dict(values["averaged"])
    values["state"].setdefault("losses", [])  # checkpoints of 0.1.0 have none
    return values["state"], values
