"""The classic recipe: one threshold and the two largest dark components near the center.

Kept as the base line that the anatomic recipe is compared with.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from medsgssl.masks.geometry import grid_shape, to_grid
from medsgssl.masks.types import Gray, LungMask, Mask, Status

VERSION = 1


@dataclass(frozen=True)
class ClassicParameters:
    """Constants of the recipe.

    Attributes:
        grid: Longer side of the working image in pixels.
        clip_limit: Clip limit of CLAHE (8 x 8 tiles).
        contrast_shift: How far low contrast lowers the threshold, in gray levels per level that
            the standard deviation lies below 64.
        kernel: Side of the square of closing and opening in pixels.
        level: Share of the blurred mask that counts as inside.
        min_area: Smallest credible area of one lung, as a share of the image.
        max_area: Largest credible area of both lungs.
        doubtful_below: Quality below which the status is ``doubtful``.
    """

    grid: int = 224
    clip_limit: float = 2.0
    contrast_shift: float = 0.25
    kernel: int = 7
    level: float = 0.3
    min_area: float = 0.03
    max_area: float = 0.6
    doubtful_below: float = 0.5


PARAMETERS = ClassicParameters()


def draw(image: Gray) -> LungMask:
    """Draw the mask by one global threshold.

    Args:
        image: uint8, ``H x W``, bright = dense.

    Returns:
        The mask on the working grid.
    """
    p = PARAMETERS
    height, width = image.shape
    gray = to_grid(image, grid_shape((height, width), p.grid))
    if float(gray.std()) < 2.0:
        return LungMask.failed(gray.shape, "the image is (nearly) uniform")

    dark = _threshold(gray) & ~_outside_air(gray)
    lungs = [_lung_of_side(dark, side) for side in ("left", "right")]
    mask = _smooth(lungs[0] | lungs[1])
    areas = [float(lung.mean()) for lung in lungs]
    if max(areas) < p.min_area:
        return LungMask.failed(mask.shape, "no dark region near the center is large enough")
    if float(mask.mean()) > p.max_area:
        return LungMask.failed(mask.shape, "the dark region fills most of the image")

    quality = _quality(mask, areas)
    status: Status = "ok"
    reason = ""
    if min(areas) < p.min_area:
        status, reason, quality = "doubtful", "only one lung was found", min(quality, 0.3)
    elif quality < p.doubtful_below:
        status, reason = "doubtful", "the two lungs have unlikely sizes"
    return LungMask(mask, quality, status, reason)


def _threshold(gray: Gray) -> Mask:
    """Dark pixels after CLAHE: Otsu's threshold, lowered where the contrast is low."""
    p = PARAMETERS
    flat = cv2.createCLAHE(p.clip_limit, (8, 8)).apply(gray)
    flat = cv2.GaussianBlur(flat, (5, 5), 0)
    otsu, _ = cv2.threshold(flat, 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    shift = p.contrast_shift * max(0.0, 64.0 - float(flat.std()))
    return np.asarray(flat < otsu - shift, dtype=bool)


def _outside_air(gray: Gray) -> Mask:
    """Air beside the body: very dark regions that touch the left or right border or the top."""
    otsu, _ = cv2.threshold(gray, 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    _, labels, _, _ = cv2.connectedComponentsWithStats((gray < otsu * 0.5).astype(np.uint8))
    touching = np.unique(np.concatenate([labels[:, 0], labels[:, -1], labels[0]]))
    outside = np.isin(labels, touching[touching > 0])
    return np.asarray(cv2.dilate(outside.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0)


def _lung_of_side(dark: Mask, side: str) -> Mask:
    """The largest component of one half that reaches into the central part of the image."""
    height, width = dark.shape
    half = dark.copy()
    middle = width // 2
    if side == "left":
        half[:, middle:] = False
    else:
        half[:, :middle] = False
    count, labels, stats, _ = cv2.connectedComponentsWithStats(half.astype(np.uint8))
    center = labels[height // 4 : 3 * height // 4, width // 6 : 5 * width // 6]
    central = np.unique(center)
    candidates = [label for label in range(1, count) if label in central]
    if not candidates:
        return np.zeros_like(dark)
    largest = max(candidates, key=lambda label: stats[label, cv2.CC_STAT_AREA])
    return np.asarray(labels == largest)


def _smooth(mask: Mask) -> Mask:
    """Close, open, blur."""
    p = PARAMETERS
    kernel = np.ones((p.kernel, p.kernel), np.uint8)
    closed = cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_CLOSE, kernel)
    opened = cv2.morphologyEx(closed, cv2.MORPH_OPEN, kernel)
    share: NDArray[np.float32] = cv2.GaussianBlur(
        opened.astype(np.float32), (p.kernel, p.kernel), 0
    ).astype(np.float32)
    return np.asarray(share > p.level, dtype=bool)


def _quality(mask: Mask, areas: list[float]) -> float:
    """Likeness of the sizes to two lungs: symmetry times how usual the whole area is."""
    symmetry = min(areas) / max(areas)
    usual = float(np.exp(-(((float(mask.mean()) - 0.25) / 0.15) ** 2)))
    return float(np.clip(np.sqrt(symmetry) * usual, 0.0, 1.0))
