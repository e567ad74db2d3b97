"""The pixels of a DICOM file as they are stored: which bits count, which sign, what is padding."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray

from medsgssl.images.dicom_header import not_decoded, number_of

# What is below zero must hold more levels than this to be believed.
_FEWEST_LEVELS = 16


def decode(dataset: pydicom.Dataset, path: Path, notes: list[str]) -> NDArray[Any]:
    """Decode the pixels as they are stored, ``H x W`` gray or ``H x W x 3``.

    Args:
        dataset: A header that ``check_header`` has passed; gets a transfer syntax if it has none.
        path: The file, for the message.
        notes: Takes what was read otherwise than the header says.

    Raises:
        ImageError: pydicom or a decoder gives up on them.
    """
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
        stored, shift = number_of(dataset, "BitsStored"), _unused_low_bits(dataset)
        if not shift:
            return np.asarray(dataset.pixel_array)
        # pydicom takes the stored bits for the lowest ones, whatever the header says.
        dataset.BitsStored = int(stored or 0) + shift
        pixels = np.asarray(dataset.pixel_array)
        dataset.BitsStored = int(stored or 0)
    except Exception as error:
        raise not_decoded(path, error) from error
    if pixels.view(f"u{pixels.dtype.itemsize}").max() < 1 << dataset.BitsStored:
        return pixels  # they are the lowest ones all the same
    notes.append(f"the {shift} bits below its stored bits are not used")
    return np.asarray(pixels >> shift)


def _unused_low_bits(dataset: pydicom.Dataset) -> int:
    """Return how many bits lie below the stored ones of an uncompressed file: 0 in most files."""
    stored, high, allocated = (
        int(number_of(dataset, name) or 0) for name in ("BitsStored", "HighBit", "BitsAllocated")
    )
    if dataset.file_meta.TransferSyntaxUID.is_encapsulated or "PixelData" not in dataset:
        return 0
    return high + 1 - stored if 0 < stored <= high < allocated in (8, 16, 32) else 0


def stored_values(pixels: NDArray[Any], dataset: pydicom.Dataset, notes: list[str]) -> NDArray[Any]:
    """Read the stored bits otherwise than the header says, where that alone gives a picture.

    Old files keep an overlay in the bits above ``BitsStored``, and decoders leave it there; some
    writers call unsigned pixels signed, and the bright half wraps below zero, or signed ones
    unsigned, and the dark half wraps above the bright one. Neighbors tell: a torn picture has far
    larger steps between them.
    """
    kind, width = pixels.dtype.kind, 8 * pixels.dtype.itemsize
    bits = int(number_of(dataset, "BitsStored") or 0)
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


def padding_of(
    pixels: NDArray[Any], dataset: pydicom.Dataset, notes: list[str]
) -> NDArray[np.bool_] | None:
    """Return where stored values are padding, bool ``H x W``; None where no pixel is."""
    first = number_of(dataset, "PixelPaddingValue")
    if first is None:
        return None
    limit = number_of(dataset, "PixelPaddingRangeLimit")
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
    bits = int(number_of(dataset, "BitsAllocated") or 8 * pixels.dtype.itemsize)
    if pixels.dtype.kind == "u" and value < 0:
        return value + float(2**bits)
    if pixels.dtype.kind == "i" and value >= 2 ** (bits - 1):
        return value - float(2**bits)
    return value


def whole_range(pixels: NDArray[Any], bits: int) -> NDArray[np.uint8]:
    """Spread pixels of fewer than 8 bits over 0 to 255, as decoders of PNG do."""
    if not 0 < bits < 8 or pixels.max() >= 1 << bits:
        return pixels
    return np.asarray(np.rint(pixels * (255 / ((1 << bits) - 1))), np.uint8)
