"""Step 1, frame: cut uniform borders away and bring the rest to two small grids."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from medsgssl.masks.geometry import grid_shape, to_grid
from medsgssl.masks.types import Gray, Mask

FloatImage = NDArray[np.float32]

_THUMB = 64


@dataclass(frozen=True)
class FrameParameters:
    """Constants of the step.

    Attributes:
        fine: Longer side of the grid that outlines are refined on, in pixels.
        coarse: Longer side of the grid that lungs are looked for on.
        border_std: Standard deviation in gray levels below which a border row is uniform.
        border_most: Largest share of the image cut away at one side.
        smooth: Sigma of the smoothing of the coarse grid in pixels.
        background: Half width of the window of the background, as a share of the coarse grid.
    """

    fine: int = 256
    coarse: int = 96
    border_std: float = 5.0
    border_most: float = 0.3
    smooth: float = 1.2
    background: float = 0.16


@dataclass(frozen=True)
class Frame:
    """An image without its uniform borders, on two grids.

    Attributes:
        shape: Height and width of the whole image in pixels.
        top: First row kept.
        left: First column kept.
        bottom: Row after the last kept.
        right: Column after the last kept.
        fine: uint8, longer side ``FrameParameters.fine``.
        coarse: float32, longer side ``FrameParameters.coarse``, smoothed; gray levels.
        flat: float32, likewise, minus its background.
    """

    shape: tuple[int, int]
    top: int
    left: int
    bottom: int
    right: int
    fine: Gray
    coarse: FloatImage
    flat: FloatImage

    @property
    def scale(self) -> NDArray[np.float64]:
        """Pixels of the fine grid per pixel of the coarse one, in x and y."""
        return np.divide(self.fine.shape[::-1], self.coarse.shape[::-1], dtype=np.float64)

    def uncut(self, mask: Mask) -> Mask:
        """Put a mask of the fine grid back into the whole image, at the scale of the grid.

        Args:
            mask: bool, of the shape of ``fine``.

        Returns:
            bool, with the aspect ratio of the whole image.
        """
        kept = (self.bottom - self.top, self.right - self.left)
        scale = (mask.shape[0] / kept[0], mask.shape[1] / kept[1])
        height = max(mask.shape[0], round(self.shape[0] * scale[0]))
        width = max(mask.shape[1], round(self.shape[1] * scale[1]))
        row = min(round(self.top * scale[0]), height - mask.shape[0])
        column = min(round(self.left * scale[1]), width - mask.shape[1])
        whole = np.zeros((height, width), dtype=bool)
        whole[row : row + mask.shape[0], column : column + mask.shape[1]] = mask
        return whole


def make_frame(image: Gray, parameters: FrameParameters) -> Frame:
    """Cut black bars and collimation away, then shrink and flatten.

    Args:
        image: uint8, ``H x W``, bright = dense.
        parameters: Constants of the step.
    """
    p = parameters
    height, width = image.shape
    reduced = reduce_image(image, p.fine)
    top, bottom, left, right = _content(reduced, p)
    kept = reduced[top:bottom, left:right]
    scale = (height / reduced.shape[0], width / reduced.shape[1])
    shape = (kept.shape[0], kept.shape[1])
    fine = to_grid(kept, grid_shape(shape, p.fine))
    small = to_grid(fine, grid_shape(shape, p.coarse)).astype(np.float32)
    coarse = cv2.GaussianBlur(small, (0, 0), p.smooth)
    side = 2 * int(p.background * p.coarse) + 1
    flat = coarse - cv2.blur(coarse, (side, side), borderType=cv2.BORDER_REFLECT)
    return Frame(
        (height, width),
        round(top * scale[0]),
        round(left * scale[1]),
        round(bottom * scale[0]),
        round(right * scale[1]),
        fine,
        np.asarray(coarse, dtype=np.float32),
        np.asarray(flat, dtype=np.float32),
    )


def reduce_image(image: Gray, fine: int) -> Gray:
    """Halve until less than twice the fine grid and a third is left: fast and exact."""
    while 3 * max(image.shape) >= 8 * fine and min(image.shape) > 1:
        height, width = image.shape[0] // 2, image.shape[1] // 2
        whole = image[: 2 * height, : 2 * width]
        image = np.asarray(cv2.resize(whole, (width, height), interpolation=cv2.INTER_AREA))
    return image


def _content(image: Gray, p: FrameParameters) -> tuple[int, int, int, int]:
    """Top, bottom, left and right bound of what is not a uniform border."""
    thumb = cv2.resize(image, (_THUMB, _THUMB), interpolation=cv2.INTER_AREA).astype(np.float32)
    bounds = []
    for lines, length in ((thumb, image.shape[0]), (thumb.T, image.shape[1])):
        inner = lines[:, 6:-6]
        spread = np.sqrt(np.maximum((inner * inner).mean(axis=1) - inner.mean(axis=1) ** 2, 0.0))
        most = int(p.border_most * _THUMB)
        first, last = 0, _THUMB
        while first < most and spread[first] < p.border_std:
            first += 1
        while last > _THUMB - most and spread[last - 1] < p.border_std:
            last -= 1
        bounds += [first * length // _THUMB, -(-last * length // _THUMB)]
    return bounds[0], bounds[1], bounds[2], bounds[3]
