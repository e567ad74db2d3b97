"""timm backbones: created from the settings, with weights that can be had, or refused.

Source of the models: Wightman, "PyTorch image models" (timm).
"""

from __future__ import annotations

from typing import Any

import timm
from timm.layers import DropPath  # type: ignore[attr-defined]
from torch import nn

from medsgssl.config.schema import EncoderSettings
from medsgssl.errors import ConfigError
from medsgssl.models.hub import WEIGHTS_FILES, fetch_weights, find_hub_model, require_hub
from medsgssl.models.initial_weights import load_initial_weights


def build_backbone(settings: EncoderSettings, img_size: int) -> nn.Module:
    """Create the timm model of the settings for images of ``img_size`` pixels.

    Raises:
        ConfigError: timm or the hub knows no such model, its weights cannot be loaded, or its
            patches do not fill the images.
        CheckpointError: The weights file is of another model.
    """
    hub = find_hub_model(settings.name)
    name = settings.name if hub is None else hub.architecture
    if not timm.is_model(name):
        near = ", ".join(timm.list_models(f"*{name.split('_')[0]}*")[:6])
        raise ConfigError(
            f"timm knows no model {name!r}",
            f"set encoder.name to one of timm.list_models(){f', e.g. {near}' if near else ''}",
        )
    options: dict[str, Any] = {"num_classes": 0}
    if hub is not None:
        options |= {**hub.model_args, "pretrained_cfg": hub.pretrained_cfg}
    if settings.drop_path:
        options["drop_path_rate"] = settings.drop_path
    if _takes_img_size(name):
        options["img_size"] = img_size
    if settings.patch_size is not None:
        if not name.startswith("vit_"):
            raise ConfigError(
                f"{name} has no patches whose size could be set",
                "leave encoder.patch_size out, or set encoder.name to a transformer (vit_...)",
            )
        # timm resamples the filters and position embeddings of pretrained weights.
        options["patch_size"] = settings.patch_size
    if settings.output_stride is not None:
        options["output_stride"] = settings.output_stride
    model = _create(settings, name, options, hub is not None)
    _require_whole_patches(model, img_size)
    if settings.drop_path and not _drops_paths(model):
        raise _refuses(settings, "drop_path")
    return model


def weights_notes(model: nn.Module) -> list[str]:
    """Return what of the file of a backbone's initial weights was not used, for the user."""
    return list(getattr(model, "initial_weights_notes", []))


def _drops_paths(model: nn.Module) -> bool:
    return any(isinstance(part, DropPath) and part.drop_prob for part in model.modules())


def _refuses(settings: EncoderSettings, key: str) -> ConfigError:
    return ConfigError(
        f"timm's {settings.name} does not offer encoder.{key}",
        f"leave encoder.{key} out, or choose another encoder.name",
    )


def _create(
    settings: EncoderSettings, name: str, options: dict[str, Any], of_hub: bool
) -> nn.Module:
    if not settings.pretrained:
        return _zero_init_residual(_from_scratch(settings, name, options))
    if settings.weights is not None or of_hub:
        file = settings.weights or fetch_weights(settings.name)
        model: Any = _from_scratch(settings, name, options)
        model.initial_weights_notes = load_initial_weights(model, file, settings.name)
        return model  # type: ignore[no-any-return]
    if settings.drop_path or settings.output_stride:
        _from_scratch(settings, name, options)  # says what the model does not take
    try:
        config = timm.get_pretrained_cfg(name)
        if config and config.hf_hub_id:
            require_hub(config.hf_hub_id, WEIGHTS_FILES[0])
        return timm.create_model(name, pretrained=True, **options)
    except Exception as error:
        raise ConfigError(
            f"the ImageNet weights of {name} cannot be loaded: {_summary(error)}",
            "check the network; or give a file with --set encoder.weights=FILE.safetensors; "
            "or start from scratch with --set encoder.pretrained=false",
        ) from error


def _from_scratch(settings: EncoderSettings, name: str, options: dict[str, Any]) -> nn.Module:
    try:
        return timm.create_model(name, pretrained=False, **options)
    except (TypeError, NotImplementedError, AssertionError, ValueError, RuntimeError) as error:
        # Not every model of timm takes these; it says so in one of many ways.
        for key, option in (("drop_path", "drop_path_rate"), ("output_stride", "output_stride")):
            if option in options and (option in str(error) or len(options) == 2):
                raise _refuses(settings, key) from error
        raise ConfigError(
            f"timm cannot build {settings.name}: {_summary(error)}",
            "choose another encoder.name or data.img_size",
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


def _summary(error: Exception) -> str:
    # torch names the layers that do not fit below its first line.
    lines = [line.strip() for line in str(error).strip().splitlines()]
    return " ".join(lines[:2])[:300] or type(error).__name__


def _require_whole_patches(model: Any, img_size: int) -> None:
    if not (hasattr(model, "blocks") and hasattr(model, "patch_embed")):
        return
    # Models of several branches (CrossViT) have several sizes: the image that is tried decides.
    patch_size = getattr(model.patch_embed, "patch_size", 1)
    patch = patch_size if isinstance(patch_size, int) else patch_size[0]
    if img_size % patch:
        raise ConfigError(
            f"images of {img_size} pixels cannot be divided into patches of {patch}",
            f"set data.img_size to a multiple of {patch}, or encoder.patch_size",
        )


def _takes_img_size(name: str) -> bool:
    # Transformers lay out their position embeddings for one size; CNNs take any.
    try:
        config = timm.get_pretrained_cfg(name, allow_unregistered=False)
    except RuntimeError:
        return False
    return bool(config and config.fixed_input_size)
