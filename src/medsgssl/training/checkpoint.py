"""Checkpoints that can be resumed; reading one runs no code.

A checkpoint holds the task, the optimizer, the gradient scaler, the step and the log. Data order,
augmentation, drop-out and the learning rate are pure functions of seed and step, so nothing else
is needed for a run that goes on exactly as if it had never stopped.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from medsgssl.errors import CheckpointError
from medsgssl.utils.io import atomic_path


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint of tensors and plain values atomically."""
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        torch.save(state, stream)


def load_checkpoint(path: Path, key: str, diverged_key: str | None = None) -> dict[str, Any] | None:
    """Read a checkpoint without running code, or return None where there is none.

    Args:
        path: The file.
        key: Fingerprint of everything that decides the result; it must be the checkpoint's.
        diverged_key: The key under which the stage was no longer finite; also accepted, so that it
            goes on with a lower rate.

    Raises:
        CheckpointError: The file is damaged, or was written under another configuration.
    """
    if not path.is_file():
        return None
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        written_key = state["key"]
    except Exception as error:  # the restricted unpickler fails in many ways
        raise CheckpointError(
            f"{path} is damaged or no checkpoint of medsgssl: {error}",
            f"remove {path} to start this stage again from its beginning",
        ) from error
    if written_key not in {key, diverged_key}:
        raise CheckpointError(
            f"{path} was written under another configuration",
            "restore the configuration, or choose another --out folder",
        )
    return state
