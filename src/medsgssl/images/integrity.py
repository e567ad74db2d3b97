"""Cheap checks of an image file before it is decoded: its kind, its size, whether it is whole.

OpenCV decodes a truncated PNG or JPEG without a word and leaves the rest gray or black, so the
file's structure is followed up to its end mark. What comes after the end mark is ignored. The
number of pixels is read from the header, so that a small file that claims a huge image is refused
before any memory is taken.

Each problem is an ``ImageError``. ``data/file_checks.py`` catches it and sets the file aside;
``data/audit.py`` counts and names such files.
"""

from __future__ import annotations

import io
import os
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

from PIL import Image, UnidentifiedImageError

from medsgssl.config.schema import MAX_PIXELS
from medsgssl.errors import ImageError
from medsgssl.images import tiff
from medsgssl.images.intensity import SMALLEST_SIDE
from medsgssl.images.jpeg import JpegError, read_jpeg_structure

Kind = Literal["png", "jpeg", "tiff", "bmp", "webp", "dicom"]

#: Suffixes that are expected to hold an image; the content decides what a file is.
IMAGE_SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".dcm", ".dicom", ".tif", ".tiff", ".bmp", ".webp"}
)

#: Bytes that ``image_kind`` needs to see.
HEAD_BYTES = 256

_PNG_START = b"\x89PNG\r\n\x1a\n"
_PNG_END = b"\x00\x00\x00\x00IEND\xaeB`\x82"
_JPEG_END = b"\xff\xd9"
_TAIL_BYTES = 1024

_ORIENTATION_TAG = 0x0112
_FETCH_AGAIN = "fetch the file again from its source, or take it out of the set"


@dataclass(frozen=True, slots=True)
class ImageHeader:
    """What the header of an image file says.

    Attributes:
        kind: The format, decided by the content.
        width: Columns in pixels; 0 where the header was not looked at (DICOM).
        height: Rows in pixels; 0 likewise.
        orientation: EXIF orientation, 1 to 8; 1 is upright, also where there is no tag.
        sure: Whether a file of intact structure is certain to be decoded.
    """

    kind: Kind
    width: int = 0
    height: int = 0
    orientation: int = 1
    sure: bool = False

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user should know about a file that is read all the same."""
        if self.orientation == 1:
            return ()
        return (f"its rotation tag (EXIF orientation {self.orientation}) is not followed",)


def image_kind(head: bytes) -> Kind | None:
    """Return the format of a file by its first 256 bytes, or None for what is no image.

    DICOM is recognized with its preamble, and without one by its first data element.
    """
    tests: dict[Kind, bool] = {
        "png": head.startswith(_PNG_START),
        "jpeg": head.startswith(b"\xff\xd8\xff"),
        "dicom": head[128:132] == b"DICM" or _is_bare_dicom(head),
        "tiff": head.startswith(tiff.STARTS),
        # A BMP's two letters alone would make images of text files; its reserved bytes are 0.
        "bmp": head.startswith(b"BM") and head[6:10] == b"\0\0\0\0" and len(head) > 30,
        "webp": head.startswith(b"RIFF") and head[8:12] == b"WEBP",
    }
    return next((kind for kind, fits in tests.items() if fits), None)


def kind_of_file(path: Path) -> Kind | None:
    """Return the format of a file by its content, or None for what is no image or unreadable."""
    try:
        with path.open("rb") as stream:
            return image_kind(stream.read(HEAD_BYTES))
    except OSError:
        return None


def check_image(path: Path, max_pixels: int = MAX_PIXELS) -> ImageHeader:
    """Check a file's kind, size and end mark, most often by reading about a kilobyte of it.

    Args:
        path: A PNG, JPEG, TIFF, BMP, WebP or DICOM file.
        max_pixels: Largest number of pixels.

    Returns:
        What the header says.

    Raises:
        ImageError: The file is missing, empty, of another kind, truncated, tiny or too large.
    """
    try:
        with path.open("rb") as stream:
            return _check(path, stream, max_pixels, whole=False)
    except OSError as error:
        raise unreadable(path, error) from error


def read_checked(path: Path, max_pixels: int = MAX_PIXELS) -> tuple[bytes, ImageHeader]:
    """Read a whole file and follow its structure to the end, checksums of PNG chunks included.

    Args:
        path: A PNG, JPEG, TIFF, BMP, WebP or DICOM file.
        max_pixels: Largest number of pixels.

    Returns:
        The file's content and what its header says.

    Raises:
        ImageError: As ``check_image``, and where a PNG chunk is damaged.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise unreadable(path, error) from error
    return content, _check(path, io.BytesIO(content), max_pixels, whole=True)


