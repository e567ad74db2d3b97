"""Settings of the encoder."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from medsgssl.config.base import Settings


class EncoderSettings(Settings):
    """Which timm backbone, and where its first weights come from."""

    name: str = Field("mobilenetv2_100", description="any timm model name")
    pretrained: bool = Field(True, description="start from ImageNet weights through timm")
    weights: Path | None = Field(
        None, description="safetensors file with ImageNet weights, where timm cannot download"
    )
    patch_size: int | None = Field(
        None, ge=4, description="patch of a transformer in pixels; its own when not given"
    )
    drop_path: float = Field(0.0, ge=0, lt=1, description="stochastic depth rate")
