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
        """Return a uint8 image (H, W) as (size, size); area interpolation where it shrinks.

        An image that shrinks by 4 or more is halved first, which is four times as fast: OpenCV
        has fast paths for whole factors alone. On chest X-rays of 1024 pixels the result at 224
        differs from that of one step by 0.2 gray levels on average, and 14 at the edge of a letter.
        """
        while self._may_be_halved(image.shape):
            half = (image.shape[1] // 2, image.shape[0] // 2)
            image = np.asarray(cv2.resize(image, half, interpolation=cv2.INTER_AREA), np.uint8)
        return self._fit(image)

    def mask(self, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return a bool mask (H, W) as (size, size): a pixel is lung where half of its area is."""
        if mask.dtype != np.bool_:
            raise TypeError(f"masks are bool, not {mask.dtype}")
        return self._fit(mask.astype(np.uint8) * 255) >= 128

    def _may_be_halved(self, shape: tuple[int, ...]) -> bool:
        """Return whether the sides are even, far too large, and no multiple of the wanted ones."""
        wanted = (self.height, self.width)
        large = all(side >= 4 * small for side, small in zip(shape, wanted, strict=True))
        even = all(side % 2 == 0 for side in shape)
        whole = all(side % small == 0 for side, small in zip(shape, wanted, strict=True))
        return large and even and not whole

    def _fit(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        shrinks = self.height < image.shape[0] or self.width < image.shape[1]
        way = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        square = np.zeros((self.size, self.size), np.uint8)
        inside = square[self.top : self.top + self.height, self.left : self.left + self.width]
        inside[...] = cv2.resize(image, (self.width, self.height), interpolation=way)
        return square
