"""Do the maps of two views agree in the image that both views show?

Source: Wang et al., "Self-supervised equivariant attention mechanism for weakly supervised
semantic segmentation" (SEAM), CVPR 2020, equation 3 (L1); here with the views' own affine maps.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from medsgssl.ops.coordinates import inverse_affine

# Points per side of the grid on which two maps are compared.
_POINTS = 32


def equivariance_loss(
    first_BHW: Tensor,
    second_BHW: Tensor,
    affines_first: Tensor,
    affines_second: Tensor,
    size: int,
) -> Tensor:
    """Return the mean absolute difference of two maps in the image frame, where both see it.

    Both maps are read at the same points: a regular grid over the box, in image coordinates, that
    the two views share. Reading is bilinear between cell centers, and points outside the outermost
    centers of either map are left out, so that nothing is extrapolated: any two maps that
    agree on the image give 0, exactly where bilinear reading is (constant and linear maps, and any
    map where cells fall on cells).

    Args:
        first_BHW: Maps of the first views, (B, h, w) float.
        second_BHW: Maps of the second views, (B, h, w) float.
        affines_first: First views' pixels to image pixels, (B, 2, 3).
        affines_second: Second views' pixels to image pixels, (B, 2, 3).
        size: Side S of the views in pixels.

    Returns:
        A scalar with gradient to both maps; 0 where no views overlap.
    """
    points = _shared_grid(affines_first.float(), affines_second.float(), size)
    # Both are read relative to one value, so that rounding leaves equal constants at exactly 0.
    level = first_BHW[:, :1, :1].detach()
    first, sees_first = _read(first_BHW - level, affines_first, points, size)
    second, sees_second = _read(second_BHW - level, affines_second, points, size)
    both = (sees_first & sees_second).float()
    count = both.sum(dim=1)
    per_image = (both * (first - second).abs()).sum(dim=1) / count.clamp_min(1)
    return per_image.sum() / (count > 0).sum().clamp_min(1)


def _shared_grid(affines_first: Tensor, affines_second: Tensor, size: int) -> Tensor:
    """Return points (B, P, 2) over the intersection of the two views' bounding boxes."""
    ends = torch.tensor([0.0, size - 1.0], device=affines_first.device)
    corners = torch.cartesian_prod(ends, ends)[None]
    boxes = [
        _times(affine[:, :, :2], corners) + affine[:, None, :, 2]
        for affine in (affines_first, affines_second)
    ]
    low = torch.maximum(boxes[0].amin(dim=1), boxes[1].amin(dim=1))
    high = torch.minimum(boxes[0].amax(dim=1), boxes[1].amax(dim=1))
    steps = (torch.arange(_POINTS, device=ends.device) + 0.5) / _POINTS
    grid = torch.cartesian_prod(steps, steps)
    # Where the boxes are disjoint the points lie outside both views, and so count nowhere.
    return low[:, None] + grid * (high - low)[:, None]


def _times(matrices_B22: Tensor, points_BP2: Tensor) -> Tensor:
    # Not a matrix product: autocast would round its coordinates to half precision.
    return (matrices_B22[:, None] * points_BP2[:, :, None]).sum(dim=3)


def _read(
    maps_BHW: Tensor, affines: Tensor, points_BP2: Tensor, size: int
) -> tuple[Tensor, Tensor]:
    """Return the maps' values at image points, (B, P), and where the maps reach, (B, P) bool."""
    back = inverse_affine(affines)
    pixels = _times(back[:, :, :2], points_BP2) + back[:, None, :, 2]
    # Pixel centers at integers; grid_sample wants the view's outer edges at -1 and 1.
    points = (2 * pixels + 1) / size - 1
    cells = torch.tensor([maps_BHW.shape[2], maps_BHW.shape[1]], device=points.device)
    reach = 1 - 1 / cells
    values = F.grid_sample(
        maps_BHW[:, None].float(), points[:, None], padding_mode="border", align_corners=False
    )
    return values[:, 0, 0], (points.abs() <= reach).all(dim=2)
