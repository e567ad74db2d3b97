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
from medsgssl.models.backbone import build_backbone
from medsgssl.models.encoder import (
    Encoder,
    Features,
    MapLayout,
    in_eval_mode,
    layout_of_map,
    required_map,
)

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
        size: Side of the images in pixels; the backbone's own when not given.
        stride: Image pixels per cell of the gated stage of a CNN; the last stage that is not
            coarser is taken. Of a transformer it is the middle block.
        hidden: Width of the head that predicts the map.

    Raises:
        ConfigError: The backbone has no stage that can be gated.
    """

    hooks_backbone = True

    def __init__(
        self, backbone: nn.Module, size: int | None = None, stride: int = 16, hidden: int = 64
    ) -> None:
        super().__init__(backbone, size)
        self.stage, channels = self._choose_stage(stride)
        self.stage_layout = self._try_stage(channels)
        self.lung_map = LungMap(self.stage_layout.channels, hidden)

    def forward(self, images: Tensor, masks: Tensor, quality: Tensor | None = None) -> Features:
        """Encode a batch.

        Args:
            images: (B, 1, S, S) float in [0, 1].
            masks: (B, S, S) bool; not used here.
            quality: Not used here.
        """
        logits: list[Tensor] = []

        def gate(_: nn.Module, __: Any, output: Tensor) -> Tensor:
            logits.append(self.lung_map(self.stage_layout.as_map(output)))
            return self.stage_layout.scale(output, 1 + logits[0].sigmoid().to(output.dtype))

        with self.backbone.get_submodule(self.stage).register_forward_hook(gate):
            features = self.features(self.normalize(images))
        features.extra["lung_logits"] = logits[0]
        features.extra["lung_map"] = logits[0].sigmoid()
        return features

    def _choose_stage(self, stride: int) -> tuple[str, int]:
        """Return the name of the stage, and its channels."""
        if isinstance(self.layout, MapLayout) and hasattr(self.backbone, "blocks") and self.is_vit:
            return f"blocks.{max(len(self.backbone.blocks) // 2 - 1, 0)}", self.layout.channels
        stages = getattr(self.backbone, "feature_info", None) or []
        # A list in most of timm's models, an object that holds the list in the others.
        known = [info for info in getattr(stages, "info", stages) if info["reduction"] <= stride]
        if not known or not known[-1]["module"]:
            raise self._unfit(f"timm names no stage of it with a stride of at most {stride}")
        return str(known[-1]["module"]), int(known[-1]["num_chs"])

    def _try_stage(self, channels: int) -> MapLayout:
        """Return the layout of the stage's output for one image."""
        outputs: list[Any] = []
        try:
            stage = self.backbone.get_submodule(self.stage)
        except AttributeError as error:
            raise self._unfit(f"it has no part called {self.stage}") from error
        with (
            torch.no_grad(),
            in_eval_mode(self.backbone),
            stage.register_forward_hook(lambda *call: outputs.append(call[2])),
        ):
            self.backbone.forward_features(self._tried())
        layout = None
        if len(outputs) == 1 and isinstance(outputs[0], Tensor):
            declared = getattr(self.backbone, "output_fmt", None)
            if outputs[0].ndim == 4:
                layout = layout_of_map(outputs[0], channels, declared)
            elif outputs[0].ndim == 3 and self.stage.startswith("blocks."):
                # The blocks of a plain transformer hand on the tokens of its output.
                last = required_map(self.layout)
                tokens = last.prefix + last.grid[0] * last.grid[1]
                layout = last if outputs[0].shape[1:] == (tokens, last.channels) else None
        if layout is None:
            raise self._unfit(f"its stage {self.stage} does not return one feature map")
        return layout

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
