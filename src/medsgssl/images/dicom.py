"""DICOM radiographs as plain arrays, bright = dense."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.pixels.processing import apply_modality_lut, apply_voi_lut

from medsgssl.errors import ImageError

_CLIPPED_AT_MOST = 0.5


def dicom_array(content: bytes, path: Path) -> NDArray[Any]:
    """Decode one radiograph: rescaled, windowed, MONOCHROME1 inverted.

    8-bit unsigned gray without a rescale or window stays 8-bit, so that it passes the intensity
    contract unchanged. A window is applied as the display that the vendor meant, unless it would
    clip more than half of the pixels: such windows are left-overs of other images.

    Args:
        content: The whole file.
        path: The file's path, for messages.

    Returns:
        ``H x W`` gray or ``H x W x 3`` RGB of any integer or floating type, bright = dense.

    Raises:
        ImageError: The file is damaged, holds no single image, or its compression has no decoder.
    """
    dataset, pixels = _decoded(content, path)
    photometric = str(dataset.get("PhotometricInterpretation", ""))
    if pixels.ndim == 3 and pixels.shape[2] == 3:
        return pixels
    if not photometric.startswith("MONOCHROME"):
        raise ImageError(
            f"{path} has the color model {photometric or '(none)'}", "convert it to gray PNG"
        )
    shown = _windowed(_rescaled(pixels, dataset), dataset)
    inverted = photometric == "MONOCHROME1"
    if shown.dtype == np.uint8:
        return 255 - shown if inverted else shown
    values = shown.astype(np.float32)
    top, bottom = values.max(), values.min()
    if inverted:
        values = top + bottom - values
    # Padding around the field of view is no tissue: it becomes the darkest level.
    padding = dataset.get("PixelPaddingValue")
    return values if padding is None else np.where(pixels == padding, bottom, values)


def _decoded(content: bytes, path: Path) -> tuple[pydicom.Dataset, NDArray[Any]]:
    try:
        dataset = pydicom.dcmread(io.BytesIO(content))
        if "PixelData" not in dataset:
            raise ImageError(f"{path} has no pixels", "take the file out of the set")
        pixels = np.asarray(dataset.pixel_array)
    except ImageError:
        raise
    except Exception as error:
        raise ImageError(
            f"{path} cannot be decoded as DICOM: {error}",
            "fetch the file again, or convert it to PNG with a DICOM tool",
        ) from error
    if int(dataset.get("NumberOfFrames") or 1) > 1:
        raise ImageError(f"{path} holds several frames", "extract one frame as PNG")
    return dataset, pixels


def _rescaled(pixels: NDArray[Any], dataset: pydicom.Dataset) -> NDArray[Any]:
    slope, intercept = dataset.get("RescaleSlope"), dataset.get("RescaleIntercept")
    identity = (slope is None or float(slope) == 1) and not float(intercept or 0)
    if identity and "ModalityLUTSequence" not in dataset:
        return pixels
    return np.asarray(apply_modality_lut(pixels, dataset))


def _windowed(pixels: NDArray[Any], dataset: pydicom.Dataset) -> NDArray[Any]:
    if "VOILUTSequence" not in dataset and "WindowWidth" not in dataset:
        return pixels
    shown = np.asarray(apply_voi_lut(pixels, dataset))
    clipped = np.mean((shown <= shown.min()) | (shown >= shown.max()))
    return shown if clipped <= _CLIPPED_AT_MOST else pixels