def without_color_profile(content: bytes) -> bytes:
    """Return a PNG without its color profile, which nothing here follows; others as they are.

    libpng writes to the terminal of each profile that it finds odd, with no word of the file.
    """
    at = content.find(b"iCCP", len(_PNG_START), _TAIL_BYTES) - 4
    if at < 0 or not content.startswith(_PNG_START):
        return content
    length = int.from_bytes(content[at : at + 4])
    return content[:at] + content[at + 12 + length :]


def unreadable(path: Path, error: OSError) -> ImageError:
    """Return the error for a file that the file system does not give."""
    if isinstance(error, FileNotFoundError):
        return ImageError(f"{path} does not exist", "check the path, or fetch the file")
    reason = error.strerror or type(error).__name__
    return ImageError(f"{path} cannot be read: {reason}", "check the path and its permissions")


def damaged(path: Path, what: str) -> ImageError:
    """Return the error for a file of a known kind that is not whole."""
    return ImageError(f"{path} {what}", _FETCH_AGAIN)


def require_size(path: Path, width: int, height: int, max_pixels: int) -> None:
    """Refuse an image that is tiny or has more than ``max_pixels`` pixels.

    Raises:
        ImageError: It is.
    """
    if min(width, height) < SMALLEST_SIDE:
        raise ImageError(
            f"{path} is {width} x {height} pixels",
            f"give images of at least {SMALLEST_SIDE} x {SMALLEST_SIDE} pixels",
        )
    if width * height > max_pixels:
        raise ImageError(
            f"{path} is {width} x {height} pixels, more than the {max_pixels:,} allowed",
            "take the file out of the set, or allow it with "
            f"--set data.max_pixels={width * height}",
        )


def orientation_of(exif: bytes) -> int:
    """Return the orientation in an EXIF block, 1 to 8; 1 where it has none that can be read."""
    try:
        tags = Image.Exif()
        tags.load(exif)
        value = int(tags.get(_ORIENTATION_TAG, 1))
    except Exception:  # noqa: BLE001 - a damaged tag must not cost the image
        return 1
    return value if 1 <= value <= 8 else 1


def _check(path: Path, stream: BinaryIO, max_pixels: int, *, whole: bool) -> ImageHeader:
    head = stream.read(HEAD_BYTES)
    if not head:
        raise damaged(path, "is empty")
    kind = image_kind(head)
    if kind is None:
        raise ImageError(
            f"{path} is not a PNG, JPEG, TIFF, BMP, WebP or DICOM image", "convert it to PNG"
        )
    if kind == "dicom":
        return ImageHeader("dicom")
    read = {"png": _png_header, "jpeg": _jpeg_header, "tiff": _tiff_header}.get(kind, _other_header)
    header = read(path, stream, kind, whole)
    require_size(path, header.width, header.height, max_pixels)
    return header


def _tail(stream: BinaryIO) -> bytes:
    size = stream.seek(0, os.SEEK_END)
    stream.seek(max(0, size - _TAIL_BYTES))
    return stream.read()


def _png_header(path: Path, stream: BinaryIO, kind: Kind, whole: bool) -> ImageHeader:
    stream.seek(16)
    size = stream.read(8)
    if len(size) < 8:
        raise damaged(path, "is a truncated PNG: its header is not whole")
    width, height = struct.unpack(">II", size)
    exif = b""
    if whole or _PNG_END not in _tail(stream):
        exif = _walk_chunks(path, stream, whole)
    return ImageHeader(kind, width, height, orientation_of(exif) if exif else 1, sure=True)


