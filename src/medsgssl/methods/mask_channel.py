"""``mask-channel``: the lung mask as one more input channel that the network may not lean on."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from medsgssl.methods.base import Component, Method
from medsgssl.methods.contrastive import ContrastiveSettings, ContrastiveTask
from medsgssl.methods.registry import register
from medsgssl.models.encoder import Encoder
from medsgssl.models.mask_channel import MaskChannelEncoder, build_mask_channel_encoder


class MaskChannelSettings(ContrastiveSettings):
    """Settings of ``mask-channel``."""

    mask_drop: float = Field(
        0.5, ge=0, le=1, description="probability of dropping a view's mask in training"
    )
    mask_noise: float = Field(
        0.03,
        ge=0,
        le=0.2,
        description="largest growth, shrinkage and shift of a mask, as a share of the side",
    )
    min_quality: float = Field(
        0.3, ge=0, le=1, description="mask quality below which a mask enters as dropped"
    )
    mask_at_test: bool = Field(True, description="whether the mask enters at validation and test")


@register
class MaskChannel(Method[MaskChannelSettings]):
    """NT-Xent with image and mask as input."""

    name = "mask-channel"
    summary = "Feeds the lung mask as one more channel, dropped half of the time and perturbed."
    citation = (
        "NT-Xent: Chen et al., ICML 2020; zero-initialized condition: Zhang et al., Adding "
        "conditional control to text-to-image diffusion models, ICCV 2023"
    )
    formula = (
        r"L = \text{NT-Xent}(z), \quad z = g(f([x, \delta m])), \quad "
        r"\delta \sim \text{Bernoulli}(1 - p)"
    )
    symbols = (
        "x: view; m: its perturbed lung mask as one more channel; p: mask_drop; f: encoder; "
        "g: projector."
    )
    settings = MaskChannelSettings
    components: ClassVar[dict[str, Component]] = {
        "dropping": Component("masks dropped in training", {"mask_drop": 0.0}),
        "perturbing": Component("masks grown, shrunk and shifted in training", {"mask_noise": 0.0}),
        "test-mask": Component("masks at test", {"mask_at_test": False}),
    }

    def encoder(self) -> MaskChannelEncoder:
        """Build the encoder of image and mask."""
        settings = self.method_settings
        return build_mask_channel_encoder(
            self.config.encoder,
            self.config.data.img_size,
            settings.mask_drop,
            settings.mask_noise,
            settings.mask_at_test,
            settings.min_quality,
        )

    def task(self, encoder: Encoder) -> ContrastiveTask:
        """Build the contrastive task; all that is special lies in the encoder."""
        return ContrastiveTask(encoder, self.method_settings)
