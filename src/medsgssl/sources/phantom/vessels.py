"""Pulmonary vessels: trees that branch from the hila and thin towards the pleura."""

from __future__ import annotations

import numpy as np

from medsgssl.sources.phantom.anatomy import LEFT, RIGHT, Anatomy
from medsgssl.sources.phantom.canvas import Bytes, Canvas, Points

_LEVELS = 5
_STEPS = 6


def hilum(anatomy: Anatomy, side: int) -> tuple[float, float]:
    """Return the centre of one hilum; the left one lies higher."""
    return anatomy.at(side, 0.082, anatomy.level(0.55 if side < 0 else 0.51))


def draw_vessels(canvas: Canvas, anatomy: Anatomy, random: np.random.Generator) -> Bytes:
    """Draw the vessels of both lungs.

    Returns:
        ``uint8`` raster, brighter where a vessel is thicker; not yet cut to the lungs.
    """
    raster = canvas.blank()
    trees = [_tree(anatomy, side, random) for side in (RIGHT, LEFT)]
    for level in reversed(range(_LEVELS)):
        width = 0.0085 * 0.62**level
        for lines in (tree[level] for tree in trees):
            canvas.stroke(lines, width, round(235 * 0.8**level), raster)
    return raster


def _tree(anatomy: Anatomy, side: int, random: np.random.Generator) -> list[Points]:
    """Return, level by level, the polylines of one lung, ``(n, steps, 2)``."""
    roots = 15
    # Zero points sideways, positive angles downwards; most vessels serve the lower lobe.
    angle = np.linspace(-1.35, 1.5, roots) + random.normal(0, 0.12, roots)
    start = np.array(hilum(anatomy, side)) + random.normal(0, 1, (roots, 2)) * [0.012, 0.03]
    start[:, 1] += 0.03 * np.sin(angle)
    length = 0.075 * random.uniform(0.75, 1.25, roots) * (anatomy.span / 0.55)
    levels = []
    for level in range(_LEVELS):
        bend = random.normal(0, 0.5, len(angle))
        along = np.linspace(0, 1, _STEPS)
        heading = angle[:, None] + bend[:, None] * along[None, :]
        stride = (length / (_STEPS - 1))[:, None]
        x = np.cumsum(np.cos(heading) * stride, axis=1) * side
        y = np.cumsum(np.sin(heading) * stride, axis=1)
        lines = np.stack([x, y], axis=2)
        lines = lines - lines[:, :1] + start[:, None, :]
        levels.append(lines)
        fork = random.uniform(0.22, 0.6, (2, len(angle))) * np.array([[-1.0], [1.0]])
        keep = random.random((2, len(angle))) < (0.95 if level < 3 else 0.75)
        angle = (heading[:, -1][None] + fork)[keep]
        start = np.broadcast_to(lines[None, :, -1], (2, *lines[:, -1].shape))[keep]
        length = (np.broadcast_to(length, keep.shape) * random.uniform(0.6, 0.95, keep.shape))[keep]
    return levels