def _walk_chunks(path: Path, stream: BinaryIO, whole: bool) -> bytes:
    """Follow a PNG from chunk to chunk; return its EXIF block, empty where there is none."""
    exif = b""
    position = stream.seek(len(_PNG_START))
    while len(start := stream.read(8)) == 8:
        length, kind = struct.unpack(">I4s", start)
        if kind == b"IEND":
            return exif
        if whole:
            data, checksum = stream.read(length), stream.read(4)
            if len(checksum) < 4:
                raise damaged(
                    path, f"is a truncated or damaged PNG: it breaks off after byte {position}"
                )
            if zlib.crc32(kind + data) != struct.unpack(">I", checksum)[0]:
                raise damaged(path, f"is a damaged PNG: wrong checksum after byte {position}")
            exif = data if kind == b"eXIf" else exif
        else:
            stream.seek(length + 4, os.SEEK_CUR)
        position = stream.tell()
    raise damaged(path, "is a truncated PNG: its end mark is missing")


def _jpeg_header(path: Path, stream: BinaryIO, kind: Kind, whole: bool) -> ImageHeader:
    to_end = whole or _JPEG_END not in _tail(stream)
    try:
        jpeg = read_jpeg_structure(stream, to_end=to_end)
    except JpegError as error:
        raise damaged(path, f"is a truncated JPEG: {error}") from None
    orientation = orientation_of(jpeg.exif) if jpeg.exif else 1
    return ImageHeader(kind, jpeg.width, jpeg.height, orientation, jpeg.common)


def _tiff_header(path: Path, stream: BinaryIO, kind: Kind, whole: bool) -> ImageHeader:
    del whole
    try:
        header = tiff.read_tiff_header(stream)
    except tiff.TiffError as error:
        raise damaged(path, f"is a truncated or damaged TIFF: {error}") from error
    if header.pages > 1:
        raise ImageError(
            f"{path} holds {header.pages} pages",
            "save the page that is the radiograph as a file of its own",
        )
    return ImageHeader(kind, header.width, header.height, header.orientation)


def _other_header(path: Path, stream: BinaryIO, kind: Kind, whole: bool) -> ImageHeader:
    # BMP and WebP are rare here: Pillow reads their headers, and only these.
    del whole
    size = stream.seek(0, os.SEEK_END)
    stream.seek(0)
    head = stream.read(12)
    claimed = {
        "bmp": struct.unpack_from("<I", head, 2)[0],
        "webp": struct.unpack_from("<I", head, 4)[0] + 8,
    }.get(kind, 0)
    if claimed > size:
        raise damaged(path, f"is a truncated {kind.upper()}: {size} of {claimed} bytes are there")
    stream.seek(0)
    try:
        with Image.open(stream, formats=[kind.upper()]) as image:
            width, height = image.size
            orientation = int(image.getexif().get(_ORIENTATION_TAG, 1))
    except Image.DecompressionBombError:
        raise ImageError(
            f"{path} has too many pixels for a {kind.upper()} file",
            "take the file out of the set, or convert it to PNG",
        ) from None
    except UnidentifiedImageError:
        raise damaged(path, f"is a damaged {kind.upper()}: its header cannot be read") from None
    except Exception as error:
        raise damaged(path, f"is a damaged {kind.upper()}: {error}") from error
    return ImageHeader(kind, width, height, orientation if 1 <= orientation <= 8 else 1)


def _is_bare_dicom(head: bytes) -> bool:
    """Tell whether a file begins with a data element of DICOM's group 2 or 8, little endian."""
    if len(head) < 16:
        return False
    group, element = struct.unpack_from("<HH", head)
    if group not in {0x0002, 0x0008} or element > 0x0100 or element in {0x0003, 0x0004}:
        return False
    explicit = head[4:6].isalpha() and head[4:6].isupper()
    return explicit or struct.unpack_from("<I", head, 4)[0] < 256
