"""How an image of any shape lies in the square of the decoded cache; masks share the geometry."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Letterbox:
    """How an image of any shape lies in the cached square.

    Attributes:
        height: Rows of the picture inside the square.
        width: Columns of the picture inside the square.
        top: First row of the picture.
        left: First column of the picture.
        size: Side of the square.
    """

    height: int
    width: int
    top: int
    left: int
    size: int

    @classmethod
    def of(cls, shape: tuple[int, int], size: int) -> Letterbox:
        """Fit ``shape`` (height, width) into a square of ``size`` pixels, aspect kept, centered."""
        scale = size / max(shape)
        height, width = (max(1, round(side * scale)) for side in shape)
        return cls(height, width, (size - height) // 2, (size - width) // 2, size)

    def image(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return a uint8 image (H, W) as (size, size); area interpolation where it shrinks."""
        shrinks = self.height < image.shape[0] or self.width < image.shape[1]
        way = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        square = np.zeros((self.size, self.size), np.uint8)
        inside = square[self.top : self.top + self.height, self.left : self.left + self.width]
        inside[...] = cv2.resize(image, (self.width, self.height), interpolation=way)
        return square

    def mask(self, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return a bool mask (H, W) as (size, size): a pixel is lung where half of its area is."""
        if mask.dtype != np.bool_:
            raise TypeError(f"masks are bool, not {mask.dtype}")
        return self.image(mask.astype(np.uint8) * 255) >= 128
