"""One image file becomes one gray ``uint8`` image, or an error that names the file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from medsgssl.images.integrity import damaged, read_checked
from medsgssl.images.intensity import to_gray8


def read_image(path: Path) -> NDArray[np.uint8]:
    """Read a PNG, JPEG or DICOM file under the intensity contract (see ``to_gray8``).

    The kind is told by the content, not by the suffix; a rotation tag (EXIF) is not followed.

    Args:
        path: The image file.

    Returns:
        ``uint8``, ``H x W``, 0 to 255, bright = dense (MONOCHROME1 is inverted).

    Raises:
        ImageError: The file is missing, empty, truncated, damaged, tiny or no image.
    """
    content, kind = read_checked(path)
    if kind == "dicom":
        # pydicom takes a noticeable part of a second to import, and most data sets are PNG.
        from medsgssl.images.dicom import dicom_array

        return to_gray8(dicom_array(content, path), str(path))
    return to_gray8(_decoded(content, path), str(path))


def _decoded(content: bytes, path: Path) -> NDArray[Any]:
    try:
        pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise damaged(path, f"cannot be decoded: {error.err}") from error
    if pixels is None:
        raise damaged(path, "cannot be decoded")
    if pixels.ndim == 3 and pixels.shape[2] >= 3:
        pixels = pixels[:, :, [2, 1, 0]]  # OpenCV gives blue first
    return np.asarray(pixels)
