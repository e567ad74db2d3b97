"""Paints maps over views, as heat."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

# How much of a pixel's color is the map's.
_OPACITY = 0.55


def overlay_heatmap(view: NDArray[np.uint8], found: NDArray[Any], side: int) -> NDArray[np.uint8]:
    """Lay a map over a gray picture: bright where it is high, scaled to its own highest value.

    Args:
        view: (S, S), any S.
        found: (h, w), not negative.
        side: Side of the result in pixels.

    Returns:
        RGB, (side, side, 3).
    """
    heat = cv2.resize(found.astype(np.float32), (side, side), interpolation=cv2.INTER_LINEAR)
    levels = np.clip(255 * heat / max(float(heat.max()), 1e-12), 0, 255).astype(np.uint8)
    color = cv2.cvtColor(cv2.applyColorMap(levels, cv2.COLORMAP_INFERNO), cv2.COLOR_BGR2RGB)
    small = cv2.resize(view, (side, side), interpolation=cv2.INTER_AREA)
    gray = cv2.cvtColor(small, cv2.COLOR_GRAY2RGB)
    mixed = cv2.addWeighted(gray, 1 - _OPACITY, color, _OPACITY, 0)
    return np.asarray(mixed, dtype=np.uint8)
