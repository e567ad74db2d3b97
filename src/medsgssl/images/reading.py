"""One image file becomes one gray ``uint8`` image, or an error that names the file.

``dicom.py`` decodes DICOM, ``intensity.py`` maps 16 bits to 8, linearly between two percentiles.
On the way to a tensor ``data/image_cache.py`` keeps the image at training size (fitted by
``data/letterbox.py``), ``data/loader.py`` renders views of it into ``uint8`` batches, ``to_device``
of ``transforms/batch.py`` makes floats in [0, 1] of them, and ``normalize`` of
``models/encoder.py`` three channels in the backbone's own scale. A file that cannot be read is set
aside by ``data/file_checks.py``.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from medsgssl.config.schema import MAX_PIXELS
from medsgssl.errors import ImageError
from medsgssl.images.integrity import (
    Kind,
    check_image,
    damaged,
    kind_of_file,
    read_checked,
    without_color_profile,
)
from medsgssl.images.intensity import to_gray8
from medsgssl.images.tiff import (
    black_is_zero,
    decode_few_bits,
    read_tiff_header,
    upright_tiff,
)

# OpenCV writes of damaged files to the terminal, with no word of which; the errors name them.
if "OPENCV_LOG_LEVEL" not in os.environ:
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)


# What OpenCV decodes of TIFF; 0 stands for pixels of several samples.
_USUAL_BITS = (0, 1, 8, 10, 12, 14, 16, 32, 64)
_FEW_BITS = (2, 4)


class ImageWarning(UserWarning):
    """Something in a file was passed over, e.g. a rotation tag or a broken display window."""


@dataclass(frozen=True, slots=True)
class FileCheck:
    """What a check of one file showed.

    Attributes:
        kind: The format, decided by the content.
        content_hash: 128-bit BLAKE2 in hexadecimal; empty where the file was not read whole.
        notes: What in the file is passed over when it is read.
        orientation: EXIF orientation, 1 to 8; 1 is upright, also where there is no tag.
        transfer_syntax: UID of the compression of a DICOM file; empty otherwise.
    """

    kind: Kind
    content_hash: str
    notes: tuple[str, ...]
    orientation: int = 1
    transfer_syntax: str = ""


def read_image(path: Path | str, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """Read a PNG, JPEG, TIFF, BMP, WebP or DICOM file under the intensity contract.

    The content decides what the file is, not its suffix. A rotation tag (EXIF) is not followed:
    data sets are labeled, and masks drawn, on the stored pixels. Padding of a DICOM file is black.

    Args:
        path: The image file.
        max_pixels: A larger image is refused before it is decoded.

    Returns:
        ``uint8``, ``H x W``, 0 to 255, bright = dense (MONOCHROME1 is inverted).

    Raises:
        ImageError: The file cannot be used, whatever the reason; the message names it.

    Warns:
        ImageWarning: A part of the header was passed over.
    """
    path = Path(path)
    image, notes = read_with_notes(path, max_pixels)
    warn_of_notes(path, notes)
    return image


def warn_of_notes(path: Path, notes: Sequence[str]) -> None:
    """Warn of what was passed over in a file, once for each note."""
    for note in notes:
        warnings.warn(f"{path}: {note}", ImageWarning, stacklevel=3)


def read_with_notes(
    path: Path, max_pixels: int = MAX_PIXELS
) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    """Do as ``read_image``, and return the notes instead of warning of them."""
    with one_file(path):
        content, header = read_checked(path, max_pixels)
        image, notes = _gray(content, header.kind, path, max_pixels)
        return image, header.notes + notes


def read_hashed(path: Path, max_pixels: int = MAX_PIXELS) -> tuple[NDArray[np.uint8], str]:
    """Do as ``read_image``, and return the 128-bit BLAKE2 of the very bytes that were decoded."""
    with one_file(path):
        content, header = read_checked(path, max_pixels)
        image, _ = _gray(content, header.kind, path, max_pixels)
        return image, content_hash(content)


def content_hash(content: bytes) -> str:
    """Return the 128-bit BLAKE2 of a file's content in hexadecimal, as ``file_hash`` does."""
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def check_file(path: Path, *, whole: bool, max_pixels: int = MAX_PIXELS) -> FileCheck:
    """Find out whether a file can be read, as cheaply as its format allows.

    PNG and JPEG are followed through their structure (with ``whole``: to the end, checksums
    included); DICOM headers are parsed, and decoded with ``whole``; the rest is decoded.

    Args:
        path: The file.
        whole: Read the whole file and hash its content.
        max_pixels: Largest number of pixels.

    Raises:
        ImageError: The file cannot be used, whatever the reason; the message names it.
    """
    checked = check_structure(path, whole=whole, max_pixels=max_pixels)
    if checked is not None:
        return checked
    with one_file(path):
        content, header = read_checked(path, max_pixels)
        syntax = _check_dicom(content, path, max_pixels) if header.kind == "dicom" else ""
        notes = header.notes + _gray(content, header.kind, path, max_pixels)[1]
        digest = content_hash(content) if whole else ""
        return FileCheck(header.kind, digest, notes, header.orientation, syntax)


