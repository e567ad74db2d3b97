"""Cheap checks of an image file's structure: a damaged file is found before it is decoded.

OpenCV decodes a truncated PNG or JPEG without a word and leaves the rest gray or black, so the end
mark of the file has to be looked for.
"""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path
from typing import Literal

from medsgssl.errors import ImageError
from medsgssl.images.intensity import SMALLEST_SIDE

Kind = Literal["png", "jpeg", "dicom"]

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".dcm", ".dicom"})

_PNG_START = b"\x89PNG\r\n\x1a\n"
_PNG_END = b"\x00\x00\x00\x00IEND\xaeB`\x82"
_JPEG_START = b"\xff\xd8\xff"
_JPEG_END = b"\xff\xd9"
_HEAD, _TAIL = 256, 1024  # some writers pad a file after its end mark
_FETCH_AGAIN = "fetch the file again from its source, or take it out of the set"


def check_image(path: Path) -> Kind:
    """Check a file's kind, size and end mark by reading about a kilobyte of it.

    Args:
        path: A PNG, JPEG or DICOM file.

    Returns:
        The kind of the file, told by its content.

    Raises:
        ImageError: The file is missing, empty, of another kind, truncated or tiny.
    """
    try:
        with path.open("rb") as stream:
            head = stream.read(_HEAD)
            size = stream.seek(0, os.SEEK_END)
            stream.seek(max(0, size - _TAIL))
            tail = stream.read()
    except OSError as error:
        raise unreadable(path, error) from error
    return _check(path, head, tail)


def read_checked(path: Path) -> tuple[bytes, Kind]:
    """Read a whole file, checking also the checksum of every PNG chunk.

    Args:
        path: A PNG, JPEG or DICOM file.

    Returns:
        The file's content and its kind.

    Raises:
        ImageError: As ``check_image``, and where a PNG chunk is damaged.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise unreadable(path, error) from error
    kind = _check(path, content[:_HEAD], content[-_TAIL:])
    if kind == "png":
        _check_chunks(path, content)
    return content, kind


def unreadable(path: Path, error: OSError) -> ImageError:
    """Say why the file system does not give a file."""
    if isinstance(error, FileNotFoundError):
        return ImageError(f"{path} does not exist", "check the path, or fetch the file")
    reason = error.strerror or type(error).__name__
    return ImageError(f"{path} cannot be read: {reason}", "check the path and its permissions")


def damaged(path: Path, what: str) -> ImageError:
    """Say that a file is of a known kind, but not whole."""
    return ImageError(f"{path} {what}", _FETCH_AGAIN)


def _check(path: Path, head: bytes, tail: bytes) -> Kind:
    if not head:
        raise damaged(path, "is empty")
    if head.startswith(_PNG_START):
        if _PNG_END not in tail:
            raise damaged(path, "is a truncated PNG: its end mark is missing")
        _check_png_size(path, head)
        return "png"
    if head.startswith(_JPEG_START):
        # Inside the compressed data 0xFF is always followed by 0x00 or a restart mark.
        if _JPEG_END not in tail:
            raise damaged(path, "is a truncated JPEG: its end mark is missing")
        return "jpeg"
    if head[128:132] == b"DICM":
        return "dicom"
    raise ImageError(f"{path} is not a PNG, JPEG or DICOM image", "convert it to PNG")


def _check_png_size(path: Path, head: bytes) -> None:
    width, height = struct.unpack(">II", head[16:24])
    if min(width, height) < SMALLEST_SIDE:
        raise ImageError(
            f"{path} is {width} x {height} pixels",
            f"give images of at least {SMALLEST_SIDE} x {SMALLEST_SIDE} pixels",
        )


def _check_chunks(path: Path, content: bytes) -> None:
    view = memoryview(content)
    position = len(_PNG_START)
    while position + 12 <= len(content):
        length, kind = struct.unpack_from(">I4s", content, position)
        end = position + 8 + length
        if end + 4 > len(content):
            break
        (expected,) = struct.unpack_from(">I", content, end)
        if zlib.crc32(view[position + 4 : end]) != expected:
            raise damaged(path, f"is a damaged PNG: wrong checksum after byte {position}")
        if kind == b"IEND":
            return
        position = end + 4
    raise damaged(path, f"is a damaged PNG: its chunks break off at byte {position}")
