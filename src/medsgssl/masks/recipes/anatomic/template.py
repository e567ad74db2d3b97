"""Step 4, template: the outline of each lung, placed into its box.

The outlines were first drawn by hand from anatomy: apex, mediastinal border (with the notch of the
heart on the left), cardiophrenic angle, dome of the diaphragm, costophrenic angle, chest wall. The
recipe's own good outlines of unlabeled NIH images then took their place, as the point-wise median
(``benchmarks/mask_template.py``). They are no average of masks drawn by people.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline

from medsgssl.masks.recipes.anatomic.candidates import Bounds

Outline = NDArray[np.float64]

POINTS = 56

# (distance from the chest wall, distance from the apex) as shares of the lung's width and height,
# and the margin in pixels of the fine grid; from the apex along the mediastinum, over the diaphragm
# and up the chest wall.
_PATIENTS_RIGHT = (
    (0.744, 0.000, 2.0), (0.909, 0.028, 2.0), (0.988, 0.107, 1.3), (0.996, 0.196, -0.1),
    (0.975, 0.285, -0.2), (0.950, 0.373, -0.2), (0.929, 0.462, -1.0), (0.907, 0.551, -2.4),
    (0.884, 0.639, -2.5), (0.860, 0.728, -2.5), (0.853, 0.817, -2.0), (0.714, 0.858, -1.1),
    (0.535, 0.857, -1.0), (0.360, 0.873, -1.0), (0.201, 0.912, -1.0), (0.079, 0.976, 0.1),
    (0.002, 0.934, 2.2), (0.022, 0.846, 1.8), (0.053, 0.758, 1.5), (0.082, 0.670, 1.5),
    (0.106, 0.582, 1.5), (0.127, 0.493, 1.5), (0.153, 0.404, 1.5), (0.190, 0.317, 1.5),
    (0.241, 0.232, 1.5), (0.321, 0.152, 1.8), (0.435, 0.083, 2.0), (0.576, 0.029, 2.0),
)  # fmt: skip
_PATIENTS_LEFT = (
    (0.721, 0.000, 2.0), (0.887, 0.017, 2.0), (0.983, 0.087, 1.7), (0.995, 0.172, 0.3),
    (0.953, 0.255, -0.2), (0.924, 0.340, -0.2), (0.901, 0.425, -0.2), (0.838, 0.505, -0.2),
    (0.749, 0.578, -0.2), (0.647, 0.647, -0.2), (0.549, 0.718, -0.5), (0.480, 0.796, -1.0),
    (0.430, 0.877, -1.0), (0.274, 0.913, -1.0), (0.131, 0.961, 0.1), (0.001, 0.984, 2.2),
    (0.013, 0.898, 1.8), (0.040, 0.813, 1.5), (0.066, 0.728, 1.5), (0.083, 0.642, 1.5),
    (0.102, 0.557, 1.5), (0.119, 0.471, 1.5), (0.143, 0.386, 1.5), (0.174, 0.302, 1.5),
    (0.224, 0.219, 1.5), (0.308, 0.145, 1.8), (0.421, 0.080, 2.0), (0.560, 0.029, 2.0),
)  # fmt: skip


@cache
def unit_outlines() -> tuple[Outline, Outline]:
    """Both outlines at equal steps along a smooth closed curve, ``POINTS x 3`` (with margins)."""
    return resampled(_PATIENTS_RIGHT), resampled(_PATIENTS_LEFT)


def resampled(corners: tuple[tuple[float, ...], ...]) -> Outline:
    """Return ``POINTS`` points at equal steps along the smooth closed curve through corners.

    Args:
        corners: (distance from the wall, distance from the apex, and what else goes along).
    """
    drawn = np.array([*corners, corners[0]])
    # A lung is about twice as high as wide; steps are equal in that proportion.
    steps = np.hypot(*(np.diff(drawn[:, :2], axis=0) * (0.5, 1.0)).T)
    along = np.concatenate([[0.0], np.cumsum(steps)])
    curve = CubicSpline(along, drawn, bc_type="periodic")
    return np.asarray(curve(np.linspace(0.0, along[-1], POINTS, endpoint=False)))


@cache
def margins() -> Outline:
    """Return how far outside the steepest edge the border is drawn at every point.

    People draw the chest wall and the apex at the outer foot of the edge, the dome of the diaphragm
    and the heart at its inner foot. Chosen on the half of the development images for constants.

    Returns:
        float64, ``2 x POINTS x 1``, in pixels of the fine grid; negative lies inside.
    """
    return np.stack(unit_outlines())[..., 2:]


def place_template(boxes: tuple[Bounds, Bounds]) -> Outline:
    """Return the outlines of both lungs inside their boxes.

    Args:
        boxes: Boxes of the image's left and right lung, in pixels.

    Returns:
        float64, ``2 x POINTS x 2``: side of the image, point, (x, y) in the pixels of the boxes.
    """
    placed = []
    for side, (unit, box) in enumerate(zip(unit_outlines(), boxes, strict=True)):
        width = box.right - box.left
        x = box.left + unit[:, 0] * width if side == 0 else box.right - unit[:, 0] * width
        placed.append(np.stack([x, box.top + unit[:, 1] * (box.bottom - box.top)], axis=1))
    return np.stack(placed)
