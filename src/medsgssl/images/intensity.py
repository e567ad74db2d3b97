"""The one intensity contract: whatever an array holds becomes one gray ``uint8`` image."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from medsgssl.errors import ImageError

INTENSITY = "gray8-v4"
"""Name of the contract; it changes whenever ``to_gray8`` or ``Letterbox`` gives other values."""

PERCENTILES = (0.1, 99.9)
SMALLEST_SIDE = 16


def to_gray8(
    array: NDArray[Any], name: str = "the image", padding: NDArray[np.bool_] | None = None
) -> NDArray[np.uint8]:
    """Turn any image array into gray levels under the intensity contract.

    8-bit gray passes unchanged. Color becomes gray by the luma weights of ITU-R BT.601, which
    leave gray stored as RGB as it was; alpha is ignored. Every deeper type (16-bit, float) is
    mapped linearly so that its 0.1 and 99.9 percentiles become 0 and 255, and clipped. Padding is
    left out of the percentiles and becomes 0.

    Args:
        array: ``H x W``, ``H x W x 1``, ``H x W x 3`` (RGB) or ``H x W x 4`` (RGBA) of any
            integer or floating type, bright = dense, both sides at least 16 pixels.
        name: How error messages call the image, e.g. its path.
        padding: bool, ``H x W``: pixels that show nothing; some pixels must remain.

    Returns:
        ``uint8``, ``H x W``, contiguous, 0 to 255.

    Raises:
        ImageError: The shape or type is not that of an image, the image is tiny, or a deep image
            holds one value only or values that are not finite.
    """
    gray = _one_channel(np.asarray(array), name)
    if min(gray.shape) < SMALLEST_SIDE:
        raise ImageError(
            f"{name} is {gray.shape[1]} x {gray.shape[0]} pixels",
            f"give images of at least {SMALLEST_SIDE} x {SMALLEST_SIDE} pixels",
        )
    if gray.dtype == np.uint8:
        levels = np.ascontiguousarray(gray, dtype=np.uint8)
    else:
        levels = _stretched(gray, name, padding)
    return levels if padding is None else np.where(padding, np.uint8(0), levels)


def _one_channel(array: NDArray[Any], name: str) -> NDArray[Any]:
    if array.dtype.kind not in "uif":
        raise ImageError(
            f"{name} has pixels of type {array.dtype}", "give integer or floating pixels"
        )
    if array.ndim == 3 and array.shape[2] == 1:
        return array[:, :, 0]
    if array.ndim == 3 and array.shape[2] in {3, 4}:
        # OpenCV converts these three types only; every other one fits into float32.
        kept = array if array.dtype in (np.uint8, np.uint16) else array.astype(np.float32)
        return np.asarray(cv2.cvtColor(np.ascontiguousarray(kept[:, :, :3]), cv2.COLOR_RGB2GRAY))
    if array.ndim == 2:
        return array
    raise ImageError(
        f"{name} has the shape {array.shape}", "give H x W gray, H x W x 3 RGB or H x W x 4 RGBA"
    )


def _stretched(
    gray: NDArray[Any], name: str, padding: NDArray[np.bool_] | None
) -> NDArray[np.uint8]:
    values = gray.astype(np.float32)
    tissue = values if padding is None else values[~padding]
    if not np.isfinite(tissue).all():
        raise ImageError(
            f"{name} has pixels that are not finite", "replace NaN and infinity before use"
        )
    low, high = np.percentile(tissue, PERCENTILES)
    if high <= low:
        # Nearly one value throughout, e.g. a small marker on black: the range is all there is.
        low, high = float(tissue.min()), float(tissue.max())
    if high <= low:
        raise ImageError(
            f"{name} holds the value {low:g} in every pixel", "replace it by a proper copy"
        )
    scaled = (values - np.float32(low)) * np.float32(255.0 / (high - low))
    return np.asarray(np.rint(np.clip(scaled, 0, 255)), dtype=np.uint8)
