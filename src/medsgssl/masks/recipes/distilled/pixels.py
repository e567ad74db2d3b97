"""What the student sees of an image: 128 x 128 pixels in two channels, and the way back."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from medsgssl.masks.geometry import grid_shape, to_grid
from medsgssl.masks.types import Gray

SIDE = 128
CHANNELS = 2
# Window of the local mean and spread in the second channel.
_WINDOW = 33

FloatImage = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Placement:
    """Where an image lies on the student's square: rows and columns from the first on."""

    height: int
    width: int

    @classmethod
    def of(cls, shape: tuple[int, int]) -> Placement:
        """Return the placement of an image of ``shape``: longer side `SIDE`, aspect kept."""
        return cls(*grid_shape(shape, SIDE))


def to_square(image: Gray) -> tuple[Gray, Placement]:
    """Shrink an image to the student's square; what is left of the square stays black.

    Args:
        image: uint8, ``H x W``, bright = dense.

    Returns:
        uint8, ``SIDE x SIDE``, and the part of it that holds the image.
    """
    placement = Placement.of((image.shape[0], image.shape[1]))
    small = to_grid(image, (placement.height, placement.width))
    square = np.zeros((SIDE, SIDE), np.uint8)
    square[: placement.height, : placement.width] = small
    return square, placement


def student_input(square: Gray) -> FloatImage:
    """Return the channels of one square: standardized gray levels, and locally standardized ones.

    The first shows the whole exposure; the second an opacified lung's border as clearly as
    another's.

    Args:
        square: uint8, ``SIDE x SIDE``.

    Returns:
        float32, ``CHANNELS x SIDE x SIDE``.
    """
    gray = square.astype(np.float32)
    mean, spread = cv2.meanStdDev(gray)
    whole = (gray - mean[0, 0]) / (spread[0, 0] + 4.0)
    window = (_WINDOW, _WINDOW)
    center = cv2.blur(gray, window, borderType=cv2.BORDER_REFLECT)
    squares = cv2.blur(gray * gray, window, borderType=cv2.BORDER_REFLECT)
    local = (gray - center) / np.sqrt(np.maximum(squares - center * center, 0.0) + 64.0)
    return np.stack([whole, local]).astype(np.float32)
