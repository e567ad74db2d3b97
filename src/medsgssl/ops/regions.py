"""Regions of the chest on tensors: which share of each cell of a view belongs to which region.

Lung and non-lung follow from a view's own mask. Zones do not: thirds of a lung's height and the
patient's left and right are facts of the whole image, which a crop cannot know. They are derived
from the mask of a whole-image view that travels in the same batch, and read through the affines
of the views. So a flip or a rotation needs no special case: a zone keeps its name wherever the view
puts it. A label map rendered beside each view would say the same at the price of a connected
component analysis per image in the loader, several times the price of rendering the views.

Left and right are the patient's: the patient's left lung lies on the right of the image.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from medsgssl.ops.coordinates import read_map, view_to_frame

#: Regions of a view's own mask, in the order of the channels.
LUNG_REGIONS = ("lung", "non-lung")
#: Zones of the whole image, in the order of the channels.
ZONES = (
    "right upper",
    "right middle",
    "right lower",
    "left upper",
    "left middle",
    "left lower",
    "mediastinum",
)

# Zones are drawn on this many cells per side: finer than any last feature map at 224 pixels.
_FRAME_SIDE = 64


def lung_and_rest(masks_NSS: Tensor) -> Tensor:
    """Return the maps of ``LUNG_REGIONS``, (N, 2, S, S) float of 0 and 1.

    Args:
        masks_NSS: Each view's own mask, (N, S, S) bool.
    """
    return torch.stack([masks_NSS, ~masks_NSS], dim=1).float()


def zones_of_views(
    full_BSS: Tensor, affines_B23: Tensor, frames_B23: Tensor, size: int, side: int
) -> Tensor:
    """Return the maps of ``ZONES`` in views, (B, 7, side, side) float of 0 and 1.

    Args:
        full_BSS: Masks of whole-image views, (B, S, S) bool.
        affines_B23: The views' pixels to cached image pixels, (B, 2, 3).
        frames_B23: The whole-image views' pixels to cached image pixels, (B, 2, 3).
        size: Side S of the views in pixels.
        side: Cells per side of the answer.
    """
    theta = view_to_frame(affines_B23, frames_B23, size)
    return read_map(zones_of_images(full_BSS), theta, side, "nearest")


def zones_of_images(full_BSS: Tensor) -> Tensor:
    """Return the maps of ``ZONES`` of whole images, (B, 7, 64, 64) float of 0 and 1.

    The lungs part at the column that holds the least lung in the middle third of their box; zones
    are thirds of the height of each lung; the mediastinum is what lies between the inner borders of
    the lungs in the rows that hold both. These are the zones of ``medsgssl.masks.regions``, which
    also follows a lung across the middle.

    Args:
        full_BSS: Masks of whole images, (B, S, S) bool.
    """
    cover = F.adaptive_avg_pool2d(full_BSS[:, None].float(), _FRAME_SIDE)[:, 0]
    lung = cover >= 0.5
    columns = torch.arange(_FRAME_SIDE, device=lung.device)
    parting = _parting_column(lung)[:, None, None]
    right, left = lung & (columns < parting), lung & (columns >= parting)
    between = ~lung & (_reach(right, 2) > 0) & (_reach(left.flip(2), 2).flip(2) > 0)
    return torch.cat([_thirds(right), _thirds(left), between[:, None]], dim=1).float()


def lung_columns(masks_BSS: Tensor) -> tuple[Tensor, Tensor]:
    """Return the first and the last column that holds lung, both (B,) int64; 0 and S - 1 if none.

    Args:
        masks_BSS: (B, S, S) bool.
    """
    return _ends(masks_BSS.any(dim=1))


def _ends(any_BN: Tensor) -> tuple[Tensor, Tensor]:
    # argmax finds the first True, and place 0 where there is none.
    held = any_BN.to(torch.uint8)
    return held.argmax(dim=1), held.shape[1] - 1 - held.flip(1).argmax(dim=1)


def _reach(lung: Tensor, dim: int) -> Tensor:
    return lung.to(torch.uint8).cummax(dim=dim).values


def _parting_column(lung: Tensor) -> Tensor:
    first, last = (place.float()[:, None] for place in lung_columns(lung))
    columns = torch.arange(lung.shape[2], device=lung.device)
    width, middle = last - first + 1, (first + last + 1) / 2
    # Of equally thin columns the one nearest to the middle.
    cost = lung.sum(dim=1) + (columns - middle).abs() / lung.shape[2]
    outer = (columns - middle).abs() > width / 6 + 1
    return cost.masked_fill(outer, torch.inf).argmin(dim=1)


def _thirds(lung: Tensor) -> Tensor:
    top, bottom = (place[:, None] for place in _ends(lung.any(dim=2)))
    rows = torch.arange(lung.shape[1], device=lung.device)
    third = ((rows - top) * 3).div(bottom - top + 1, rounding_mode="floor")
    return torch.stack([lung & (third == number)[:, :, None] for number in range(3)], dim=1)
