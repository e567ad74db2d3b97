"""Lung cover on a grid of cells, and the choice of cells to hide."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def cell_of_pixel(size: int, cells: int, device: torch.device | None = None) -> Tensor:
    """Return the grid cell that each of ``size`` pixels belongs to, (size,) int64.

    This is the one partition of a view into cells: every pixel belongs to one cell, also where
    ``size`` is no multiple of ``cells``, and pooling and painting agree on which.
    """
    return torch.arange(size, device=device) * cells // size


def cell_means(maps_BCHW: Tensor, cells: tuple[int, int]) -> Tensor:
    """Return the mean of maps over each cell of a grid, (B, C, h, w) float32.

    Args:
        maps_BCHW: (B, C, H, W) float.
        cells: Height h and width w of the grid; at most H and W.
    """
    height, width = maps_BCHW.shape[-2:]
    if height % cells[0] == 0 and width % cells[1] == 0:
        return F.adaptive_avg_pool2d(maps_BCHW.float(), cells)
    rows = _members(height, cells[0], maps_BCHW.device)
    columns = _members(width, cells[1], maps_BCHW.device)
    # Half precision would round the counts.
    with torch.autocast(maps_BCHW.device.type, enabled=False):
        sums = rows @ maps_BCHW.float() @ columns.T
        return sums / (rows.sum(dim=1)[:, None] * columns.sum(dim=1))


def _members(size: int, cells: int, device: torch.device) -> Tensor:
    """Return which pixels each cell has, (cells, size) float of 0 and 1."""
    return F.one_hot(cell_of_pixel(size, cells, device), cells).T.float()


def cell_cover(masks_BSS: Tensor, cells: int) -> Tensor:
    """Return the share of lung in each of ``cells`` x ``cells`` grid cells, (B, cells, cells).

    Args:
        masks_BSS: (B, S, S) bool.
        cells: Grid cells per side.
    """
    return cell_means(masks_BSS[:, None].float(), (cells, cells))[:, 0]


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
    rows, columns = (cell_of_pixel(size, cells, cells_BHW.device) for cells in cells_BHW.shape[1:])
    return cells_BHW[:, rows][:, :, columns]