def check_structure(path: Path, *, whole: bool, max_pixels: int = MAX_PIXELS) -> FileCheck | None:
    """Do as ``check_file`` where nothing must be decoded for it; return None for other files."""
    with one_file(path):
        if whole:
            if kind_of_file(path) in ("dicom", "tiff", "bmp", "webp"):
                return None  # before the whole file is read
            content, header = read_checked(path, max_pixels)
            digest, syntax = content_hash(content), ""
        else:
            header = check_image(path, max_pixels)
            digest, syntax = "", ""
            if header.kind == "dicom":
                content, header = read_checked(path, max_pixels)
                syntax = _check_dicom(content, path, max_pixels)
        if not header.sure and (whole or header.kind != "dicom"):
            return None
        return FileCheck(header.kind, digest, header.notes, header.orientation, syntax)


@contextlib.contextmanager
def one_file(path: Path) -> Iterator[None]:
    """Turn whatever goes wrong while one file is read into an ``ImageError`` that names it."""
    try:
        yield
    except ImageError:
        raise
    except MemoryError as error:
        raise ImageError(
            f"{path} does not fit into memory", "take the file out of the set, or free memory"
        ) from error
    except Exception as error:
        reason = str(error).strip().splitlines()
        raise ImageError(
            f"{path} cannot be read: {type(error).__name__}: {reason[0] if reason else ''}",
            "convert it to PNG, or take the file out of the set",
        ) from error


def _gray(
    content: bytes, kind: Kind, path: Path, max_pixels: int
) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    if kind != "dicom":
        decoded = _tiff(content, path) if kind == "tiff" else _decoded(content, path)
        return to_gray8(decoded, str(path)), ()
    # pydicom takes a noticeable part of a second to import, and most data sets are PNG.
    from medsgssl.images.dicom import read_dicom

    radiograph = read_dicom(content, path, max_pixels)
    gray = to_gray8(radiograph.pixels, str(path), radiograph.padding)
    return gray, tuple(radiograph.notes)


def _check_dicom(content: bytes, path: Path, max_pixels: int) -> str:
    from medsgssl.images.dicom_header import check_header, read_header

    return check_header(read_header(content, path), path, max_pixels)


def _tiff(content: bytes, path: Path) -> NDArray[Any]:
    header = read_tiff_header(io.BytesIO(content))
    upright = upright_tiff(content)
    if header.bits in _FEW_BITS and not header.floating and not header.compression:
        return decode_few_bits(upright)
    try:
        pixels = _decoded(upright, path)
    except ImageError as error:
        if header.compression:
            raise ImageError(
                f"{path} cannot be decoded: its compression is {header.compression}",
                "save it without compression, or with LZW or Deflate",
            ) from error
        if header.bits in _USUAL_BITS and not (header.floating and header.bits < 32):
            raise
        raise ImageError(
            f"{path} cannot be decoded: it has {header.depth}", "save it with 8 or 16 bits"
        ) from error
    return black_is_zero(pixels, header)


def _decoded(content: bytes, path: Path) -> NDArray[Any]:
    content = without_color_profile(content)
    try:
        pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise damaged(path, f"cannot be decoded: {error.err}") from error
    if pixels is None:
        raise damaged(path, "cannot be decoded")
    if pixels.ndim == 3 and pixels.shape[2] >= 3:
        pixels = pixels[:, :, [2, 1, 0]]  # OpenCV gives blue first
    return np.asarray(pixels)
