"""Crops and the one affine map that moves an image and its mask together.

Pixel centers lie at integer coordinates. An affine maps *view* pixels to *cached image* pixels,
so any view can be mapped back, and OpenCV can use it as it is (inverse map).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

UInt8 = NDArray[np.uint8]
Affine = NDArray[np.float64]

# Enlarging needs no filter; shrinking by less than this is invisible.
_SHRINK_WITHOUT_FILTER = 1.1


@dataclass(frozen=True, slots=True)
class Crop:
    """A rotated rectangle in the cached image that becomes one view.

    Attributes:
        x: Column of the center, in pixels.
        y: Row of the center, in pixels.
        width: Width in pixels.
        height: Height in pixels.
        rotation: Degrees, counter-clockwise as seen on the screen.
        flip: Mirror left and right.
    """

    x: float
    y: float
    width: float
    height: float
    rotation: float = 0.0
    flip: bool = False

    def affine(self, size: int) -> Affine:
        """Return the map from view pixels to image pixels, float64 of shape (2, 3).

        Args:
            size: Side of the square view in pixels.
        """
        angle = math.radians(self.rotation)
        cos, sin = math.cos(angle), math.sin(angle)
        across = (-1.0 if self.flip else 1.0) * self.width / size
        down = self.height / size
        middle = (size - 1) / 2
        linear = np.array([[cos * across, sin * down], [-sin * across, cos * down]])
        shift = np.array([self.x, self.y]) - linear @ np.array([middle, middle])
        return np.concatenate([linear, shift[:, None]], axis=1)


def whole(size: int) -> Crop:
    """Return the crop that shows all of a square image of ``size`` pixels."""
    return Crop((size - 1) / 2, (size - 1) / 2, size, size)


def box_crop(x0: float, y0: float, x1: float, y1: float) -> Crop:
    """Return the upright crop of a box with inclusive pixel bounds."""
    return Crop((x0 + x1) / 2, (y0 + y1) / 2, x1 - x0 + 1, y1 - y0 + 1)


def warp_image(image: UInt8, affine: Affine, size: int, out: UInt8 | None = None) -> UInt8:
    """Warp an image with bilinear interpolation; what lies outside the image is black.

    Where the view shrinks the image, a Gaussian takes away first what the view's grid cannot
    carry (standard deviation 0.5 sqrt(s^2 - 1) source pixels at shrink factor s).

    Args:
        image: uint8, (H, W).
        affine: View pixels to image pixels, (2, 3).
        size: Side of the view in pixels.
        out: Where to write the view; new memory when not given.

    Returns:
        uint8, (size, size).
    """
    sigma = _shrink_sigmas(affine)
    if sigma is not None:
        blurred = cv2.GaussianBlur(image, (0, 0), sigmaX=sigma[0], sigmaY=sigma[1])
        image = np.asarray(blurred, dtype=np.uint8)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    # The hint lets OpenCV weigh in floats, which is faster and finer than its 1/32 pixel steps.
    view = cv2.warpAffine(
        image, affine, (size, size), dst=out, flags=flags, hint=cv2.ALGO_HINT_APPROX
    )
    return np.asarray(view, dtype=np.uint8)


def _shrink_sigmas(affine: Affine) -> tuple[float, float] | None:
    """Return the standard deviations along columns and rows; None where nothing is shrunk."""
    shrinks = (math.hypot(affine[0, axis], affine[1, axis]) for axis in (0, 1))
    shrink_x, shrink_y = shrinks
    if max(shrink_x, shrink_y) <= _SHRINK_WITHOUT_FILTER:
        return None
    x, y = (0.5 * math.sqrt(max(s * s - 1, 1e-4)) for s in (shrink_x, shrink_y))
    return x, y


def shrink_kernels(affine: Affine) -> list[NDArray[np.float64]]:
    """Return the weights of the filter of ``warp_image``, along columns and along rows.

    Args:
        affine: View pixels to image pixels, (2, 3).

    Returns:
        Two kernels of odd lengths; none where ``warp_image`` does not filter.
    """
    # OpenCV's length for 8-bit images.
    return [
        _eight_bits(
            np.asarray(cv2.getGaussianKernel(round(6 * sigma + 1) | 1, sigma), np.float64).ravel()
        )
        for sigma in _shrink_sigmas(affine) or ()
    ]


def _eight_bits(kernel: NDArray[np.float64]) -> NDArray[np.float64]:
    """Round weights to 1/256 as OpenCV does for 8-bit images; each error goes to the next one."""
    half = len(kernel) // 2
    rounded, error = np.zeros(half), 0.0
    for number, weight in enumerate(kernel[:half] * 256):
        rounded[number] = round(weight + error)
        error += weight - rounded[number]
    middle = 256 - 2 * rounded.sum()
    return np.concatenate([rounded, [middle], rounded[::-1]]) / 256


def warp_mask(mask: UInt8, affine: Affine, size: int, out: UInt8 | None = None) -> UInt8:
    """Warp a mask of zeros and ones with nearest neighbor; outside the image it is 0.

    Args:
        mask: uint8 of 0 and 1, (H, W).
        affine: View pixels to image pixels, (2, 3).
        size: Side of the view in pixels.
        out: Where to write the view; new memory when not given.

    Returns:
        uint8 of 0 and 1, (size, size).
    """
    flags = cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP
    view = cv2.warpAffine(mask, affine, (size, size), dst=out, flags=flags)
    return np.asarray(view, dtype=np.uint8)
