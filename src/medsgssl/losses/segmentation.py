"""Losses and scores of a predicted lung map, per image.

Source: Milletari et al., "V-Net: fully convolutional neural networks for volumetric medical image
segmentation", 3DV 2016 (Dice with squared sums).
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

# Keeps Dice defined for a view without lung, and small where there the map is almost empty.
_SMOOTH = 1.0


def cross_entropy_per_image(logits_BHW: Tensor, target_BHW: Tensor) -> Tensor:
    """Return the mean binary cross-entropy of each map, (B,).

    Args:
        logits_BHW: (B, h, w) float.
        target_BHW: (B, h, w) float in [0, 1], the lung share of each cell.
    """
    loss = F.binary_cross_entropy_with_logits(logits_BHW, target_BHW, reduction="none")
    return loss.mean(dim=(1, 2))


def dice_per_image(map_BHW: Tensor, target_BHW: Tensor) -> Tensor:
    """Return 1 - (2 sum(p m) + 1) / (sum(p^2) + sum(m^2) + 1) of each map, (B,).

    It is 0 exactly where map and target are equal, also for targets between 0 and 1.

    Args:
        map_BHW: p, (B, h, w) float in [0, 1].
        target_BHW: m, (B, h, w) float in [0, 1].
    """
    both = (map_BHW * target_BHW).sum(dim=(1, 2))
    squares = (map_BHW.square() + target_BHW.square()).sum(dim=(1, 2))
    return 1 - (2 * both + _SMOOTH) / (squares + _SMOOTH)


def iou_per_image(map_BHW: Tensor, target_BHW: Tensor) -> Tensor:
    """Return the overlap of map and target, both cut at one half, (B,); 1 where both are empty.

    Args:
        map_BHW: (B, h, w) float in [0, 1].
        target_BHW: (B, h, w) float in [0, 1].
    """
    predicted, wanted = map_BHW > 0.5, target_BHW > 0.5
    both = (predicted & wanted).sum(dim=(1, 2)).float()
    either = (predicted | wanted).sum(dim=(1, 2)).float()
    return (both + (either == 0)) / either.clamp_min(1)
