"""The encoder: a timm backbone for gray images, with its own pooling and normalization."""

from __future__ import annotations

import math
import os
import socket
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlparse

import timm
import torch
from huggingface_hub import constants, try_to_load_from_cache
from safetensors.torch import load_file
from timm.data import resolve_data_config  # type: ignore[attr-defined]
from torch import Tensor, nn

from medsgssl.config.schema import EncoderSettings
from medsgssl.errors import CheckpointError, ConfigError


@dataclass
class Features:
    """What an encoder returns.

    Attributes:
        pooled: (B, D), the backbone's own pooled features.
        spatial: (B, C, h, w), the last feature map or the grid of patch tokens.
        extra: Whatever a method's own input path hands to its task, by name.
    """

    pooled: Tensor
    spatial: Tensor
    extra: dict[str, Tensor]


class Encoder(nn.Module):
    """A timm backbone that takes gray images in [0, 1] and normalizes them itself.

    The gray level is repeated to the backbone's own channels and normalized per channel with the
    constants of its timm data config, as timm does with a gray image file. So the features equal
    those of plain timm, and the weights below ``backbone.`` are timm's own.

    Subclasses that let a mask into the network override ``forward``.

    Args:
        backbone: A timm model without classifier.
    """

    #: Whether ``forward`` uses the masks: then fine-tuning and test need them too.
    needs_masks = False

    mean: Tensor
    std: Tensor

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        # timm's models share an interface that no type declares.
        self.backbone: Any = backbone
        facts = resolve_data_config(model=backbone)  # type: ignore[no-untyped-call]
        for key in ("mean", "std"):
            constants = torch.tensor(facts[key]).view(-1, 1, 1)
            self.register_buffer(key, constants, persistent=False)
        self.num_features = _pooled_width(backbone)

    @property
    def is_vit(self) -> bool:
        """Whether the backbone is a transformer over patch tokens."""
        return hasattr(self.backbone, "blocks") and hasattr(self.backbone, "cls_token")

    def normalize(self, images: Tensor) -> Tensor:
        """Return images (B, 1, S, S) in [0, 1] as the backbone expects them, (B, 3, S, S)."""
        return (images - self.mean) / self.std

    def forward(self, images: Tensor, masks: Tensor, quality: Tensor | None = None) -> Features:
        """Encode a batch.

        Args:
            images: (B, 1, S, S) float in [0, 1].
            masks: (B, S, S) bool; not used here.
            quality: How far each mask can be trusted, (B,) in [0, 1]; None: fully. Not used here.
        """
        return self.features(self.normalize(images))

    def features(self, inputs: Tensor) -> Features:
        """Run the backbone on normalized inputs (B, C, S, S)."""
        last = self.backbone.forward_features(inputs)
        return self.pool(last)

    def pool(self, last: Tensor) -> Features:
        """Turn the backbone's last map or tokens into ``Features``."""
        pooled = self.backbone.forward_head(last, pre_logits=True)
        if last.ndim == 3:
            last = token_grid(last[:, self.backbone.num_prefix_tokens :])
        return Features(pooled, last, {})


def token_grid(tokens: Tensor) -> Tensor:
    """Turn the tokens (B, N, D) of a square grid into a map (B, D, sqrt(N), sqrt(N))."""
    side = math.isqrt(tokens.shape[1])
    return tokens.transpose(1, 2).reshape(tokens.shape[0], tokens.shape[2], side, side)


def _pooled_width(backbone: Any) -> int:
    # Some timm models (MobileNetV3, VGG) widen between the last map and the classifier.
    return int(getattr(backbone, "head_hidden_size", None) or backbone.num_features)


def build_backbone(settings: EncoderSettings, img_size: int) -> nn.Module:
    """Create the timm model of the settings for images of ``img_size`` pixels.

    Raises:
        ConfigError: timm knows no such model, its ImageNet weights cannot be loaded, or its
            patches do not fill the images.
        CheckpointError: The weights file is of another model.
    """
    if not timm.is_model(settings.name):
        near = ", ".join(timm.list_models(f"*{settings.name.split('_')[0]}*")[:6])
        raise ConfigError(
            f"timm knows no model {settings.name!r}",
            f"set encoder.name to one of timm.list_models(){f', e.g. {near}' if near else ''}",
        )
    options: dict[str, Any] = {"num_classes": 0}
    if settings.drop_path:
        options["drop_path_rate"] = settings.drop_path
    if _takes_img_size(settings.name):
        options["img_size"] = img_size
    if settings.patch_size is not None:
        if not settings.name.startswith("vit_"):
            raise ConfigError(
                f"{settings.name} has no patches whose size could be set",
                "leave encoder.patch_size out, or set encoder.name to a transformer (vit_...)",
            )
        # timm resamples the filters and position embeddings of pretrained weights.
        options["patch_size"] = settings.patch_size
    model = _create(settings, options)
    _require_whole_patches(model, img_size)
    return model


