"""Initial weights from files: found under any prefix, and never fitted in silence."""

from __future__ import annotations

import argparse
import inspect
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path, PosixPath
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from medsgssl.errors import CheckpointError

State = dict[str, Tensor]

# Where training programs put the weights inside their checkpoints; a teacher is the better student.
_ENTRIES = ("state_dict", "model", "teacher", "student", "model_ema", "ema", "net", "module")
_SHOWN = 12
# Plain values beside the weights, which are read and passed over: parsed arguments, paths, and
# numbers of numpy (which has renamed their module).
_NUMBER = np.float64(0).__reduce__()[0]
_PLAIN: list[Any] = [
    argparse.Namespace, PosixPath, np.dtype,
    *((_NUMBER, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),
    *{type(np.dtype(code)) for code in np.typecodes["AllInteger"] + np.typecodes["Float"] + "?"},
]  # fmt: skip
# What timm's modules call the function that brings names of other programs into their own; it takes
# the state, and in most modules the model too.
_RULES = (
    "checkpoint_filter_fn", "pretrained_filter_fn", "_filter_torchvision_pretrained", "_filter_fn",
)  # fmt: skip
# A counter of BatchNorm that older files lack, and that no result depends on.
_COUNTER = "num_batches_tracked"


def load_initial_weights(model: nn.Module, path: Path, name: str) -> list[str]:
    """Fill a backbone from a file; every tensor of the backbone must be there.

    The file may hold a safetensors state, a torch state dict, or a checkpoint around one. Names may
    begin with any prefix (``module.``, ``backbone.``, ``teacher.backbone.``); position embeddings
    and patches are resized, and names of other programs changed, by timm's own rules.

    Args:
        model: A timm model without classifier.
        path: The file.
        name: What the model is called in messages.

    Returns:
        A note that names the tensors of the file which the model has no place for; empty where
        there are none.

    Raises:
        CheckpointError: The file cannot be read, or leaves a tensor of the model without a value.
    """
    state, entry = read_state(path)
    wanted = model.state_dict()
    prefix, fitted = _best_prefix(state, model)
    missing = [key for key in wanted if not key.endswith(_COUNTER) and key not in fitted]
    misfits = [
        f"{key} {tuple(fitted[key].shape)} instead of {tuple(wanted[key].shape)}"
        for key in wanted
        if key in fitted and fitted[key].shape != wanted[key].shape
    ]
    unused = [key for key in fitted if key not in wanted]
    unused += _not_taken(state, prefix, fitted)
    if missing or misfits:
        parts = [f"it lacks {len(missing)} of {len(wanted)}: {_some(missing)}"] if missing else []
        parts += [f"other shapes: {_some(misfits)}"] if misfits else []
        parts += [f"without a place: {_some(unused)}"] if unused else []
        raise CheckpointError(
            f"{path} does not hold weights of {name}: {'; '.join(parts)}",
            "give a file of this very network, or set encoder.name to the file's own",
        )
    model.load_state_dict({key: fitted[key] for key in wanted if key in fitted}, strict=False)
    if not unused:
        return []
    source = f"{path.name} ({entry})" if entry else path.name
    return [
        f"{len(unused)} tensors of {source} have no place in {name} and are not used: "
        f"{_some(unused)}"
    ]


def read_state(path: Path) -> tuple[State, str]:
    """Read the tensors of a weights file; no code in it is run.

    Returns:
        Tensors by name, and the entry of the checkpoint that they were taken from, or "".

    Raises:
        CheckpointError: It is missing, damaged, written by a run of this package, or holds more
            than tensors.
    """
    if not path.is_file():
        raise CheckpointError(f"{path} does not exist", "set encoder.weights to a weights file")
    try:
        with safe_open(path, framework="pt") as stream:
            of_a_run = "medsgssl" in (stream.metadata() or {})
        if not of_a_run:
            return load_file(path), ""
    except (SafetensorError, OSError):
        return _unwrapped(path, _read_pickle(path))
    raise CheckpointError(
        f"{path} was written by a run, which knows what images it saw",
        "start from it with --from, or take its encoder with `medsgssl export RUN --to timm`",
    )


def _read_pickle(path: Path) -> Any:
    try:
        with torch.serialization.safe_globals(_PLAIN):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        raise CheckpointError(
            f"{path} is damaged, or holds more than tensors: {reason}",
            "fetch it again; of a file that you trust, save the state dict alone with "
            "safetensors.torch.save_file",
        ) from error


def _unwrapped(path: Path, content: Any) -> tuple[State, str]:
    entries: list[str] = []
    while isinstance(content, Mapping):
        tensors = {str(key): value for key, value in content.items() if isinstance(value, Tensor)}
        entry = next((e for e in _ENTRIES if isinstance(content.get(e), Mapping)), None)
        if tensors and entry is None:
            return tensors, ".".join(entries)
        if entry is None:
            break
        entries.append(entry)
        content = content[entry]
    raise CheckpointError(
        f"{path} holds no state dict (tensors by name)",
        "save one with safetensors.torch.save_file(model.state_dict(), FILE)",
    )


def _best_prefix(state: State, model: nn.Module) -> tuple[str, State]:
    """Return the prefix under which most tensors fit, and the state below it as timm names it."""
    wanted = {key: value.shape for key, value in model.state_dict().items()}
    counts: Counter[str] = Counter()
    for key in state:
        parts = key.split(".")
        counts.update(".".join(parts[:depth]) + "." for depth in range(1, min(len(parts), 5)))
    # A prefix of few tensors is a part of the network, such as one of its stages.
    often = [prefix for prefix, count in counts.items() if 2 * count >= len(wanted)]
    best: tuple[int, str, State] = (-1, "", {})
    for prefix in ["", *often]:
        below = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
        fitted = _as_timm(below, model)
        fits = sum(key in wanted and value.shape == wanted[key] for key, value in fitted.items())
        if fits > best[0]:
            best = (fits, prefix, fitted)
    return best[1], best[2]


def _not_taken(state: State, prefix: str, fitted: State) -> list[str]:
    """Return the tensors of a file that neither stand below the prefix nor outlived timm's rules.

    Where these rules change names, what they dropped cannot be told from what they renamed.
    """
    outside = [key for key in state if not key.startswith(prefix)]
    below = {key.removeprefix(prefix) for key in state if key.startswith(prefix)}
    renamed = any(key not in below for key in fitted)
    return outside if renamed else outside + sorted(below - fitted.keys())


def _as_timm(state: State, model: nn.Module) -> State:
    """Apply timm's own rules for checkpoints of a family; the state itself where they fail."""
    module = sys.modules[type(model).__module__]
    rules = next((getattr(module, name) for name in _RULES if hasattr(module, name)), None)
    if rules is None:
        return state
    try:
        takes = len(inspect.signature(rules).parameters)
        changed = rules(*(dict(state), model)[:takes])
    except Exception:  # noqa: BLE001 - written for one layout each, they fail in many ways
        return state
    return {key: value for key, value in changed.items() if isinstance(value, Tensor)}


def _some(names: list[str]) -> str:
    rest = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {rest} more" if rest > 0 else "")
