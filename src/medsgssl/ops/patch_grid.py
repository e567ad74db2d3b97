"""Lung cover on a grid of cells, and the choice of cells to hide."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def cell_cover(masks_BSS: Tensor, cells: int) -> Tensor:
    """Return the share of lung in each of ``cells`` x ``cells`` grid cells, (B, cells, cells).

    Args:
        masks_BSS: (B, S, S) bool.
        cells: Grid cells per side.
    """
    return F.adaptive_avg_pool2d(masks_BSS[:, None].float(), cells)[:, 0]


def choose_cells(candidates_BHW: Tensor, share_B: Tensor) -> Tensor:
    """Choose a random share of the candidate cells of each image.

    Args:
        candidates_BHW: (B, h, w) bool, the cells that may be chosen.
        share_B: (B,) share of each image's candidates to choose, in [0, 1].

    Returns:
        (B, h, w) bool; exactly round(share * candidates) cells per image, all of them candidates.
    """
    flat = candidates_BHW.flatten(1)
    # Non-candidates draw a number above all others, and so are never among the first.
    draw = torch.rand(flat.shape, device=flat.device).masked_fill(~flat, 2.0)
    rank = draw.argsort(dim=1).argsort(dim=1)
    count = (share_B * flat.sum(dim=1)).round()
    return (rank < count[:, None]).view_as(candidates_BHW)


def paint_cells(cells_BHW: Tensor, size: int) -> Tensor:
    """Enlarge a grid of cells (B, h, w) bool to pixels (B, size, size) bool."""
    return F.interpolate(cells_BHW[:, None].float(), size=size, mode="nearest")[:, 0] > 0.5
