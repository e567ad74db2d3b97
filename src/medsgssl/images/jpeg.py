"""The structure of a JPEG file: its size, its EXIF block, and whether it is whole.

Source: ITU-T T.81, annex B.
"""

from __future__ import annotations

import io
import os
import re
import struct
from dataclasses import dataclass
from typing import BinaryIO

_END_OF_IMAGE, _START_OF_SCAN = 0xD9, 0xDA
# Every start of frame (size of the image), JPEG-LS included; DHT, JPG and DAC share their range.
_FRAMES = frozenset({*range(0xC0, 0xD0), 0xF7}) - {0xC4, 0xC8, 0xCC}
_NO_LENGTH = frozenset({0x01, *range(0xD0, 0xD8)})
# Inside compressed data 0xFF is followed by 0x00, a restart mark or another 0xFF.
_MARKER_IN_SCAN = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]", re.DOTALL)


class JpegError(ValueError):
    """The structure of a JPEG breaks off; the message says where."""


@dataclass(frozen=True, slots=True)
class JpegStructure:
    """What the segments of a JPEG say.

    Attributes:
        width: Columns in pixels.
        height: Rows in pixels.
        exif: The EXIF block without its signature; empty where there is none.
        common: Whether it is of the kind that every decoder reads: baseline, extended or
            progressive, 8 bits; not lossless, arithmetic or of 12 bits.
    """

    width: int
    height: int
    exif: bytes
    common: bool


def read_jpeg_structure(stream: BinaryIO, *, to_end: bool) -> JpegStructure:
    """Follow a JPEG from segment to segment.

    Args:
        stream: The file; read from its beginning.
        to_end: Follow the compressed data up to the end mark; else stop where it begins.

    Raises:
        JpegError: A segment or the end mark is missing.
    """
    width = height = 0
    exif, common = b"", False
    stream.seek(2)
    while True:
        marker = _next_marker(stream)
        if marker == _END_OF_IMAGE:
            break
        if marker in _NO_LENGTH:
            continue
        body = _segment(stream)
        if marker in _FRAMES and not width:
            if len(body) < 5:
                raise JpegError("its frame header is not whole")
            bits, height, width = struct.unpack_from(">BHH", body)
            common = bits == 8 and marker <= 0xC2
        elif marker == 0xE1 and body.startswith(b"Exif\0\0") and not exif:
            exif = body[6:]
        elif marker == _START_OF_SCAN:
            if not to_end:
                break
            _skip_scan(stream)
    if not width or not height:
        raise JpegError("it holds no frame with a size")
    return JpegStructure(width, height, exif, common)


def _next_marker(stream: BinaryIO) -> int:
    byte = stream.read(1)
    while byte and byte != b"\xff":  # stray bytes between segments, as some cameras write them
        byte = stream.read(1)
    while byte == b"\xff":
        byte = stream.read(1)
    if not byte:
        raise JpegError("its end mark is missing")
    return byte[0]


def _segment(stream: BinaryIO) -> bytes:
    size = stream.read(2)
    length = struct.unpack(">H", size)[0] if len(size) == 2 else 0
    body = stream.read(max(0, length - 2))
    if length < 2 or len(body) < length - 2:
        raise JpegError("its end mark is missing")
    return body


def _skip_scan(stream: BinaryIO, block: int = 1 << 20) -> None:
    """Go to the marker that ends the compressed data."""
    while data := stream.read(block):
        marker = _MARKER_IN_SCAN.search(data)
        if marker is not None:
            stream.seek(marker.start() - len(data), os.SEEK_CUR)
            return
        if data.endswith(b"\xff") and len(data) > 1:
            stream.seek(-1, os.SEEK_CUR)
    raise JpegError("its end mark is missing")


def compressed_size(frame: bytes) -> tuple[int, int] | None:
    """Return (width, height) that a JPEG or JPEG 2000 code stream itself claims, or None."""
    if frame.startswith(b"\xff\xd8"):
        try:
            structure = read_jpeg_structure(io.BytesIO(frame), to_end=False)
        except JpegError:
            return None
        return structure.width, structure.height
    start = frame.find(b"\xff\x4f\xff\x51", 0, 512)
    if start >= 0 and len(frame) >= start + 24:
        x1, y1, x0, y0 = struct.unpack_from(">IIII", frame, start + 8)
        return max(0, x1 - x0), max(0, y1 - y0)
    return None
