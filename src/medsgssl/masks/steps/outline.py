"""Geometry of closed outlines: normals, samples along them, affine fit, filled mask."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from medsgssl.masks.steps.frame import FloatImage
from medsgssl.masks.steps.template import Outline
from medsgssl.masks.types import Mask


def outward_normals(outlines: Outline) -> Outline:
    """Return the unit normals of closed outlines, pointing outwards.

    Args:
        outlines: ``B x N x 2`` points (x, y).
    """
    after, before = np.roll(outlines, -1, axis=1), np.roll(outlines, 1, axis=1)
    along = after - before
    across = np.stack([along[..., 1], -along[..., 0]], axis=-1)
    across /= np.linalg.norm(across, axis=-1, keepdims=True) + 1e-6
    return np.asarray(across * np.sign(signed_area(outlines))[:, None, None])


def signed_area(outlines: Outline) -> NDArray[np.float64]:
    """Area of each outline in square pixels; positive when its normals are turned outwards."""
    x, y = outlines[..., 0], outlines[..., 1]
    return np.asarray(
        0.5 * (x * np.roll(y, -1, axis=-1) - y * np.roll(x, -1, axis=-1)).sum(axis=-1)
    )


def sample(image: FloatImage, points: NDArray[np.float32]) -> FloatImage:
    """Read an image between its pixels, linearly; outside it the nearest pixel counts.

    Args:
        image: float32, ``H x W``.
        points: ``... x 2`` points (x, y) in pixels.

    Returns:
        float32, ``...``.
    """
    flat = points.reshape(-1, points.shape[-2], 2)
    read = cv2.remap(
        image, flat[..., 0], flat[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return np.asarray(read.reshape(points.shape[:-1]), dtype=np.float32)


def affine_fit(template: Outline, outline: Outline, weights: NDArray[np.float64]) -> Outline:
    """Return the affine image of a template that lies nearest to an outline.

    Args:
        template: ``N x 2``.
        outline: ``N x 2``, the same points where they should be.
        weights: ``N``, not negative.

    Returns:
        ``N x 2``, by weighted least squares.
    """
    known = np.column_stack([template, np.ones(len(template))])
    weighted = known * (weights**2)[:, None]
    normal = weighted.T @ known + 1e-6 * np.eye(3)
    return np.asarray(known @ np.linalg.solve(normal, weighted.T @ outline))


def fill(outlines: Outline, shape: tuple[int, int]) -> Mask:
    """Return the mask inside any of the outlines: bool, ``shape``."""
    canvas = np.zeros(shape, np.uint8)
    for outline in outlines:
        cv2.fillPoly(canvas, [np.round(outline * 16).astype(np.int32)], 1, shift=4)
    return canvas.astype(bool)
