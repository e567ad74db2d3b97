"""Encoders of other people: model hubs and local folders in timm's format.

``hf-hub:USER/NAME`` (``@REVISION`` may follow) and ``local-dir:FOLDER`` name a ``config.json`` as
timm writes it beside weights; `medsgssl export --to timm` writes such a folder too.
"""

from __future__ import annotations

import json
import os
import socket
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlparse

import timm
from huggingface_hub import constants, hf_hub_download, try_to_load_from_cache

from medsgssl.config.encoder_names import LOCAL_PREFIX, hub_source, portable_encoder_name
from medsgssl.errors import ConfigError
from medsgssl.runs.weights_header import HubModelRecord

_CONFIG = "config.json"
#: Names of weights files in a folder or repository, the best first.
WEIGHTS_FILES = ("model.safetensors", "pytorch_model.bin")
# What of timm's own record of a model decides how its input is prepared and its network laid out.
_KEPT = (
    "mean", "std", "input_size", "fixed_input_size", "interpolation", "crop_pct", "first_conv",
    "classifier", "pool_size",
)  # fmt: skip
#: Arguments that this package gives itself.
_OURS = ("num_classes", "img_size", "global_pool")


@dataclass(frozen=True)
class HubModel:
    """A model as its ``config.json`` describes it.

    Attributes:
        architecture: The name of its network in timm.
        pretrained_cfg: Mean, standard deviation and the like, as timm's ``pretrained_cfg``.
        model_args: Arguments of the network that differ from timm's defaults.
    """

    architecture: str
    pretrained_cfg: dict[str, object]
    model_args: dict[str, object]

    def to_json(self) -> HubModelRecord:
        """Return it as JSON-like values, for the header of weights."""
        return {
            "architecture": self.architecture,
            "pretrained_cfg": self.pretrained_cfg,
            "model_args": self.model_args,
        }


_KNOWN: dict[str, HubModel] = {}


def remember(name: str, described: HubModelRecord) -> None:
    """Take a hub model from the header of weights, so that it need not be fetched again.

    Args:
        name: ``encoder.name`` as ``portable_encoder_name`` writes it.
        described: What ``HubModel.to_json`` gave.
    """
    _KNOWN[name] = HubModel(**described)


def find_hub_model(name: str) -> HubModel | None:
    """Return the hub model of an ``encoder.name``, or None where it is a plain timm name.

    Raises:
        ConfigError: It cannot be had, or is not in timm's format.
    """
    source = hub_source(name)
    if source is None:
        return None
    known = _KNOWN.get(portable_encoder_name(name))
    if known is not None:
        return known
    path = _local(name) / _CONFIG if source == LOCAL_PREFIX else _fetch(name, _CONFIG)
    model = _read(name, path)
    _KNOWN[portable_encoder_name(name)] = model
    return model


def fetch_weights(name: str) -> Path:
    """Return the weights file of a hub model, downloaded where it is not in the cache.

    Raises:
        ConfigError: There is none, or the hub cannot be reached.
    """
    if hub_source(name) == LOCAL_PREFIX:
        folder = _local(name)
        for file in WEIGHTS_FILES:
            if (folder / file).is_file():
                return folder / file
        raise ConfigError(
            f"{folder} holds no weights: no {' or '.join(WEIGHTS_FILES)}",
            "add the file, or start from scratch with --set encoder.pretrained=false",
        )
    for file in WEIGHTS_FILES[:-1]:
        try:
            return _fetch(name, file)
        except ConfigError as error:
            if "holds no" not in error.problem:
                raise
    return _fetch(name, WEIGHTS_FILES[-1])


def require_hub(repository: str, file: str) -> None:
    """Check that a file is cached, or that the hub answers: its client tries for a minute.

    Raises:
        OSError: Neither is the case.
    """
    if any(os.environ.get(key) for key in ("HTTPS_PROXY", "https_proxy")):
        return
    if isinstance(try_to_load_from_cache(repository, file), str):
        return
    if constants.HF_HUB_OFFLINE:
        raise OSError("not in the local cache, and HF_HUB_OFFLINE is set")
    place = urlparse(constants.ENDPOINT)
    try:
        port = place.port or (443 if place.scheme == "https" else 80)
        socket.create_connection((str(place.hostname), port), timeout=10).close()
    except OSError as error:
        raise OSError(f"{place.hostname} cannot be reached ({error})") from error


def _local(name: str) -> Path:
    folder = Path(name.removeprefix(LOCAL_PREFIX)).expanduser()
    if not folder.is_dir():
        raise ConfigError(f"{folder} is not a folder", "set encoder.name=local-dir:FOLDER")
    return folder


def _fetch(name: str, file: str) -> Path:
    repository, _, revision = name.partition(":")[2].partition("@")
    try:
        if not revision:
            require_hub(repository, file)
        return Path(hf_hub_download(repository, file, revision=revision or None))
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        if type(error).__name__ in {"EntryNotFoundError", "RemoteEntryNotFoundError"}:
            reason = f"it holds no {file}"
        raise ConfigError(
            f"{name} cannot be loaded: {reason}",
            "check the name and the network; or download the repository and give "
            "--set encoder.name=local-dir:FOLDER",
        ) from error


def _read(name: str, path: Path) -> HubModel:
    fix = (
        "name a repository or folder in timm's format, or the network and its file: "
        "--set encoder.name=TIMM_MODEL --set encoder.weights=FILE"
    )
    try:
        tree = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ConfigError(f"{name} has no readable {_CONFIG}: {error}", fix) from error
    if not isinstance(tree, dict) or not isinstance(tree.get("architecture"), str):
        kinds = isinstance(tree, dict) and (tree.get("architectures") or tree.get("model_type"))
        kind = kinds[0] if isinstance(kinds, list) else kinds
        other = f": it is of transformers ({kind})" if kind else ""
        raise ConfigError(f"the {_CONFIG} of {name} names no timm model{other}", fix)
    architecture = tree["architecture"]
    if not timm.is_model(architecture):
        raise ConfigError(f"{name} is a {architecture!r}, which this timm does not know", fix)
    # Older files hold everything on one level.
    own = tree.get("pretrained_cfg", tree)
    arguments = {key: v for key, v in tree.get("model_args", {}).items() if key not in _OURS}
    return HubModel(architecture, {key: own[key] for key in _KEPT if key in own}, arguments)
