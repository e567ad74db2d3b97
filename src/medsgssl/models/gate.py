"""An encoder that predicts a lung map half-way and gates its own features with it.

Source: the residual gate (1 + map) is that of Wang et al., "Residual attention network for image
classification", CVPR 2017, equation 3; the supervision of the map comes from the lung mask.
"""

from __future__ import annotations

from typing import Any

import torch
from timm.layers import LayerNorm2d  # type: ignore[attr-defined]
from torch import Tensor, nn

from medsgssl.config.schema import EncoderSettings
from medsgssl.errors import ConfigError
from medsgssl.models.encoder import Encoder, Features, build_backbone, token_grid

# Lungs cover about a quarter of a chest X-ray: the map starts there, so that the gate hardly
# disturbs pretrained features.
_FIRST_LOGIT = -1.0


class LungMap(nn.Module):
    """A small convolutional head that scores each cell of a feature map as lung.

    Args:
        channels: Channels C of the feature map.
        hidden: Width between the two convolutions.
    """

    def __init__(self, channels: int, hidden: int = 64) -> None:
        super().__init__()
        last = nn.Conv2d(hidden, 1, 1)
        nn.init.constant_(last.bias, _FIRST_LOGIT)  # type: ignore[arg-type]
        self.layers = nn.Sequential(
            LayerNorm2d(channels), nn.Conv2d(channels, hidden, 3, padding=1), nn.GELU(), last
        )

    def forward(self, features: Tensor) -> Tensor:
        """Turn features (B, C, h, w) into logits (B, h, w) float32."""
        return self.layers(features)[:, 0].float()  # type: ignore[no-any-return]


class GatedEncoder(Encoder):
    """A backbone whose middle stage is multiplied by (1 + lung map).

    ``Features.extra`` holds ``lung_map`` (B, h, w) in [0, 1] and ``lung_logits`` (B, h, w). The
    map comes from the image alone, so no mask is needed at fine-tuning or test.

    The stage is reached through a forward hook that exists only while ``forward`` runs: the
    backbone stays timm's own, its weight names do not change, copies and saved states know of no
    hook, and the map is handed over through a local variable.

    Args:
        backbone: A timm CNN or vision transformer.
        size: Side of the images in pixels.
        stride: Image pixels per cell of the gated stage of a CNN; the last stage that is not
            coarser is taken. Of a transformer it is the middle block.
        hidden: Width of the head that predicts the map.

    Raises:
        ConfigError: The backbone has no stage that can be gated.
    """

    def __init__(self, backbone: nn.Module, size: int, stride: int = 16, hidden: int = 64) -> None:
        super().__init__(backbone)
        self.stage = self._choose_stage(stride)
        self._channels_last = getattr(backbone, "output_fmt", "NCHW") == "NHWC"
        self.lung_map = LungMap(self._stage_channels(size), hidden)

    def forward(self, images: Tensor, masks: Tensor, quality: Tensor | None = None) -> Features:
        """Encode a batch.

        Args:
            images: (B, 1, S, S) float in [0, 1].
            masks: (B, S, S) bool; not used here.
            quality: Not used here.
        """
        found: list[Tensor] = []

        def gate(_: nn.Module, __: Any, output: Tensor) -> Tensor:
            logits = self.lung_map(self._as_map(output))
            found.append(logits)
            return self._gated(output, logits.sigmoid().to(output.dtype))

        with self.backbone.get_submodule(self.stage).register_forward_hook(gate):
            features = self.features(self.normalize(images))
        features.extra["lung_logits"] = found[0]
        features.extra["lung_map"] = found[0].sigmoid()
        return features

    def _as_map(self, output: Tensor) -> Tensor:
        # Stages return maps (B, C, h, w), or (B, h, w, C), or tokens (B, P + N, C).
        if output.ndim == 3:
            return token_grid(output[:, self.backbone.num_prefix_tokens :])
        return output.permute(0, 3, 1, 2) if self._channels_last else output

    def _gated(self, output: Tensor, lung_map: Tensor) -> Tensor:
        if output.ndim == 3:
            prefix = self.backbone.num_prefix_tokens
            patches = output[:, prefix:] * (1 + lung_map.flatten(1)[..., None])
            return torch.cat([output[:, :prefix], patches], dim=1)
        return output * (1 + lung_map.unsqueeze(-1 if self._channels_last else 1))

    def _choose_stage(self, stride: int) -> str:
        if self.is_vit:
            return f"blocks.{max(len(self.backbone.blocks) // 2 - 1, 0)}"
        stages = getattr(self.backbone, "feature_info", None) or []
        # A list in most of timm's models, an object that holds the list in the others.
        known = [info for info in getattr(stages, "info", stages) if info["reduction"] <= stride]
        if not known or not known[-1]["module"]:
            raise self._unfit(f"timm names no stage of it with a stride of at most {stride}")
        return str(known[-1]["module"])

    def _stage_channels(self, size: int) -> int:
        found: list[Any] = []
        probe = self.normalize(torch.zeros(1, 1, size, size))
        training = self.backbone.training
        self.backbone.eval()
        stage = self.backbone.get_submodule(self.stage)
        with torch.no_grad(), stage.register_forward_hook(lambda *call: found.append(call[2])):
            self.backbone.forward_features(probe)
        self.backbone.train(training)
        if len(found) != 1 or not isinstance(found[0], Tensor) or found[0].ndim not in {3, 4}:
            raise self._unfit(f"its stage {self.stage} does not return one feature map")
        return int(self._as_map(found[0]).shape[1])

    def _unfit(self, reason: str) -> ConfigError:
        return ConfigError(
            f"{type(self.backbone).__name__} cannot be gated with a lung map: {reason}",
            "set encoder.name to another CNN or vision transformer, e.g. mobilenetv2_100",
        )


def build_gated_encoder(
    settings: EncoderSettings, img_size: int, stride: int, hidden: int
) -> GatedEncoder:
    """Return the encoder that gates its middle stage, see ``GatedEncoder``."""
    return GatedEncoder(build_backbone(settings, img_size), img_size, stride, hidden)
