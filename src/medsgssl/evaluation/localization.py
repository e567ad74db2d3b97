"""How well a map fits a box: pointing game, overlap at thresholds, energy inside.

Sources:
    Zhang et al., "Top-down neural attention by excitation backprop", ECCV 2016 (pointing game).
    Wang et al., "Score-CAM", CVPR workshops 2020 (energy-based pointing game).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medsgssl.data.boxes import BOX_FRAME

Map = NDArray[np.float32]
#: Shares of the highest value at which a map is cut for the overlap.
THRESHOLDS = (0.25, 0.5, 0.75)
# Values this close, relative to the highest, are tied: enlarging a map rounds.
_TIE = 1e-5


@dataclass(frozen=True)
class BoxScores:
    """One map against one box.

    Attributes:
        pointing: Whether the highest value lies inside the box, 0 or 1. Of tied values their
            centroid decides; where it lies between pixels, the share of them inside the box.
        iou: Overlap of the box with the map cut at each of ``THRESHOLDS``.
        energy: Share of the map's sum inside the box; NaN for a map of zeros.
        area: Share of the image that the box covers: what a blind guess would score in pointing
            and energy.
    """

    pointing: float
    iou: tuple[float, ...]
    energy: float
    area: float


def box_mask(box: tuple[float, float, float, float], size: int) -> NDArray[np.bool_]:
    """Return the pixels of a cached image whose center lies in a box, at least one.

    Args:
        box: ``x``, ``y``, width and height in the 1024 x 1024 frame.
        size: Side of the cached image in pixels.
    """
    x, y, width, height = (value * size / BOX_FRAME for value in box)
    mask = np.zeros((size, size), dtype=bool)
    columns, rows = _centers(x, width, size), _centers(y, height, size)
    mask[rows, columns] = True
    return mask


def _centers(start: float, length: float, size: int) -> slice:
    first = min(max(math.ceil(start - 0.5), 0), size - 1)
    return slice(first, max(min(math.ceil(start + length - 0.5), size), first + 1))


def score_box(heatmap: Map, box: NDArray[np.bool_]) -> BoxScores:
    """Score a map against a box.

    Args:
        heatmap: (S, S), non-negative.
        box: (S, S) bool.
    """
    top = float(heatmap.max())
    if top <= 0:
        return BoxScores(0.0, (0.0,) * len(THRESHOLDS), math.nan, float(box.mean()))
    overlaps = []
    for share in THRESHOLDS:
        hot = heatmap >= share * top
        overlaps.append(float((hot & box).sum() / (hot | box).sum()))
    return BoxScores(
        _pointing(heatmap >= top * (1 - _TIE), box),
        tuple(overlaps),
        energy_inside(heatmap, box),
        float(box.mean()),
    )


def _pointing(highest: NDArray[np.bool_], box: NDArray[np.bool_]) -> float:
    """Return the share of the pixels at the centroid of the highest values inside a box.

    A small map that is enlarged has a plateau of highest values, often at the image's edge; any
    rule that takes its first pixel would prefer the upper left.
    """
    row, column = (float(places.mean()) for places in np.nonzero(highest))
    around = [
        box[y, x]
        for y in {math.floor(row + _TIE), math.ceil(row - _TIE)}
        for x in {math.floor(column + _TIE), math.ceil(column - _TIE)}
    ]
    return float(np.mean(around))


def center_prior(size: int) -> Map:
    """Return a map that looks at the middle of every image: a normal bump, ``(S, S)``.

    Findings lie near the middle, so a map has to score better than this one, not only better than
    a blind guess. Its standard deviation is a quarter of the side.
    """
    along = (np.arange(size) - (size - 1) / 2) / (size / 4)
    bump = np.exp(-(along**2) / 2)
    return np.outer(bump, bump).astype(np.float32)


def energy_inside(heatmap: Map, region: NDArray[np.bool_]) -> float:
    """Return the share of a map's sum inside a region; NaN for a map of zeros."""
    total = float(heatmap.sum(dtype=np.float64))
    return float(heatmap[region].sum(dtype=np.float64)) / total if total > 0 else math.nan
