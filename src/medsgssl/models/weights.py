"""Weights files: safetensors with a header that says what made them; reading runs no code.

The header is defined in ``runs/weights_header.py``. Weights from elsewhere are read by
``initial_weights.py``; plain timm weights of a trained encoder are written by
``inference/export.py``.
"""

from __future__ import annotations

import json
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from medsgssl.config.encoder_names import portable_encoder_name
from medsgssl.config.schema import Config
from medsgssl.errors import CheckpointError
from medsgssl.runs.weights_header import WeightsHeader, WeightsIdentity
from medsgssl.utils.io import atomic_path

# 2: gray images are repeated to the backbone's own channels; before, its stem had one channel.
_FORMAT = "2"


def save_weights(path: Path, module: nn.Module, header: WeightsHeader) -> None:
    """Write a module's weights and what one must know to use them, atomically.

    Args:
        path: A ``.safetensors`` file.
        module: Its state is written.
        header: What travels in the file's header.
    """
    tensors = {name: value.detach().cpu().contiguous() for name, value in state_of(module).items()}
    metadata = {"medsgssl": json.dumps(header, sort_keys=True), "format": _FORMAT}
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, metadata=metadata)


def state_of(module: nn.Module) -> dict[str, Tensor]:
    """Return the module's state with tensors that share memory stored once each."""
    return {name: value.clone() for name, value in module.state_dict().items()}


def read_header(path: Path) -> WeightsHeader:
    """Return the header of a weights file.

    Raises:
        CheckpointError: The file is missing, damaged, or was not written by this medsgssl.
    """
    if not path.is_file():
        raise CheckpointError(f"{path} does not exist", "pretrain first, or give another file")
    try:
        with safe_open(path, framework="pt") as stream:
            metadata = stream.metadata() or {}
        header: WeightsHeader = json.loads(metadata["medsgssl"])
        if not isinstance(header, dict):
            raise TypeError("no mapping")
    except (SafetensorError, OSError, KeyError, ValueError, TypeError, RecursionError) as error:
        raise CheckpointError(
            f"{path} is damaged or holds no weights of medsgssl", "give a file that a run wrote"
        ) from error
    if metadata.get("format") != _FORMAT:
        raise CheckpointError(
            f"{path} was written by an older medsgssl, whose encoders took one gray channel",
            "run this method again in a new folder; backbones now take timm's own weights",
        )
    return header


def load_weights(path: Path, module: nn.Module, must_match: WeightsIdentity) -> WeightsHeader:
    """Load weights strictly: every name and shape must match, and so must the identity.

    Args:
        path: The ``.safetensors`` file.
        module: Takes the weights.
        must_match: Method and encoder that the file must have been written with.

    Returns:
        The file's header.

    Raises:
        CheckpointError: The file is unusable, of another method, or does not fit the module.
    """
    header = read_header(path)
    for name, wanted in must_match.items():
        if header.get(name) != wanted:
            raise CheckpointError(
                f"{path} was written with {name}={header.get(name)!r}, this run has {wanted!r}",
                f"give weights of the same {name}, or change the configuration",
            )
    try:
        module.load_state_dict(load_file(path), strict=True)
    except (RuntimeError, SafetensorError) as error:
        raise CheckpointError(
            f"{path} does not fit this model: {str(error)[:300]}",
            "use the configuration the weights were made with",
        ) from error
    return header


def weights_identity(config: Config) -> WeightsIdentity:
    """Return that in which weights and configuration must agree."""
    encoder = portable_encoder_name(config.encoder.name)
    return {"method": config.method_name, "encoder": encoder}


def without_initial_weights(config: Config) -> Config:
    """Return the configuration of the same network with random initial weights.

    For networks whose weights are loaded next: nothing is downloaded, and no file is needed.
    """
    random = config.encoder.model_copy(update={"pretrained": False, "weights": None})
    return config.model_copy(update={"encoder": random})
