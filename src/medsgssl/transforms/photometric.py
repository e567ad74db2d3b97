"""Photometric augmentation of one view: gray levels, blur and noise; geometry stays."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from medsgssl.config.schema import AugmentSettings
from medsgssl.transforms.affine import UInt8
from medsgssl.utils.rng import generator

# Grain is a random window of one fixed table: drawing a normal number per pixel would cost more
# than all the rest of a view together. The table is uint8, since mixing bytes is five times as
# fast: normal numbers in steps of 1/32, cut at four standard deviations.
GRAIN_SIDE = 2048
_GRAIN_STEPS = 32
GRAIN_ZERO = 128
_LARGEST_BLUR = 1.5
_LEVELS = np.linspace(0, 1, 256)


@functools.cache
def grain_table() -> UInt8:
    """Return the table of grain, uint8, (GRAIN_SIDE, GRAIN_SIDE); ``GRAIN_ZERO`` is none."""
    rng = generator(0, "grain table")
    normal = rng.standard_normal((GRAIN_SIDE, GRAIN_SIDE), dtype=np.float32)
    return np.clip(np.rint(normal * _GRAIN_STEPS + GRAIN_ZERO), 0, 255).astype(np.uint8)


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


@dataclass(frozen=True, slots=True)
class Tone:
    """The photometric noise of one view.

    Attributes:
        table: New value of each gray level, uint8, (256,).
        blur: Standard deviation of the Gaussian blur in pixels; 0 for none.
        grain_row: First row of the view's window in the table of grain.
        grain_column: Its first column.
        grain_share: Factor of the grain, in gray levels per step of its table; 0 for none.
    """

    table: UInt8
    blur: float
    grain_row: int
    grain_column: int
    grain_share: float

    @classmethod
    def draw(cls, augment: AugmentSettings, size: int, rng: np.random.Generator) -> Tone:
        """Draw the noise of a view of ``size`` pixels.

        Args:
            augment: Strengths; with all at 0 the view comes out unchanged.
            size: Side S of the view in pixels.
            rng: The view's own generator.
        """
        # All numbers are drawn whatever the settings, so that switching one off moves no other.
        u = rng.random(8)
        row, column = (u[6:8] * (GRAIN_SIDE - size)).astype(int)
        return cls(
            table=tone_table(
                brightness=augment.brightness * (2 * u[0] - 1),
                contrast=1 + augment.contrast * (2 * u[1] - 1),
                gamma=2 ** (augment.gamma * (2 * u[2] - 1)),
            ),
            blur=0.1 + (_LARGEST_BLUR - 0.1) * float(u[4]) if u[3] < augment.blur else 0.0,
            grain_row=int(row),
            grain_column=int(column),
            grain_share=255 * augment.noise * float(u[5]) / _GRAIN_STEPS,
        )


def blur_kernel(sigma: float) -> NDArray[np.float64]:
    """Return the weights of a Gaussian blur along one axis, (2 round(3 sigma) + 1,)."""
    return np.asarray(cv2.getGaussianKernel(2 * round(3 * sigma) + 1, sigma), np.float64).ravel()


def apply_tone(image: UInt8, tone: Tone) -> UInt8:
    """Give a view its exposure, blur and grain, in place: new memory would cost more.

    Args:
        image: uint8, (S, S); it is written over.
        tone: The view's noise.

    Returns:
        The view, uint8, (S, S).
    """
    image = np.asarray(cv2.LUT(image, tone.table, dst=image), dtype=np.uint8)
    if tone.blur > 0:
        # Three times as fast as cv2.GaussianBlur, whose results are exact to the bit.
        kernel = blur_kernel(tone.blur)
        blurred = cv2.sepFilter2D(image, -1, kernel, kernel, dst=image)
        image = np.asarray(blurred, dtype=np.uint8)
    if tone.grain_share > 0:
        side, row, column, share = (
            image.shape[0],
            tone.grain_row,
            tone.grain_column,
            tone.grain_share,
        )
        grain = grain_table()[row : row + side, column : column + side]
        noisy = cv2.addWeighted(image, 1.0, grain, share, -GRAIN_ZERO * share, dst=image)
        image = np.asarray(noisy, dtype=np.uint8)
    return image
