"""torch.compile for the part of an encoder that takes the time: its backbone."""

from __future__ import annotations

import torch

from medsgssl.errors import ConfigError
from medsgssl.models.encoder import Encoder


def compile_backbone(encoder: Encoder, backend: str = "inductor") -> None:
    """Let torch.compile translate the backbone on its first use; names of weights stay.

    A transformer is compiled block by block: its blocks are alike, so one translation serves all,
    also where a method runs them one by one.

    Args:
        encoder: The encoder to train.
        backend: What translates, as torch calls it.

    Raises:
        ConfigError: The encoder listens to a stage of its backbone, which a translation hides.
    """
    if encoder.hooks_backbone:
        raise ConfigError(
            f"{type(encoder).__name__} reads a stage of its backbone, which torch.compile hides",
            "leave pretrain.compile and finetune.compile at false for this method",
        )
    backbone = encoder.backbone
    if encoder.is_vit and hasattr(backbone, "blocks"):
        for block in backbone.blocks:
            block.compile(backend=backend)
    else:
        backbone.forward_features = torch.compile(backbone.forward_features, backend=backend)
