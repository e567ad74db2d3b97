"""One more input channel for the lung mask, and the noise that keeps it from being a shortcut.

Source: zero-initialized new filters follow Zhang et al., "Adding conditional control to
text-to-image diffusion models", ICCV 2023; dropping an input follows Ho and Salimans,
"Classifier-free diffusion guidance", 2022. Rank filters as graded erosion and dilation: Serra,
"Image analysis and mathematical morphology", 1982.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from timm.data import resolve_data_config  # type: ignore[attr-defined]
from timm.layers import (  # type: ignore[attr-defined]
    ScaledStdConv2d,
    ScaledStdConv2dSame,
    StdConv2d,
    StdConv2dSame,
)
from torch import Tensor, nn

from medsgssl.config.schema import EncoderSettings
from medsgssl.errors import ConfigError
from medsgssl.models.backbone import build_backbone
from medsgssl.models.encoder import Encoder, Features, in_eval_mode


def add_zero_channel(backbone: nn.Module) -> None:
    """Give the first convolution one more input channel whose filters are zero.

    The result has the names and shapes of the timm model with ``in_chans=4``. Until the new filters
    are trained, its output is that of the 3-channel network, whatever the new channel holds.

    Args:
        backbone: A timm model, changed in place.

    Raises:
        ConfigError: Its first layer is not a plain convolution of the image.
    """
    config: Any = getattr(backbone, "default_cfg", None) or {}
    names = config.get("first_conv") or ()
    names = (names,) if isinstance(names, str) else tuple(names)
    convolutions = [backbone.get_submodule(name) for name in names]
    if not convolutions:
        raise _unfit(backbone, "timm does not name its first convolution")
    channels = len(resolve_data_config(model=backbone)["mean"])  # type: ignore[no-untyped-call]
    for convolution in convolutions:
        if not isinstance(convolution, nn.Conv2d) or convolution.in_channels != channels:
            raise _unfit(backbone, "its first layer is not a convolution of the image itself")
        # Filters that are standardized together would change as soon as zeros join them.
        if isinstance(
            convolution, (StdConv2d, StdConv2dSame, ScaledStdConv2d, ScaledStdConv2dSame)
        ):
            raise _unfit(backbone, "its first filters are standardized (BiT, NFNet)")
        filters = convolution.weight.detach()
        zeros = torch.zeros_like(filters[:, :1])
        convolution.weight = nn.Parameter(torch.cat([filters, zeros], dim=1))
        convolution.in_channels = channels + 1


def _unfit(backbone: nn.Module, reason: str) -> ConfigError:
    return ConfigError(
        f"{type(backbone).__name__} cannot take a mask channel: {reason}",
        "set encoder.name to another CNN or vision transformer, e.g. mobilenetv2_100",
    )


def perturb_masks(masks_BSS: Tensor, reach: float) -> Tensor:
    """Grow or shrink each mask, then shift it, by random amounts of its own.

    A pixel stays lung where more than a random share of its square neighborhood is: a share near
    0 dilates by the neighborhood's radius, one near 1 erodes by it. Borders repeat, so that a
    whole-image mask stays one.

    Args:
        masks_BSS: (B, S, S) bool.
        reach: Largest growth, shrinkage and shift along each axis, as a share of the side.

    Returns:
        (B, S, S) bool.
    """
    count, size = masks_BSS.shape[0], masks_BSS.shape[-1]
    radius = round(reach * size)
    if radius == 0:
        return masks_BSS
    device = masks_BSS.device
    side = 2 * radius + 1
    share = masks_BSS[:, None].float()
    for kernel, padding in (((side, 1), (radius, 0)), ((1, side), (0, radius))):
        share = F.avg_pool2d(share, kernel, 1, padding, count_include_pad=False)
    # Half a pixel inside [0, 1]: 0 and 1 themselves must stay 0 and 1 despite rounding.
    edge = 0.5 / side**2
    threshold = edge + (1 - 2 * edge) * torch.rand(count, 1, 1, device=device)
    changed = share[:, 0] > threshold
    shift = torch.randint(-radius, radius + 1, (2, count, 1), device=device)
    rows, columns = (torch.arange(size, device=device) + shift).clamp(0, size - 1)
    images = torch.arange(count, device=device)[:, None, None]
    return changed[images, rows[:, :, None], columns[:, None, :]]


class MaskChannelEncoder(Encoder):
    """A backbone whose input is image and mask.

    In training each mask is perturbed, and dropped (all zero) with probability ``drop``. At test
    the mask enters unchanged, or not at all where ``at_test`` is False. A mask of a quality below
    ``min_quality`` enters as dropped, in training and at test.

    Args:
        backbone: A timm model; it is given one more channel.
        drop: Probability of dropping a view's mask in training, in [0, 1].
        reach: Strength of the perturbation, see ``perturb_masks``.
        at_test: Whether the mask enters in eval mode.
        min_quality: Smallest quality of a mask that enters, in [0, 1].
        size: Side of the images in pixels; the backbone's own when not given.
    """

    needs_masks = True

    def __init__(
        self,
        backbone: nn.Module,
        drop: float = 0.5,
        reach: float = 0.03,
        at_test: bool = True,
        min_quality: float = 0.3,
        size: int | None = None,
    ) -> None:
        super().__init__(backbone, size)
        add_zero_channel(backbone)
        self._try_four_channels()
        self._drop, self._reach, self._at_test = drop, reach, at_test
        self._min_quality = min_quality

    def forward(self, images: Tensor, masks: Tensor, quality: Tensor | None = None) -> Features:
        """Encode a batch.

        Args:
            images: (B, 1, S, S) float in [0, 1].
            masks: (B, S, S) bool.
            quality: How far each mask can be trusted, (B,) in [0, 1]; None: fully.
        """
        if quality is not None:
            masks = masks & (quality >= self._min_quality)[:, None, None]
        channel = self._channel(masks)[:, None].to(images.dtype)
        return self.features(torch.cat([self.normalize(images), channel], dim=1))

    def _try_four_channels(self) -> None:
        image = self._tried()
        try:
            with torch.no_grad(), in_eval_mode(self.backbone):
                self.backbone.forward_features(torch.cat([image, image[:, :1]], dim=1))
        except Exception as error:
            raise _unfit(self.backbone, f"it fails with four channels ({error})") from error

    def _channel(self, masks: Tensor) -> Tensor:
        if not self.training:
            return masks if self._at_test else torch.zeros_like(masks)
        kept = torch.rand(masks.shape[0], 1, 1, device=masks.device) >= self._drop
        return perturb_masks(masks, self._reach) & kept


def build_mask_channel_encoder(
    settings: EncoderSettings,
    img_size: int,
    drop: float,
    reach: float,
    at_test: bool,
    min_quality: float = 0.3,
) -> MaskChannelEncoder:
    """Return the encoder of image and mask, see ``MaskChannelEncoder``."""
    backbone = build_backbone(settings, img_size)
    return MaskChannelEncoder(backbone, drop, reach, at_test, min_quality, img_size)
