"""Headers of DICOM files: parsed, and checked before any pixel is decoded."""

from __future__ import annotations

import io
import math
import warnings
import zlib
from pathlib import Path

import pydicom
from pydicom.encaps import generate_fragments

from medsgssl.errors import ImageError
from medsgssl.images.decoders import require_decoder
from medsgssl.images.integrity import require_size
from medsgssl.images.jpeg import compressed_size

# pydicom warns of every odd element with no word of the file; what matters here is in the notes.
warnings.filterwarnings("ignore", module=r"pydicom\b")

_PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
_DEFLATED = "1.2.840.10008.1.2.1.99"
_MOST_INFLATED = 1 << 30
_FETCH = "fetch the file again, or convert it to PNG with a DICOM tool"
_ONE_FRAME = "extract one frame as PNG"


def read_header(content: bytes, path: Path) -> pydicom.Dataset:
    """Parse a DICOM file; its pixels are not decoded.

    Raises:
        ImageError: It cannot be parsed.
    """
    _check_deflated(content, path)
    try:
        return pydicom.dcmread(io.BytesIO(content), force=content[128:132] != b"DICM")
    except Exception as error:
        raise not_decoded(path, error) from error


def check_header(dataset: pydicom.Dataset, path: Path, max_pixels: int) -> str:
    """Check that a parsed file holds one image that can be decoded here.

    Returns:
        The UID of its transfer syntax; empty where the header has none.

    Raises:
        ImageError: It has no pixels, several frames, too many pixels, or no decoder is installed.
    """
    rows, columns = (number_of(dataset, name) for name in ("Rows", "Columns"))
    if not any(name in dataset for name in _PIXELS):
        if (rows and columns) or not len(dataset):
            # pydicom leaves out an element that the file breaks off in, even all before it.
            raise ImageError(
                f"{path} is truncated or damaged: the pixels of its image are not there", _FETCH
            )
        raise ImageError(f"{path} has no pixels", "take the file out of the set")
    frames = number_of(dataset, "NumberOfFrames")
    if frames is not None and frames > 1:
        raise ImageError(f"{path} holds several frames", _ONE_FRAME)
    if not rows or not columns or min(rows, columns) < 1:
        raise ImageError(f"{path} does not say how many rows and columns it has", _FETCH)
    require_size(path, int(columns), int(rows), max_pixels)
    meta = getattr(dataset, "file_meta", None)
    uid = str(meta.get("TransferSyntaxUID") or "") if meta is not None else ""
    if uid:
        require_decoder(path, uid, int(number_of(dataset, "BitsStored") or 8))
    images = _images_that_fit(dataset)
    if images > 1:
        raise ImageError(
            f"{path} holds the pixels of {images} images of {columns:.0f} x {rows:.0f}, and its "
            "header speaks of one",
            _ONE_FRAME,
        )
    stream = _stream_size(dataset)
    if stream is not None and stream[0] * stream[1] > max_pixels:
        raise ImageError(
            f"{path} is damaged: its compressed pixels claim {stream[0]} x {stream[1]}, its header "
            f"{columns:.0f} x {rows:.0f}",
            _FETCH,
        )
    return uid


def _images_that_fit(dataset: pydicom.Dataset) -> int:
    """Return how many images plain pixels are enough for: pydicom would show the first alone."""
    try:
        meta = getattr(dataset, "file_meta", None) or {}
        if (uid := meta.get("TransferSyntaxUID")) and uid.is_encapsulated:
            return 1
        bits = dataset.Rows * dataset.Columns * dataset.SamplesPerPixel * dataset.BitsAllocated
        return max(1, len(dataset.PixelData) * 8 // int(bits))
    except Exception:  # noqa: BLE001 - what is missing is named where it is needed
        return 1


def _check_deflated(content: bytes, path: Path) -> None:
    """Refuse a deflated data set that grows beyond reason before pydicom inflates it whole."""
    if _DEFLATED.encode() not in content[:2048]:
        return
    start = content.find(_DEFLATED.encode())
    # The deflated part follows the file's meta information, whose length its first element gives.
    length = int.from_bytes(content[140:144], "little") if content[132:136] == b"\2\0\0\0" else 0
    body = content[144 + length :] if length else content[start:]
    try:
        grown = zlib.decompressobj(-zlib.MAX_WBITS).decompress(body, _MOST_INFLATED + 1)
    except zlib.error as error:
        raise not_decoded(path, error) from error
    if len(grown) > _MOST_INFLATED:
        raise ImageError(f"{path} inflates to more than 1 GiB", "take the file out of the set")


def _stream_size(dataset: pydicom.Dataset) -> tuple[int, int] | None:
    """Return the size that compressed pixels themselves claim: the header may say another."""
    try:
        if not dataset.file_meta.TransferSyntaxUID.is_encapsulated:
            return None
        fragments = generate_fragments(dataset.PixelData)
        frame = next((part for part in fragments if part[:2] in (b"\xff\xd8", b"\xff\x4f")), b"")
        return compressed_size(frame)
    except Exception:  # noqa: BLE001 - the decoder says what is wrong with it
        return None


def not_decoded(path: Path, error: BaseException) -> ImageError:
    """Return the error for a file that pydicom or a decoder gives up on."""
    reason = " ".join(str(error).split())[:300] or type(error).__name__
    return ImageError(f"{path} cannot be decoded as DICOM: {reason}", _FETCH)


def number_of(dataset: pydicom.Dataset, name: str) -> float | None:
    """Return an element as a number, or None where it is absent, empty or no number."""
    try:
        value = dataset.get(name)
        if isinstance(value, (list, pydicom.multival.MultiValue)):
            value = value[0] if value else None
        number = float(value)
    except Exception:  # noqa: BLE001 - whatever the element holds, it is no number
        return None
    return number if math.isfinite(number) else None


def text_of(dataset: pydicom.Dataset, name: str) -> str:
    """Return an element as text without blanks around it, empty where it is absent or odd."""
    try:
        return str(dataset.get(name) or "").strip()
    except Exception:  # noqa: BLE001 - whatever the element holds, it is no text
        return ""
