"""What a finished mask and its image say against the mask, where rules and student agree on it.

Both can take a part of the mediastinum or air beside the body for a lung's piece, and both guess
the outline of a lung that is white from the hilum to the wall.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from medsgssl.masks.types import Gray, Mask


@dataclass(frozen=True)
class Plausibility:
    """How much a mask looks like two lungs.

    Attributes:
        parts: Number of connected parts.
        whiteness: How white the whiter of the two largest parts is: 0 like the other one, 1 like
            what lies between them. 0 where nothing lies between, or hardly denser.
    """

    parts: int
    whiteness: float


def measure_plausibility(image: Gray, mask: Mask, least_contrast: float) -> Plausibility:
    """Look at the parts of a mask.

    Args:
        image: uint8, ``H x W``, upright, bright = dense.
        mask: bool, ``H x W``.
        least_contrast: Gray levels between the darker lung and the middle below which nothing can
            be said about whiteness.
    """
    count, labels, stats, centers = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    if count < 3:
        return Plausibility(count - 1, 0.0)
    largest = np.argsort(-stats[1:, cv2.CC_STAT_AREA])[:2] + 1
    left, right = (labels == k for k in sorted(largest, key=lambda k: centers[k][0]))
    columns = np.arange(mask.shape[1])
    ends = mask.shape[1] - left[:, ::-1].argmax(axis=1)
    starts = right.argmax(axis=1)
    both = left.any(axis=1) & right.any(axis=1)
    between = both[:, None] & (columns > ends[:, None]) & (columns < starts[:, None] - 1)
    if not between.any():
        return Plausibility(count - 1, 0.0)
    one, other, middle = (
        cv2.mean(image, region.astype(np.uint8))[0] for region in (left, right, between)
    )
    contrast = middle - min(one, other)
    if contrast < least_contrast:
        return Plausibility(count - 1, 0.0)
    return Plausibility(count - 1, abs(one - other) / contrast)
