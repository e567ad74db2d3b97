"""What a pair of lungs looks like in coordinates of its own box, to be compared with other lungs.

Gray levels are taken relative to what lies around the lungs, at some distance: a lesion inside the
lungs cannot move that unit, nor can exposure or a linear change of contrast; a marker or a wire is
too small to. ``models.lung_norms`` knows what is normal at each place and turns this into saliency.
No gradient flows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from medsgssl.ops.coordinates import read_map
from medsgssl.ops.patch_grid import cell_means

#: Places per side of the box around both lungs.
PLACES = 56
#: Cells per side of the grid on which the outline of the lungs is described.
OUTLINE_CELLS = 7

# Share of the box's sides added on every side.
_MARGIN = 0.06
# Places that are lung, or this near to lung, do not belong to the surroundings; odd.
_APART = 7
# The unit lies between these percentiles of the surroundings, and is never smaller than this.
_LOW, _HIGH, _SMALLEST_UNIT = 0.3, 0.9, 0.05
_GRAY_RANGE = (-15.0, 10.0)


@dataclass
class LungAppearance:
    """What ``lung_appearance`` returns for B images, W = ``PLACES``.

    Attributes:
        gray: (B, W, W) float, density in units of the surroundings; 0 outside the lungs.
        lung: (B, W, W) bool, places inside the lungs, without their rim.
        outline: (B, 7, 7) float, share of lung in each cell of the box.
        area: (B,) float, share of the view that the box takes.
        boxes: (B, 2, 3) float32, from the box to the view, both in normalized coordinates.
    """

    gray: Tensor
    lung: Tensor
    outline: Tensor
    area: Tensor
    boxes: Tensor


@torch.no_grad()
def lung_appearance(images_B1SS: Tensor, masks_BSS: Tensor) -> LungAppearance:
    """Return how dense and how shaped the lungs are, in the box around both.

    Args:
        images_B1SS: Upright views of the whole frame, (B, 1, S, S) float in [0, 1].
        masks_BSS: Their lung masks, (B, S, S) bool; where one is empty nothing is lung.
    """
    boxes, area = _boxes(masks_BSS)
    images, masks = images_B1SS.float(), masks_BSS[:, None].float()
    read = read_map(
        torch.cat([images, images * masks, masks], dim=1), boxes, 2 * PLACES, "bilinear"
    )
    # Twice as many points as places, so that fine views are averaged and not skipped.
    everything, of_lung, cover = F.avg_pool2d(read, 2).unbind(dim=1)
    # At the rim the mean over lung alone: a wire beside the lung must not shine in.
    gray = torch.where(cover > 0, of_lung / cover.clamp_min(1e-6), everything)[:, None]
    cover = cover[:, None]
    inside = (cover >= 0.5).float()
    lung = -F.max_pool2d(-inside, 3, stride=1, padding=1) > 0
    around = F.max_pool2d(inside, _APART, stride=1, padding=_APART // 2) == 0
    low, high = _percentiles(gray.flatten(1), around.flatten(1), (_LOW, _HIGH))
    unit = (high - low).clamp_min(_SMALLEST_UNIT)[:, None, None, None]
    density = ((gray - low[:, None, None, None]) / unit).clamp(*_GRAY_RANGE)
    return LungAppearance(
        gray=torch.where(lung, density, 0.0)[:, 0],
        lung=lung[:, 0],
        outline=cell_means(inside, (OUTLINE_CELLS, OUTLINE_CELLS))[:, 0],
        area=area,
        boxes=boxes,
    )


def _boxes(masks_BSS: Tensor) -> tuple[Tensor, Tensor]:
    """Return the maps from boxes to views, (B, 2, 3), and the boxes' shares of the views, (B,).

    A view without lung is its own box.
    """
    size = masks_BSS.shape[-1]
    rows = []
    sides = []
    for dim in (1, 2):  # columns that hold lung, then rows
        held = masks_BSS.any(dim=dim).to(torch.uint8)
        first, last = held.argmax(dim=1), size - 1 - held.flip(1).argmax(dim=1)
        side = (last - first + 1) / size
        center = (first + last + 1) / size - 1
        zero = torch.zeros_like(side)
        scale = side * (1 + 2 * _MARGIN)
        rows.append(torch.stack([scale, zero, center] if dim == 1 else [zero, scale, center], 1))
        sides.append(side)
    return torch.stack(rows, dim=1), sides[0] * sides[1]


def local_mean(values_BWW: Tensor, inside_BWW: Tensor, width: int) -> Tensor:
    """Return the means over those places of a window that lie inside; 0 elsewhere.

    Source: Knutsson and Westin, "Normalized and differential convolution", CVPR 1993.

    Args:
        values_BWW: (B, W, W) float.
        inside_BWW: (B, W, W) bool.
        width: Odd side of the window.
    """
    inside = inside_BWW[:, None].float()
    sums = F.avg_pool2d(values_BWW[:, None] * inside, width, stride=1, padding=width // 2)
    share = F.avg_pool2d(inside, width, stride=1, padding=width // 2)
    return (sums / share.clamp_min(1e-6) * inside)[:, 0]


def soft_maximum(values_BWW: Tensor, inside_BWW: Tensor, sharpness: float) -> Tensor:
    """Return log mean exp(sharpness value) / sharpness over the places inside, (B,); 0 if none.

    It grows with every value, and most with the largest.

    Args:
        values_BWW: (B, W, W) float.
        inside_BWW: (B, W, W) bool.
        sharpness: > 0; towards 0 it is the mean, for large values the maximum.
    """
    inside, values = inside_BWW.flatten(1), sharpness * values_BWW.flatten(1)
    count = inside.sum(dim=1)
    total = torch.logsumexp(values.masked_fill(~inside, -math.inf), dim=1)
    return torch.where(count > 0, total - count.clamp_min(1).log(), 0.0) / sharpness


def _percentiles(values_NP: Tensor, inside_NP: Tensor, shares: tuple[float, ...]) -> list[Tensor]:
    # Sorted with what lies outside at the end; 0 where nothing lies inside.
    ordered = values_NP.masked_fill(~inside_NP, torch.inf).sort(dim=1).values
    count = inside_NP.sum(dim=1, keepdim=True)
    values = []
    for share in shares:
        index = (share * (count - 1)).round().long().clamp_min(0)
        values.append(torch.where(count > 0, ordered.gather(1, index), 0.0)[:, 0])
    return values
