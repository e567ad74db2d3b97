"""DICOM radiographs as plain arrays, bright = dense."""

from __future__ import annotations

import io
import math
import warnings
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.encaps import generate_fragments

from medsgssl.errors import ImageError
from medsgssl.images.decoders import require_decoder
from medsgssl.images.display_luts import UnusableLutError, modality_values, voi_values
from medsgssl.images.integrity import require_size
from medsgssl.images.jpeg import compressed_size

# pydicom warns of every odd element with no word of the file; what matters here is in the notes.
warnings.filterwarnings("ignore", module=r"pydicom\b")

_CLIPPED_AT_MOST = 0.5
_PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
_DEFLATED = "1.2.840.10008.1.2.1.99"
_MOST_INFLATED = 1 << 30
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
    """Decode one radiograph: rescaled, windowed, MONOCHROME1 inverted.

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
    pixels = _decode(dataset, path, notes)
    _note_shape(dataset, notes)
    if pixels.ndim == 3 and pixels.shape[2] == 3:
        return Radiograph(pixels, notes=notes)
    photometric = _text(dataset, "PhotometricInterpretation")
    if not photometric.startswith("MONOCHROME"):
        raise ImageError(
            f"{path} has the color model {photometric or '(none)'}", "convert it to gray PNG"
        )
    if _text(dataset, "PresentationLUTShape") == "INVERSE" and photometric != "MONOCHROME1":
        notes.append(f"its presentation LUT shape INVERSE contradicts {photometric}: not followed")
    pixels = _stored_bits(pixels, dataset, notes)
    padding = _padding(pixels, dataset, notes)
    tissue = ... if padding is None else ~padding
    values = _apply("modality LUT", modality_values, pixels, dataset, tissue, notes)
    values = _apply("window", voi_values, values, dataset, tissue, notes)
    if values.dtype == np.uint8:
        values = _whole_range(values, int(_number(dataset, "BitsStored") or 8))
    if photometric == "MONOCHROME1":
        if values.dtype == np.uint8:
            values = 255 - values
        else:
            inside = values[tissue].astype(np.float64)
            values = inside.max() + inside.min() - values.astype(np.float64)
    return Radiograph(values, padding, notes)


def read_header(content: bytes, path: Path) -> pydicom.Dataset:
    """Parse a DICOM file; its pixels are not decoded.

    Raises:
        ImageError: It cannot be parsed.
    """
    _check_deflated(content, path)
    try:
        return pydicom.dcmread(io.BytesIO(content), force=content[128:132] != b"DICM")
    except Exception as error:
        raise _not_decoded(path, error) from error


def check_header(dataset: pydicom.Dataset, path: Path, max_pixels: int) -> str:
    """Check that a parsed file holds one image that can be decoded here.

    Returns:
        The UID of its transfer syntax; empty where the header has none.

    Raises:
        ImageError: It has no pixels, several frames, too many pixels, or no decoder is installed.
    """
    if not any(name in dataset for name in _PIXELS):
        raise ImageError(f"{path} has no pixels", "take the file out of the set")
    frames = _number(dataset, "NumberOfFrames")
    if frames is not None and frames > 1:
        raise ImageError(f"{path} holds several frames", "extract one frame as PNG")
    rows, columns = (_number(dataset, name) for name in ("Rows", "Columns"))
    if not rows or not columns or min(rows, columns) < 1:
        raise ImageError(f"{path} does not say how many rows and columns it has", _FETCH)
    require_size(path, int(columns), int(rows), max_pixels)
    meta = getattr(dataset, "file_meta", None)
    uid = str(meta.get("TransferSyntaxUID") or "") if meta is not None else ""
    if uid:
        require_decoder(path, uid, int(_number(dataset, "BitsStored") or 8))
    stream = _stream_size(dataset)
    if stream is not None and stream[0] * stream[1] > max_pixels:
        raise ImageError(
            f"{path} is damaged: its compressed pixels claim {stream[0]} x {stream[1]}, its header "
            f"{columns:.0f} x {rows:.0f}",
            _FETCH,
        )
    return uid


_FETCH = "fetch the file again, or convert it to PNG with a DICOM tool"


def _not_decoded(path: Path, error: BaseException) -> ImageError:
    reason = " ".join(str(error).split())[:300] or type(error).__name__
    return ImageError(f"{path} cannot be decoded as DICOM: {reason}", _FETCH)


def _decode(dataset: pydicom.Dataset, path: Path, notes: list[str]) -> NDArray[Any]:
    try:
        if not getattr(dataset, "file_meta", None):
            dataset.file_meta = pydicom.dataset.FileMetaDataset()
        if not dataset.file_meta.get("TransferSyntaxUID"):
            implicit, little = dataset.original_encoding
            dataset.file_meta.TransferSyntaxUID = (
                pydicom.uid.ImplicitVRLittleEndian
                if implicit
                else pydicom.uid.ExplicitVRLittleEndian
                if little
                else pydicom.uid.ExplicitVRBigEndian
            )
        stored, shift = _number(dataset, "BitsStored"), _unused_low_bits(dataset)
        if not shift:
            return np.asarray(dataset.pixel_array)
        # pydicom takes the stored bits for the lowest ones, whatever the header says.
        dataset.BitsStored = int(stored or 0) + shift
        pixels = np.asarray(dataset.pixel_array)
        dataset.BitsStored = int(stored or 0)
    except Exception as error:
        raise _not_decoded(path, error) from error
    if pixels.view(f"u{pixels.dtype.itemsize}").max() < 1 << dataset.BitsStored:
        return pixels  # they are the lowest ones all the same
    notes.append(f"the {shift} bits below its stored bits are not used")
    return np.asarray(pixels >> shift)


def _unused_low_bits(dataset: pydicom.Dataset) -> int:
    """Return how many bits lie below the stored ones of an uncompressed file: 0 in most files."""
    stored, high, allocated = (
        int(_number(dataset, name) or 0) for name in ("BitsStored", "HighBit", "BitsAllocated")
    )
    if dataset.file_meta.TransferSyntaxUID.is_encapsulated or "PixelData" not in dataset:
        return 0
    return high + 1 - stored if 0 < stored <= high < allocated in (8, 16, 32) else 0


def _whole_range(pixels: NDArray[Any], bits: int) -> NDArray[np.uint8]:
    """Spread pixels of fewer than 8 bits over 0 to 255, as decoders of PNG do."""
    if not 0 < bits < 8 or pixels.max() >= 1 << bits:
        return pixels
    return np.asarray(np.rint(pixels * (255 / ((1 << bits) - 1))), np.uint8)


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


def _stored_bits(pixels: NDArray[Any], dataset: pydicom.Dataset, notes: list[str]) -> NDArray[Any]:
    """Read the stored bits otherwise than the header says, where that alone gives a picture.

    Old files keep an overlay in the bits above ``BitsStored``, and decoders leave it there; some
    writers call unsigned pixels signed, and the bright half wraps below zero, or signed ones
    unsigned, and the dark half wraps above the bright one. Neighbors tell: a torn picture has far
    larger steps between them.
    """
    kind, width = pixels.dtype.kind, 8 * pixels.dtype.itemsize
    bits = int(_number(dataset, "BitsStored") or 0)
    if kind not in "iu" or not 0 < bits <= width:
        return pixels
    unsigned = pixels.view(f"u{pixels.dtype.itemsize}")
    without: NDArray[Any] = unsigned & unsigned.dtype.type((1 << bits) - 1)
    if kind == "u" and _is_signed(without, pixels, bits):
        notes.append("its pixels are read as signed, though its header says unsigned")
        return _signed(without, bits)
    if kind == "u" and bits < width and pixels.max() >= 1 << bits:
        if _step(without) < _step(pixels):
            notes.append(f"bits above its {bits} stored bits (an overlay) are not used")
            return without
    elif kind == "i" and pixels.min() < 0 and _step(without) < 0.5 * _step(pixels):
        notes.append("its pixels are read as unsigned, though its header says signed")
        return without
    return pixels


def _is_signed(without: NDArray[Any], pixels: NDArray[Any], bits: int) -> bool:
    """Tell whether unsigned pixels make a picture only when they are read as signed.

    Of a border of one value, or of the largest ones, which would turn from white to black, the
    header is believed: below zero must lie many levels and a good part of the range.
    """
    if bits <= 8 or without.max() < 1 << (bits - 1):
        return False
    some = _signed(_some_rows(without), bits)
    if _step(some) >= 0.5 * _step(pixels):
        return False
    low, high = np.percentile(some, [1, 99])
    return bool(-low > 0.25 * high and len(np.unique(some[some < 0])) >= _FEWEST_LEVELS)


def _signed(pixels: NDArray[Any], bits: int) -> NDArray[np.int32]:
    """Read the lowest bits of unsigned pixels as two's complement."""
    half = 1 << (bits - 1)
    return np.asarray((pixels.astype(np.int64) ^ half) - half, np.int32)


