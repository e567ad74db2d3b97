"""Sizes: the working grid of an image, and masks that change size without aliasing."""

from __future__ import annotations

import cv2
import numpy as np

from medsgssl.masks.types import Gray, Mask, require_mask


def grid_shape(shape: tuple[int, int], long_side: int) -> tuple[int, int]:
    """Return height and width of the grid whose longer side is ``long_side``, aspect kept.

    Args:
        shape: Height and width of the image in pixels.
        long_side: Pixels of the longer side of the grid.
    """
    height, width = shape
    scale = long_side / max(height, width)
    return max(1, round(height * scale)), max(1, round(width * scale))


def to_grid(image: Gray, shape: tuple[int, int]) -> Gray:
    """Resize a gray image, by area where it shrinks and linearly where it grows.

    Args:
        image: uint8, ``H x W``.
        shape: Height and width wanted.
    """
    if image.shape == shape:
        return image
    return _scaled(image, shape)


def _scaled(image: Gray, shape: tuple[int, int]) -> Gray:
    """Average areas along every axis that shrinks, then interpolate along those that grow."""
    least = (min(shape[0], image.shape[0]), min(shape[1], image.shape[1]))
    if least != image.shape:
        image = np.asarray(cv2.resize(image, least[::-1], interpolation=cv2.INTER_AREA), np.uint8)
    if least != shape:
        image = np.asarray(cv2.resize(image, shape[::-1], interpolation=cv2.INTER_LINEAR), np.uint8)
    return image


def resize_mask(mask: Mask, shape: tuple[int, int]) -> Mask:
    """Resize a mask: a new pixel is inside when at least half of it is.

    Shrinking averages areas and growing interpolates linearly, so that neither stairs nor lost
    thin parts appear as with nearest neighbors.

    Args:
        mask: bool, ``H x W``.
        shape: Height and width wanted, in pixels.

    Returns:
        bool, of ``shape``.

    Raises:
        TypeError: The mask is not bool.
    """
    require_mask(mask)
    if mask.shape == shape:
        return mask.copy()
    share = _scaled(mask.astype(np.uint8) * 255, shape)
    return np.asarray(share >= 128, dtype=bool)
