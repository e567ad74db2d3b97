"""What the tags of a TIFF file say about its pixels, where decoders do not follow them.

OpenCV turns gray that is stored with white as 0 right at 8 bits, and leaves it inverted at any
greater depth; it reads the first of several pages, follows the rotation tag, and gives up on pixels
of 2 and 4 bits, which Pillow reads. Pillow does not know every depth that OpenCV decodes, so the
few tags that count are read here.

Source: TIFF 6.0, sections 2 and 8; BigTIFF.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

STARTS = (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")

_SUBFILE, _WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC = 254, 256, 257, 258, 259, 262
_ORIENTATION, _SAMPLE_FORMAT = 274, 339
_FLOATING = 3
_CODES = {1: "B", 3: "H", 4: "I", 16: "Q"}
_MOST_PAGES = 1000
_MOST_TAGS = 10_000
_FARTHEST = 1 << 62
# Bits of the subfile type: a smaller copy of another page, a mask of one.
_NO_PAGE = 0b101
_COMPRESSIONS = {
    33003: "JPEG 2000", 33005: "JPEG 2000", 34712: "JPEG 2000", 34887: "LERC", 34925: "LZMA",
    50000: "Zstandard", 50001: "WebP", 50002: "JPEG XL",
}  # fmt: skip


class TiffError(ValueError):
    """The tags of a TIFF file cannot be read; the message says why."""


@dataclass(frozen=True, slots=True)
class TiffHeader:
    """What the first page of a TIFF file says.

    Attributes:
        width: Columns in pixels.
        height: Rows in pixels.
        pages: How many pictures the file holds; smaller copies and masks of them do not count.
        orientation: 1 to 8; 1 is upright, also where there is no tag.
        white_is_zero: Whether 0 is the brightest value.
        compression: Name of a compression that few programs decode; empty otherwise.
        bits: Bits of a gray or palette pixel; 0 where a pixel has several samples.
        floating: Whether pixels are floating-point numbers.
    """

    width: int
    height: int
    pages: int = 1
    orientation: int = 1
    white_is_zero: bool = False
    compression: str = ""
    bits: int = 0
    floating: bool = False

    @property
    def depth(self) -> str:
        """How deep a pixel is, in words."""
        return f"{self.bits} bits per pixel{', floating point' if self.floating else ''}"


def read_tiff_header(stream: BinaryIO) -> TiffHeader:
    """Read the tags of a TIFF file.

    Args:
        stream: The file, open at whatever place; little of it is read.

    Raises:
        TiffError: It is damaged.
    """
    tags = _Tags(stream)
    pages = list(tags.pages())
    if not pages:
        raise TiffError("it holds no page")
    first = pages[0]
    if not first.get(_WIDTH) or not first.get(_HEIGHT):
        raise TiffError("it does not say how many rows and columns it has")
    orientation = first.get(_ORIENTATION, 1)
    return TiffHeader(
        first[_WIDTH],
        first[_HEIGHT],
        # A first page that calls itself a copy or mask is read all the same: it is a picture too.
        1 + sum(not page.get(_SUBFILE, 0) & _NO_PAGE for page in pages[1:]),
        orientation if 1 <= orientation <= 8 else 1,
        first.get(_PHOTOMETRIC) == 0,
        _COMPRESSIONS.get(first.get(_COMPRESSION, 1), ""),
        first.get(_BITS, 0),
        first.get(_SAMPLE_FORMAT) == _FLOATING,
    )


def upright_tiff(content: bytes) -> bytes:
    """Return a TIFF file whose orientation tag says upright: OpenCV would follow the tag."""
    tags = _Tags(io.BytesIO(content))
    for tag, _, _, at in tags.entries(tags.first):
        if tag == _ORIENTATION:
            return content[:at] + struct.pack(f"{tags.order}H", 1) + content[at + 2 :]
    return content


def decode_few_bits(content: bytes) -> NDArray[np.uint8]:
    """Decode gray or palette pixels of 2 or 4 bits, which OpenCV gives up on.

    Args:
        content: A file with such pixels and without a rotation tag.

    Returns:
        uint8, ``H x W`` gray from 0 to 255, black = 0, or ``H x W x 3`` RGB.

    Raises:
        Exception: Whatever Pillow raises for a damaged file.
    """
    with Image.open(io.BytesIO(content), formats=["TIFF"]) as image:
        return np.asarray(image.convert("RGB") if image.mode == "P" else image)


def black_is_zero(pixels: NDArray[Any], header: TiffHeader) -> NDArray[Any]:
    """Return decoded pixels bright = large: OpenCV inverts no more than 8 bits on its own."""
    if not header.white_is_zero or pixels.ndim != 2 or pixels.dtype.itemsize == 1:
        return pixels
    if pixels.dtype.kind in "iu":
        return np.asarray(np.invert(pixels))
    return np.asarray(pixels.max() + pixels.min() - pixels)


class _Tags:
    """The tags of a TIFF or BigTIFF file.

    Attributes:
        order: ``<`` or ``>``, the order of bytes as ``struct`` writes it.
        first: Where the tags of the first page begin.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        stream.seek(0)
        start = stream.read(4)
        if start not in STARTS:
            raise TiffError("it does not begin as a TIFF file")
        self.order = "<" if start.startswith(b"II") else ">"
        self._big = b"+" in start
        self.first = self._number("Q", 8) if self._big else self._number("I", 4)

    def pages(self) -> Iterator[dict[int, int]]:
        """Yield the single whole numbers among the tags of each page."""
        where, read = self.first, set[int]()
        while where and where not in read and len(read) < _MOST_PAGES:
            read.add(where)
            yield {
                tag: self._number(_CODES[code], at)
                for tag, code, count, at in self.entries(where)
                if code in _CODES and count == 1
            }
            end = where + (
                8 + 20 * self._count(where) if self._big else 2 + 12 * self._count(where)
            )
            where = self._number("Q" if self._big else "I", end)

    def entries(self, where: int) -> Iterator[tuple[int, int, int, int]]:
        """Yield tag, type, number of values and their place in the file for each tag of a page."""
        begin = where + (8 if self._big else 2)
        layout, size = (f"{self.order}HHQ", 20) if self._big else (f"{self.order}HHI", 12)
        for at in range(begin, begin + size * self._count(where), size):
            tag, code, count = struct.unpack(layout, self._read(at, struct.calcsize(layout)))
            yield tag, code, count, at + size - (8 if self._big else 4)

    def _count(self, where: int) -> int:
        count = self._number("Q" if self._big else "H", where)
        if count > _MOST_TAGS:
            raise TiffError(f"a page of it claims {count:,} tags")
        return count

    def _number(self, code: str, at: int) -> int:
        return int(struct.unpack(self.order + code, self._read(at, struct.calcsize("=" + code)))[0])

    def _read(self, at: int, size: int) -> bytes:
        self._stream.seek(min(at, _FARTHEST))
        read = self._stream.read(size)
        if len(read) < size:
            raise TiffError("its tags lie outside the file")
        return read