def _step(pixels: NDArray[Any]) -> float:
    """Return the mean difference of neighbors along some rows."""
    return float(np.abs(np.diff(_some_rows(pixels).astype(np.int64))).mean())


def _some_rows(pixels: NDArray[Any], rows: int = 256) -> NDArray[Any]:
    return pixels[:: max(1, len(pixels) // rows)]


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
        raise _not_decoded(path, error) from error
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


def _padding(
    pixels: NDArray[Any], dataset: pydicom.Dataset, notes: list[str]
) -> NDArray[np.bool_] | None:
    first = _number(dataset, "PixelPaddingValue")
    if first is None:
        return None
    limit = _number(dataset, "PixelPaddingRangeLimit")
    ends = (first, first if limit is None else limit)
    low, high = sorted(_stored(value, pixels, dataset) for value in ends)
    padding = np.asarray((pixels >= low) & (pixels <= high), dtype=np.bool_)
    if not padding.any():
        return None
    if padding.all() or pixels[~padding].min() == pixels[~padding].max():
        notes.append("its padding value is not used: it would leave no picture")
        return None
    return padding


def _stored(value: float, pixels: NDArray[Any], dataset: pydicom.Dataset) -> float:
    """Bring a padding value to the sign of the pixels: 16 bits may be read either way."""
    if pixels.dtype.kind == "f":
        return value
    bits = int(_number(dataset, "BitsAllocated") or 8 * pixels.dtype.itemsize)
    if pixels.dtype.kind == "u" and value < 0:
        return value + float(2**bits)
    if pixels.dtype.kind == "i" and value >= 2 ** (bits - 1):
        return value - float(2**bits)
    return value


def _number(dataset: pydicom.Dataset, name: str) -> float | None:
    """Return an element as a number, or None where it is absent, empty or no number."""
    try:
        value = dataset.get(name)
        if isinstance(value, (list, pydicom.multival.MultiValue)):
            value = value[0] if value else None
        number = float(value)
    except Exception:  # noqa: BLE001 - whatever the element holds, it is no number
        return None
    return number if math.isfinite(number) else None


def _text(dataset: pydicom.Dataset, name: str) -> str:
    try:
        return str(dataset.get(name) or "").strip()
    except Exception:  # noqa: BLE001 - whatever the element holds, it is no text
        return ""