def _create(settings: EncoderSettings, options: dict[str, Any]) -> nn.Module:
    if not settings.pretrained:
        return _zero_init_residual(timm.create_model(settings.name, pretrained=False, **options))
    if settings.weights is not None:
        return _from_file(settings, options)
    try:
        _require_weights(settings.name)
        return timm.create_model(settings.name, pretrained=True, **options)
    except Exception as error:
        raise ConfigError(
            f"the ImageNet weights of {settings.name} cannot be loaded: {_summary(error)}",
            "check the network; or give a file with --set encoder.weights=FILE.safetensors; "
            "or start from scratch with --set encoder.pretrained=false",
        ) from error


def _zero_init_residual(model: nn.Module) -> nn.Module:
    """Let the residual branches of MobileNet-like models start at zero; return the model.

    Without it a fresh MobileNetV2 is chaotic: the two views of an image are no more alike than
    two images, and contrastive training finds nothing to hold on to. timm does the same for its
    ResNets. Source: Goyal et al., "Accurate, large minibatch SGD", 2017, section 5.1.
    """
    for block in model.modules():
        last = getattr(block, "bn3", None)
        if getattr(block, "has_skip", False) and isinstance(last, nn.BatchNorm2d):
            nn.init.zeros_(last.weight)
    return model


def _require_weights(name: str) -> None:
    # The hub client tries for a minute before it gives up; ask first whether it can be reached.
    config = timm.get_pretrained_cfg(name)
    repository = config.hf_hub_id if config else None
    if not repository or any(os.environ.get(key) for key in ("HTTPS_PROXY", "https_proxy")):
        return
    if isinstance(try_to_load_from_cache(repository, "model.safetensors"), str):
        return
    if constants.HF_HUB_OFFLINE:
        raise OSError("not in the local cache, and HF_HUB_OFFLINE is set")
    place = urlparse(constants.ENDPOINT)
    try:
        port = place.port or (443 if place.scheme == "https" else 80)
        socket.create_connection((str(place.hostname), port), timeout=10).close()
    except OSError as error:
        raise OSError(f"{place.hostname} cannot be reached ({error})") from error


def _from_file(settings: EncoderSettings, options: dict[str, Any]) -> nn.Module:
    path = settings.weights
    assert path is not None
    if not path.is_file():
        raise CheckpointError(f"{path} does not exist", "set encoder.weights to a safetensors file")
    try:
        load_file(path)
        # timm's own loading, so that position embeddings are resized.
        return timm.create_model(
            settings.name, pretrained=True, pretrained_cfg_overlay={"file": str(path)}, **options
        )
    except Exception as error:
        raise CheckpointError(
            f"{path} does not hold weights of {settings.name}: {_summary(error)}",
            "give the safetensors file that timm publishes for this very model",
        ) from error


def _summary(error: Exception) -> str:
    # torch names the layers that do not fit below its first line.
    lines = [line.strip() for line in str(error).strip().splitlines()]
    return " ".join(lines[:2])[:300] or type(error).__name__


def _require_whole_patches(model: Any, img_size: int) -> None:
    if not (hasattr(model, "blocks") and hasattr(model, "patch_embed")):
        return
    patch = model.patch_embed.patch_size[0]
    if img_size % patch:
        raise ConfigError(
            f"images of {img_size} pixels are no whole number of patches of {patch}",
            f"set data.img_size to a multiple of {patch}, or encoder.patch_size",
        )


def _takes_img_size(name: str) -> bool:
    # Transformers lay out their position embeddings for one size; CNNs take any.
    try:
        config = timm.get_pretrained_cfg(name, allow_unregistered=False)
    except RuntimeError:
        return False
    return bool(config and config.fixed_input_size)


def build_encoder(settings: EncoderSettings, img_size: int) -> Encoder:
    """Return the plain encoder: gray image in, pooled features out."""
    return Encoder(build_backbone(settings, img_size))
