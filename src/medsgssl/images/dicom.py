"""DICOM radiographs as plain arrays, bright = dense.

``dicom_header.py`` checks a file before it is decoded, ``dicom_pixels.py`` decodes it, and
``display_luts.py`` does the arithmetic of its display.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray

from medsgssl.errors import ImageError
from medsgssl.images.dicom_header import check_header, number_of, read_header, text_of
from medsgssl.images.dicom_pixels import decode, padding_of, stored_values, whole_range
from medsgssl.images.display_luts import (
    UnusableLutError,
    modality_values,
    palette_colors,
    voi_values,
)

_CLIPPED_AT_MOST = 0.5
# A window or LUT that leaves fewer levels than this is a left-over of another image.
_FEWEST_LEVELS = 16
_NEARLY_SQUARE = 0.01


@dataclass
class Radiograph:
    """One decoded radiograph.

    Attributes:
        pixels: ``H x W`` gray or ``H x W x 3`` RGB of any integer or floating type,
            bright = dense.
        padding: bool, ``H x W``: pixels outside the field of view; None where there are none.
        notes: What in the header was passed over.
    """

    pixels: NDArray[Any]
    padding: NDArray[np.bool_] | None = None
    notes: list[str] = field(default_factory=list)


def read_dicom(content: bytes, path: Path, max_pixels: int) -> Radiograph:
    """Decode one radiograph: rescaled, windowed, MONOCHROME1 inverted, palettes followed.

    8-bit unsigned gray without a rescale or window stays 8-bit, so that it passes the intensity
    contract unchanged. A window or LUT is applied as the display that the vendor meant. It is
    passed over, with a note, where it breaks the standard or would clip more than half of the
    pixels: such windows are left-overs of other images. Padding takes no part in any of this.

    Args:
        content: The whole file.
        path: The file's path, for messages.
        max_pixels: Largest number of pixels.

    Raises:
        ImageError: The file is damaged, too large, holds no single image, or its compression has
            no decoder.
    """
    dataset = read_header(content, path)
    check_header(dataset, path, max_pixels)
    notes: list[str] = []
    pixels = decode(dataset, path, notes)
    _note_shape(dataset, notes)
    if pixels.ndim == 3 and pixels.shape[2] == 3:
        return Radiograph(pixels, notes=notes)
    photometric = text_of(dataset, "PhotometricInterpretation")
    if photometric == "PALETTE COLOR":
        return Radiograph(_colors(pixels, dataset, path), notes=notes)
    if not photometric.startswith("MONOCHROME"):
        raise ImageError(
            f"{path} has the color model {photometric or '(none)'}", "convert it to gray PNG"
        )
    if text_of(dataset, "PresentationLUTShape") == "INVERSE" and photometric != "MONOCHROME1":
        notes.append(f"its presentation LUT shape INVERSE contradicts {photometric}: not followed")
    pixels = stored_values(pixels, dataset, notes)
    padding = padding_of(pixels, dataset, notes)
    tissue = ... if padding is None else ~padding
    values = _apply("modality LUT", modality_values, pixels, dataset, tissue, notes)
    values = _apply("window", voi_values, values, dataset, tissue, notes)
    if values.dtype == np.uint8:
        values = whole_range(values, int(number_of(dataset, "BitsStored") or 8))
    if photometric == "MONOCHROME1":
        if values.dtype == np.uint8:
            values = 255 - values
        else:
            inside = values[tissue].astype(np.float64)
            values = inside.max() + inside.min() - values.astype(np.float64)
    return Radiograph(values, padding, notes)


def _colors(pixels: NDArray[Any], dataset: pydicom.Dataset, path: Path) -> NDArray[Any]:
    try:
        return palette_colors(pixels, dataset)
    except Exception as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ImageError(
            f"{path} has the color model PALETTE COLOR, and its palette cannot be used: {reason}",
            "convert it to gray PNG with a DICOM tool",
        ) from error


def _note_shape(dataset: pydicom.Dataset, notes: list[str]) -> None:
    """Note pixels that are not square: the picture is read as it is stored, so distorted."""
    for name in ("PixelAspectRatio", "PixelSpacing", "ImagerPixelSpacing"):
        try:
            rows, columns = (float(value) for value in dataset.get(name))
            square = abs(rows / columns - 1) < _NEARLY_SQUARE
        except Exception:  # noqa: BLE001 - absent, or no two numbers
            continue
        if not square:
            notes.append(f"its pixels are not square ({rows:g} : {columns:g}): not resampled")
        return


def _apply(
    name: str, transform: Any, pixels: NDArray[Any], dataset: pydicom.Dataset, tissue: Any,
    notes: list[str],
) -> NDArray[Any]:  # fmt: skip
    """Apply a display transform of the header where its result can be believed, else note why."""
    try:
        values = np.asarray(transform(pixels, dataset, notes))
        if values is pixels:
            return pixels
        _believe(_sample(pixels[tissue]), _sample(values[tissue]))
    except UnusableLutError as error:
        notes.append(f"its {name} is not used: {error}")
    except Exception as error:  # noqa: BLE001 - an odd display header must not cost the image
        notes.append(f"its {name} is not used: {type(error).__name__}")
    else:
        return values
    return pixels


def _sample(values: NDArray[Any], most: int = 1 << 17) -> NDArray[Any]:
    """Return evenly spaced values: shares and levels need not be counted over every pixel."""
    flat = values.reshape(-1)
    return flat[:: max(1, len(flat) // most)]


def _believe(before: NDArray[Any], after: NDArray[Any]) -> None:
    """Check the result of a display transform over the tissue.

    Raises:
        UnusableLutError: It is not finite, clips most pixels, or leaves few gray levels.
    """
    if not np.isfinite(after).all():
        raise UnusableLutError("it gives values that are not finite")
    low, high = after.min(), after.max()
    # Pixels that were at the ends of the range before are not clipped by the transform.
    at_ends = np.mean((after <= low) | (after >= high))
    if at_ends > _CLIPPED_AT_MOST and at_ends > np.mean(
        (before <= before.min()) | (before >= before.max())
    ):
        raise UnusableLutError(f"it would clip {at_ends:.0%} of the pixels")
    levels = len(np.unique(after))
    if levels < _FEWEST_LEVELS and levels < len(np.unique(before)):
        raise UnusableLutError(f"it would leave {levels} gray levels")
