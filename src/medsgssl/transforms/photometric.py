"""Photometric noise on one view: gray levels, blur and grain; geometry is never touched."""

from __future__ import annotations

import functools

import cv2
import numpy as np

from medsgssl.config.schema import AugmentSettings
from medsgssl.transforms.affine import UInt8
from medsgssl.utils.rng import generator

# Grain is a random window of one fixed table: drawing a normal number per pixel would cost more
# than all the rest of a view together. The table is uint8, since mixing bytes is five times as
# fast: normal numbers in steps of 1/32, cut at four standard deviations.
_GRAIN_SIDE = 2048
_GRAIN_STEPS = 32
_GRAIN_ZERO = 128
_LARGEST_BLUR = 1.5
_LEVELS = np.linspace(0, 1, 256)


@functools.cache
def _grain() -> UInt8:
    rng = generator(0, "grain table")
    normal = rng.standard_normal((_GRAIN_SIDE, _GRAIN_SIDE), dtype=np.float32)
    return np.clip(np.rint(normal * _GRAIN_STEPS + _GRAIN_ZERO), 0, 255).astype(np.uint8)


def tone_table(brightness: float, contrast: float, gamma: float) -> UInt8:
    """Return the look-up table of one change of exposure.

    Args:
        brightness: Shift of the gray level, in units of the full range.
        contrast: Factor about the middle gray.
        gamma: Exponent of the curve.

    Returns:
        uint8, (256,): the new value of each old one.
    """
    level = (_LEVELS**gamma - 0.5) * (255 * contrast) + 255 * (0.5 + brightness)
    return np.asarray(cv2.convertScaleAbs(np.maximum(level, 0)), dtype=np.uint8).ravel()


def apply_photometric(image: UInt8, augment: AugmentSettings, rng: np.random.Generator) -> UInt8:
    """Give a view random exposure, blur and grain, in place: new memory would cost more.

    Args:
        image: uint8, (S, S); it is written over.
        augment: Strengths; with all at 0 the image comes back unchanged.
        rng: The view's own generator.

    Returns:
        The view, uint8, (S, S).
    """
    # All numbers are drawn whatever the settings, so that switching one off moves no other.
    u = rng.random(8)
    table = tone_table(
        brightness=augment.brightness * (2 * u[0] - 1),
        contrast=1 + augment.contrast * (2 * u[1] - 1),
        gamma=2 ** (augment.gamma * (2 * u[2] - 1)),
    )
    image = np.asarray(cv2.LUT(image, table, dst=image), dtype=np.uint8)
    if u[3] < augment.blur:
        sigma = 0.1 + (_LARGEST_BLUR - 0.1) * u[4]
        # Three times as fast as cv2.GaussianBlur, whose results are exact to the bit.
        kernel = cv2.getGaussianKernel(2 * round(3 * sigma) + 1, sigma)
        blurred = cv2.sepFilter2D(image, -1, kernel, kernel, dst=image)
        image = np.asarray(blurred, dtype=np.uint8)
    strength = 255 * augment.noise * u[5]
    if strength > 0:
        side = image.shape[0]
        row, column = (u[6:8] * (_GRAIN_SIDE - side)).astype(int)
        grain = _grain()[row : row + side, column : column + side]
        share = strength / _GRAIN_STEPS
        noisy = cv2.addWeighted(image, 1.0, grain, share, -_GRAIN_ZERO * share, dst=image)
        image = np.asarray(noisy, dtype=np.uint8)
    return image
