"""Reading maps of the whole image, or of a view itself, at the pixels of a view.

All maps here are in *normalized* coordinates: -1 and 1 are the outer edges of the first and the
last pixel, so that maps of any resolution share them (``align_corners=False`` in PyTorch).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def view_to_frame(affines_B23: Tensor, frames_B23: Tensor, size: int) -> Tensor:
    """Return the maps from a view to another view of the same image.

    Args:
        affines_B23: View pixels to cached image pixels, (B, 2, 3).
        frames_B23: The same of the views to be read, e.g. of the whole image, (B, 2, 3).
        size: Side S of all views in pixels.

    Returns:
        (B, 2, 3) float32 in normalized coordinates, as ``affine_grid`` takes it.
    """
    with _full_precision(affines_B23):
        return _normalized(_square(inverse_affine(frames_B23)) @ _square(affines_B23), size)


def chained(outer_B23: Tensor, inner_B23: Tensor) -> Tensor:
    """Return the maps that apply ``inner_B23`` first and ``outer_B23`` to what it gives, (B, 2, 3).

    Args:
        outer_B23: (B, 2, 3) float.
        inner_B23: (B, 2, 3) float.
    """
    with _full_precision(inner_B23):
        return (_square(outer_B23) @ _square(inner_B23))[:, :2]


def read_map(maps_BCHW: Tensor, theta_B23: Tensor, side: int, mode: str) -> Tensor:
    """Read maps at a grid of ``side`` x ``side`` points of the views; 0 beyond their edges.

    Args:
        maps_BCHW: Maps to read, (B, C, H, W) float.
        theta_B23: From the views to the maps, (B, 2, 3), in normalized coordinates.
        side: Points per side.
        mode: ``"nearest"`` or ``"bilinear"``.

    Returns:
        (B, C, side, side) float.
    """
    size = [maps_BCHW.shape[0], maps_BCHW.shape[1], side, side]
    with _full_precision(maps_BCHW):
        grid = F.affine_grid(theta_B23, size, align_corners=False)
        return F.grid_sample(maps_BCHW, grid, mode=mode, align_corners=False)


def _full_precision(tensor: Tensor) -> torch.autocast:
    # Mixed precision would round coordinates to a few pixels.
    return torch.autocast(tensor.device.type, enabled=False)


def _square(affines: Tensor) -> Tensor:
    last = affines.new_tensor([0.0, 0.0, 1.0]).expand(len(affines), 1, 3)
    return torch.cat([affines, last], dim=1).float()


def inverse_affine(affines_B23: Tensor) -> Tensor:
    """Return the maps back, (B, 2, 3) float32; of maps that can be inverted.

    Args:
        affines_B23: E.g. view pixels to cached image pixels, (B, 2, 3).
    """
    # Written out, for torch.linalg.inv makes a GPU wait for the host.
    (a, b, x), (c, d, y) = affines_B23.float().permute(1, 2, 0)
    rows = torch.stack([d, -b, b * y - d * x, -c, a, c * x - a * y], dim=1).view(-1, 2, 3)
    inverse: Tensor = rows / (a * d - b * c)[:, None, None]
    return inverse


def _normalized(pixels_B33: Tensor, size: int) -> Tensor:
    half, middle = size / 2, (size - 1) / 2
    to_pixels = pixels_B33.new_tensor([[half, 0, middle], [0, half, middle], [0, 0, 1]])
    to_unit = pixels_B33.new_tensor([[1, 0, -middle], [0, 1, -middle], [0, 0, half]]) / half
    return (to_unit @ pixels_B33 @ to_pixels)[:, :2]
