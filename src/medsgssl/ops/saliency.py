"""Where a lung looks abnormal: bright against its surroundings, or denser than the other lung.

Everything is computed from lung pixels alone, so nothing outside the mask (markers, wires, the
skin line, the bed) can change a value. No gradient flows.

Sources: bright spots at several scales as candidates of nodules: Schilham et al., "A computer-aided
diagnosis system for detection of lung nodules in chest radiographs with an evaluation on a public
database", Medical Image Analysis 2006; comparison with the mirrored lung: Tsukuda et al.,
"Detection of lung nodules on digital chest radiographs: potential usefulness of a new contralateral
subtraction technique", Radiology 2002; means over irregular regions: Knutsson and Westin,
"Normalized and differential convolution", CVPR 1993.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from medsgssl.ops.coordinates import read_map

# Findings that matter span several pixels here; finer maps only cost time.
_WORK_SIDE = 112
# The rim of the mask, where ribs and chest wall shine in, as a share of the side.
_RIM = 1 / 56
# Width of the window over which the two lungs are compared, as a share of the side.
_COMPARED = 1 / 12
# A gray unit is never smaller than this, or noise would be salient in an even lung.
_SMALLEST_UNIT = 0.03


@dataclass
class Saliency:
    """What ``lung_saliency`` returns for N views.

    Attributes:
        maps: (N, W, W) float, saliency in gray units, 0 outside the lungs.
        scores: (N,) float, mean of the most salient pixels of each view; 0 without lung.
    """

    maps: Tensor
    scores: Tensor


@torch.no_grad()
def lung_saliency(
    images_N1SS: Tensor,
    masks_NSS: Tensor,
    mirrors_N23: Tensor,
    scales: tuple[float, ...],
    top: float,
    cap: float,
) -> Saliency:
    """Return maps and scores of saliency inside the lungs.

    Gray levels are brought to units of the image's own aerated lung, (x - p50) / (p50 - p10) over
    lung pixels: percentiles of the darker half, which neither exposure nor an opacity of less than
    half of the lungs moves much. In these units

    saliency = max_s [mean_s - mean_3s]_+ + [mean_c - mirrored mean_c]_+, at most ``cap``,

    where mean_s is the mean over lung pixels in a window of width s.

    Args:
        images_N1SS: Views, (N, 1, S, S) float in [0, 1].
        masks_NSS: Each view's own lung mask, (N, S, S) bool.
        mirrors_N23: From each view to its mirror image about the midline of the lungs, (N, 2, 3),
            from ``frames.view_to_mirror``.
        scales: Widths s of the windows as shares of a view.
        top: Share of the lung pixels whose mean saliency is the score, in (0, 1].
        cap: Largest saliency of a pixel, in gray units.
    """
    side = min(_WORK_SIDE, images_N1SS.shape[-1])
    lung, gray = _lung_and_gray(images_N1SS, masks_NSS, side)
    contrast = torch.stack([_contrast(gray, lung, _odd(s * side)) for s in scales]).amax(dim=0)
    maps = ((contrast + _asymmetry(gray, lung, mirrors_N23)).clamp_max(cap) * lung)[:, 0]
    return Saliency(maps, _top_mean(maps.flatten(1), lung.flatten(1) > 0, top))


def _lung_and_gray(images: Tensor, masks: Tensor, side: int) -> tuple[Tensor, Tensor]:
    mask = masks[:, None].float()
    share = F.adaptive_avg_pool2d(mask, side)
    # The mean over the lung pixels of each cell: cells at the rim must not see the outside.
    level = F.adaptive_avg_pool2d(images.float() * mask, side) / share.clamp_min(1e-6)
    rim = _odd(2 * _RIM * side + 1)
    lung = -F.max_pool2d(-(share >= 0.5).float(), rim, stride=1, padding=rim // 2)
    low, middle = _percentiles(level.flatten(1), lung.flatten(1) > 0, (0.1, 0.5))
    unit = (middle - low).clamp_min(_SMALLEST_UNIT)
    gray = (level - middle[:, None, None, None]) / unit[:, None, None, None]
    return lung, gray * lung


def _contrast(gray: Tensor, lung: Tensor, width: int) -> Tensor:
    return (_local_mean(gray, lung, width) - _local_mean(gray, lung, 3 * width)).clamp_min(0)


def _asymmetry(gray: Tensor, lung: Tensor, mirrors: Tensor) -> Tensor:
    level = _local_mean(gray, lung, _odd(_COMPARED * gray.shape[-1])) * lung
    mirrored = read_map(torch.cat([level, lung], dim=1), mirrors, gray.shape[-1], "bilinear")
    other, other_lung = mirrored[:, :1], mirrored[:, 1:]
    denser: Tensor = (level - other / other_lung.clamp_min(0.5)).clamp_min(0)
    return denser * (other_lung > 0.5)


def _local_mean(values: Tensor, inside: Tensor, width: int) -> Tensor:
    return _box(values * inside, width) / _box(inside, width).clamp_min(1)


def _box(values: Tensor, width: int) -> Tensor:
    """Return sums over windows; running sums make the cost independent of the width."""
    for dim in (2, 3):
        padding = [0, 0, 0, 0]
        padding[2 * (3 - dim)] = width // 2 + 1
        padding[2 * (3 - dim) + 1] = width // 2
        running = F.pad(values, padding).cumsum(dim)
        length = values.shape[dim]
        values = running.narrow(dim, width, length) - running.narrow(dim, 0, length)
    return values


def _odd(width: float) -> int:
    return 2 * max(1, round((width - 1) / 2)) + 1


def _percentiles(values_NP: Tensor, inside_NP: Tensor, shares: tuple[float, ...]) -> list[Tensor]:
    # Sorted with what lies outside at the end; 0 where nothing lies inside.
    ordered = values_NP.masked_fill(~inside_NP, torch.inf).sort(dim=1).values
    count = inside_NP.sum(dim=1, keepdim=True)
    means = []
    for share in shares:
        index = (share * (count - 1)).round().long().clamp_min(0)
        means.append(torch.where(count > 0, ordered.gather(1, index), 0.0)[:, 0])
    return means


def _top_mean(values_NP: Tensor, inside_NP: Tensor, top: float) -> Tensor:
    ordered = values_NP.masked_fill(~inside_NP, 0.0).sort(dim=1, descending=True).values
    count = (top * inside_NP.sum(dim=1, keepdim=True)).ceil()
    taken = torch.arange(values_NP.shape[1], device=values_NP.device) < count
    return (ordered * taken).sum(dim=1) / count[:, 0].clamp_min(1)
