"""How far two masks agree: Dice, Jaccard index, distance of the outlines."""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from medsgssl.masks.types import Mask, require_mask


def dice(mask: Mask, reference: Mask) -> float:
    """Return the Dice coefficient in [0, 1]; two empty masks agree fully.

    Source: Dice, "Measures of the amount of ecologic association between species", 1945.
    """
    both = np.count_nonzero(require_mask(mask) & require_mask(reference))
    total = np.count_nonzero(mask) + np.count_nonzero(reference)
    return 2.0 * both / total if total else 1.0


def jaccard(mask: Mask, reference: Mask) -> float:
    """Return intersection over union in [0, 1]; two empty masks agree fully."""
    either = np.count_nonzero(require_mask(mask) | require_mask(reference))
    return np.count_nonzero(mask & reference) / either if either else 1.0


def surface_distance(mask: Mask, reference: Mask) -> float:
    """Return the mean distance between the two outlines in pixels, over both directions.

    The outline of a mask is its pixels that touch the outside, diagonally or not (a 3 x 3
    square); where a cross is meant instead, as in MONAI, distances near one pixel differ by some
    tenth. Distances are exact Euclidean ones between pixel centers.

    Args:
        mask: bool, ``H x W``.
        reference: bool, ``H x W``.

    Returns:
        Pixels; NaN when either mask is empty.
    """
    if not mask.any() or not reference.any():
        return math.nan
    edge, wanted = _outline(mask), _outline(reference)
    from_mask, from_reference = _distance_to(wanted)[edge], _distance_to(edge)[wanted]
    return float(np.concatenate([from_mask, from_reference]).mean())


def _distance_to(outline: Mask) -> NDArray[np.float32]:
    """Exact distance of every pixel to the nearest one of an outline, in pixels."""
    away = (~outline).astype(np.uint8)
    return np.asarray(cv2.distanceTransform(away, cv2.DIST_L2, cv2.DIST_MASK_PRECISE), np.float32)


def _outline(mask: Mask) -> Mask:
    inner = cv2.erode(mask.astype(np.uint8), np.ones((3, 3), np.uint8), borderValue=0)
    return np.asarray(mask & (inner == 0))
