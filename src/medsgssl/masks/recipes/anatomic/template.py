"""Step 4, template: the outline of each lung as drawn by code, placed into its box.

The outlines were drawn by hand from anatomy: apex, mediastinal border (with the notch of the heart
on the left), cardiophrenic angle, dome of the diaphragm, costophrenic angle, chest wall. They are
no average of masks drawn by people.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline

from medsgssl.masks.recipes.anatomic.candidates import Bounds

Outline = NDArray[np.float64]

POINTS = 56

# (distance from the chest wall, distance from the apex) as shares of the lung's width and height;
# from the apex along the mediastinum, over the diaphragm and up the chest wall.
_PATIENTS_RIGHT = (
    (0.72, 0.0), (0.90, 0.05), (0.97, 0.15), (0.965, 0.30), (0.94, 0.42), (0.93, 0.52),
    (0.955, 0.65), (0.97, 0.75), (0.955, 0.82), (0.76, 0.80), (0.57, 0.80), (0.38, 0.835),
    (0.20, 0.91), (0.08, 0.98), (0.02, 0.99), (0.0, 0.92), (0.01, 0.80), (0.04, 0.65),
    (0.10, 0.45), (0.19, 0.28), (0.32, 0.13), (0.50, 0.03),
)  # fmt: skip
_PATIENTS_LEFT = (
    (0.70, 0.0), (0.88, 0.04), (0.96, 0.11), (0.965, 0.19), (0.91, 0.27), (0.91, 0.36),
    (0.85, 0.48), (0.75, 0.58), (0.63, 0.70), (0.56, 0.80), (0.53, 0.86), (0.42, 0.865),
    (0.27, 0.90), (0.13, 0.96), (0.04, 0.99), (0.0, 0.93), (0.01, 0.80), (0.04, 0.65),
    (0.10, 0.45), (0.19, 0.28), (0.31, 0.13), (0.48, 0.03),
)  # fmt: skip


@cache
def _unit_outlines() -> tuple[Outline, Outline]:
    """Both outlines at equal steps along a smooth closed curve, ``POINTS x 2``."""
    return _resampled(_PATIENTS_RIGHT), _resampled(_PATIENTS_LEFT)


def _resampled(corners: tuple[tuple[float, float], ...]) -> Outline:
    drawn = np.array([*corners, corners[0]])
    # A lung is about twice as high as wide; steps are equal in that proportion.
    steps = np.hypot(*(np.diff(drawn, axis=0) * (0.5, 1.0)).T)
    along = np.concatenate([[0.0], np.cumsum(steps)])
    curve = CubicSpline(along, drawn, bc_type="periodic")
    points = curve(np.linspace(0.0, along[-1], POINTS, endpoint=False))
    return np.asarray((np.roll(points, 1, axis=0) + 2 * points + np.roll(points, -1, axis=0)) / 4)


def place_template(boxes: tuple[Bounds, Bounds]) -> Outline:
    """Return the outlines of both lungs inside their boxes.

    Args:
        boxes: Boxes of the image's left and right lung, in pixels.

    Returns:
        float64, ``2 x POINTS x 2``: side of the image, point, (x, y) in the pixels of the boxes.
    """
    placed = []
    for side, (unit, box) in enumerate(zip(_unit_outlines(), boxes, strict=True)):
        width = box.right - box.left
        x = box.left + unit[:, 0] * width if side == 0 else box.right - unit[:, 0] * width
        placed.append(np.stack([x, box.top + unit[:, 1] * (box.bottom - box.top)], axis=1))
    return np.stack(placed)
