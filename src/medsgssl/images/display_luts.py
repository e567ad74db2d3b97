"""The display pipeline of DICOM: modality LUT, VOI LUT and window with own arithmetic, palettes.

pydicom's functions for gray are not used: version 3.0 gives noise for a VOI LUT of 8-bit output on
deeper pixels (its index wraps around), fails on modality LUTs of 10 to 15 bits, and leaves results
unchecked.

Source: DICOM PS3.3, C.7.6.3.1.5 (palettes), C.11.1 (modality LUT), C.11.2 (VOI LUT and window).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.pixels.processing import apply_color_lut


class UnusableLutError(ValueError):
    """A display element breaks the standard or cannot be believed; the message says why."""


def modality_values(
    pixels: NDArray[Any], dataset: pydicom.Dataset, notes: list[str]
) -> NDArray[Any]:
    """Apply the modality LUT, or rescale; the very array where there is neither.

    Args:
        pixels: ``H x W`` stored values.
        dataset: The header.
        notes: Takes what was passed over.

    Raises:
        UnusableLutError: What the header asks for cannot be followed.
    """
    del notes
    item = _first(dataset.get("ModalityLUTSequence"))
    if item is not None:
        return _look_up(pixels, item, dataset)
    slope = _value(dataset, "RescaleSlope", 1.0)
    intercept = _value(dataset, "RescaleIntercept", 0.0)
    if slope == 0:
        raise UnusableLutError("its rescale slope is 0")
    if (slope, intercept) == (1.0, 0.0):
        return pixels
    return pixels.astype(np.float64) * slope + intercept


def voi_values(values: NDArray[Any], dataset: pydicom.Dataset, notes: list[str]) -> NDArray[Any]:
    """Apply the VOI LUT, or the first window; the very array where there is neither.

    Args:
        values: ``H x W`` values after the modality LUT.
        dataset: The header.
        notes: Takes what was read otherwise than the header says.

    Returns:
        The LUT's values, or a float64 from 0 to 1 for a window.

    Raises:
        UnusableLutError: What the header asks for cannot be followed.
    """
    item = _first(dataset.get("VOILUTSequence"))
    if item is not None:
        return _look_up(values, item, dataset)
    if dataset.get("WindowWidth") in (None, "") and dataset.get("WindowCenter") in (None, ""):
        return values
    center, width = _value(dataset, "WindowCenter"), _value(dataset, "WindowWidth")
    if width <= 0:
        raise UnusableLutError(f"the window width is {width:g}")
    function = str(dataset.get("VOILUTFunction") or "LINEAR").strip().upper()
    if function not in {"LINEAR", "LINEAR_EXACT", "SIGMOID"}:
        notes.append(f"its VOI LUT function {function[:20]!r} is unknown: taken for LINEAR")
        function = "LINEAR"
    if function == "LINEAR" and width < 1:
        notes.append(f"its window width {width:g} is below 1: taken for LINEAR_EXACT")
        function = "LINEAR_EXACT"
    x = values.astype(np.float64)
    if function == "SIGMOID":
        return np.asarray(1 / (1 + np.exp(np.clip(-4 * (x - center) / width, -700, 700))))
    if function == "LINEAR":
        # A width of 1 is a threshold; the standard's formula divides by width - 1.
        center, width = center - 0.5, max(width - 1, 1e-6)
    return np.asarray(np.clip((x - center) / width + 0.5, 0, 1))


def palette_colors(pixels: NDArray[Any], dataset: pydicom.Dataset) -> NDArray[Any]:
    """Look stored values up in the palette of the header, plain or segmented.

    Args:
        pixels: ``H x W`` stored values.
        dataset: The header.

    Returns:
        ``H x W x 3`` RGB; uint8 where no entry needs more bits, else uint16.

    Raises:
        UnusableLutError: The palette gives one color throughout, or not one for each pixel.
        Exception: Whatever pydicom raises where there is no palette, or a damaged one.
    """
    colors = np.asarray(apply_color_lut(pixels, dataset))
    if colors.shape[:2] != pixels.shape or colors.ndim != 3 or colors.shape[2] not in {3, 4}:
        raise UnusableLutError(f"it gives an array of {colors.shape}")
    colors = colors[:, :, :3]  # without transparency
    if pixels.min() < pixels.max() and colors.min() == colors.max():
        raise UnusableLutError("it gives one color throughout")
    bits = int(dataset.RedPaletteColorLookupTableDescriptor[2])
    # Entries of 8 bits may lie in 16.
    return colors.astype(np.uint8) if bits <= 8 and colors.max() < 1 << 8 else colors


def _look_up(values: NDArray[Any], item: pydicom.Dataset, dataset: pydicom.Dataset) -> NDArray[Any]:
    descriptor = item.get("LUTDescriptor")
    if descriptor is None or len(descriptor) != 3:
        raise UnusableLutError("its LUT descriptor is not of three numbers")
    count, first, bits = (int(value) for value in descriptor)
    count = count or 1 << 16
    if first > 32767 and (values.min() < 0 or first > values.max()):
        first -= 1 << 16  # a negative number that was read as an unsigned one
    table = _table(item, count, bits, dataset)
    steps = np.diff(table)
    if not ((steps >= 0).all() or (steps <= 0).all()):
        raise UnusableLutError("its LUT is not monotone")
    if table.min() == table.max():
        raise UnusableLutError(f"its LUT holds the value {int(table[0])} throughout")
    index = np.clip(np.rint(values).astype(np.int64) - first, 0, count - 1)
    return np.asarray(table[index])


def _table(
    item: pydicom.Dataset, count: int, bits: int, dataset: pydicom.Dataset
) -> NDArray[np.int64]:
    data = item.get("LUTData")
    if data is None:
        raise UnusableLutError("its LUT has no data")
    if isinstance(data, (bytes, bytearray)):
        if len(data) >= 2 * count:
            order = "<" if _little_endian(dataset) else ">"
            table = np.frombuffer(data, f"{order}u2", count).astype(np.int64)
        elif len(data) >= count and bits <= 8:
            table = np.frombuffer(data, np.uint8, count).astype(np.int64)
        else:
            raise UnusableLutError(f"its LUT has {len(data)} bytes for {count} entries")
    else:
        table = np.atleast_1d(np.asarray(data, dtype=np.int64)) & 0xFFFF
        if len(table) == (count + 1) // 2 and bits <= 8:
            # Two entries of 8 bits in each word, the first in its lower half.
            table = np.stack([table & 0xFF, table >> 8], axis=1).reshape(-1)
    if len(table) < count:
        raise UnusableLutError(f"its LUT has {len(table)} of {count} entries")
    return table[:count]


def _little_endian(dataset: pydicom.Dataset) -> bool:
    little = dataset.original_encoding[1]
    return True if little is None else bool(little)


def _first(sequence: Any) -> pydicom.Dataset | None:
    return sequence[0] if sequence else None


def _value(dataset: pydicom.Dataset, name: str, default: float | None = None) -> float:
    """Return the (first) number of an element; ``default`` where it is absent or empty."""
    value = dataset.get(name)
    if isinstance(value, (list, pydicom.multival.MultiValue)):
        value = value[0] if len(value) else None
    if value is None or value == "":
        if default is None:
            raise UnusableLutError(f"{name} is missing")
        return default
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise UnusableLutError(f"{name} is not a number") from None
    if not math.isfinite(number):
        raise UnusableLutError(f"{name} is not finite")
    return number
