"""TIFF files whose tags decoders do not follow: white as 0, pages, rare depths and compressions."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from medsgssl.errors import ImageError
from medsgssl.images.integrity import check_image
from medsgssl.images.intensity import to_gray8
from medsgssl.images.reading import ImageWarning, check_file, read_image

PIXELS = cv2.GaussianBlur(
    np.random.default_rng(1).integers(0, 256, (64, 48)).astype(np.uint8), (0, 0), 3
)
DEEP = PIXELS.astype(np.uint16) * 100


def write_tiff(
    path: Path, pages: list[NDArray[Any]], tags: dict[int, int], *, order: str = "<",
    big: bool = False, subfiles: tuple[int, ...] = (),
) -> Path:  # fmt: skip
    """Write gray pages as plain strips with tags of one whole number each."""
    size, count, entry = ("Q", "Q", "HHQ") if big else ("I", "H", "HHI")
    start = struct.pack(f"{order}HHH", 43, 8, 0) if big else struct.pack(f"{order}H", 42)
    content = (b"II" if order == "<" else b"MM") + start + struct.pack(order + size, 0)
    link = len(content) - struct.calcsize(f"={size}")
    for number, pixels in enumerate(pages):
        height, width = pixels.shape
        strip = len(content)
        content += pixels.astype(pixels.dtype.newbyteorder(order)).tobytes()
        page = {
            254: subfiles[number] if subfiles else 0, 256: width, 257: height,
            258: 8 * pixels.dtype.itemsize, 259: 1, 262: 1, 273: strip, 277: 1, 278: height,
            279: pixels.nbytes, 339: {"u": 1, "i": 2, "f": 3}[pixels.dtype.kind], **tags,
        }  # fmt: skip
        where = struct.pack(order + size, len(content))
        content = content[:link] + where + content[link + len(where) :]
        content += struct.pack(order + count, len(page))
        for tag, value in sorted(page.items()):
            code = 4 if tag in (256, 257, 273, 278, 279) else 3
            packed = struct.pack(order + ("I" if code == 4 else "H"), value)
            content += struct.pack(order + entry, tag, code, 1)
            content += packed.ljust(struct.calcsize(f"={size}"), b"\0")
        link = len(content)
        content += struct.pack(order + size, 0)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", ["uint8", "uint16", "int16", "uint32", "float32", "float64"])
def test_white_stored_as_zero_is_read_as_white(
    tmp_path: Path, kind: str, order: str, big: bool
) -> None:
    values: NDArray[Any] = (PIXELS if kind == "uint8" else DEEP).astype(kind)
    stored = values.max() - values if kind.startswith(("float", "int")) else np.invert(values)
    for name, pixels, photometric in (("plain", values, 1), ("white", stored, 0)):
        path = write_tiff(
            tmp_path / f"{name}.tif", [pixels], {262: photometric}, order=order, big=big
        )
        assert check_image(path).width == values.shape[1]
        np.testing.assert_array_equal(read_image(path), to_gray8(values))


def test_a_file_of_several_pages_is_refused_and_of_one_with_a_preview_read(tmp_path: Path) -> None:
    small = DEEP[::4, ::4].copy()
    several = write_tiff(tmp_path / "several.tif", [DEEP, DEEP.max() - DEEP], {})
    thumbnail_first = write_tiff(tmp_path / "thumbnail.tif", [small, DEEP], {})
    for path in (several, thumbnail_first):
        for read in (read_image, check_image, lambda path: check_file(path, whole=True)):
            with pytest.raises(ImageError, match=r"\.tif holds 2 pages") as caught:
                read(path)
            assert "file of its own" in caught.value.fix
    pyramid = write_tiff(tmp_path / "pyramid.tif", [DEEP, small], {}, subfiles=(0, 1))
    np.testing.assert_array_equal(read_image(pyramid), to_gray8(DEEP))


def test_pages_that_lead_back_to_the_first_are_counted_once(tmp_path: Path) -> None:
    path = write_tiff(tmp_path / "loop.tif", [DEEP], {})
    content = path.read_bytes()
    path.write_bytes(content[:-4] + content[4:8])
    np.testing.assert_array_equal(read_image(path), to_gray8(DEEP))


@pytest.mark.parametrize("compression", ["zstd", "lzma"])
def test_a_rare_compression_is_named_and_writes_nothing_to_the_terminal(
    tmp_path: Path, compression: str, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.tif"
    try:
        Image.fromarray(PIXELS).save(path, compression=compression)
    except OSError:
        pytest.skip(f"this Pillow writes no {compression}")
    for read in (read_image, lambda path: check_file(path, whole=True)):
        with pytest.raises(ImageError, match=r"a\.tif .*its compression is (LZMA|Zstandard)"):
            read(path)
    assert capfd.readouterr().err == ""


def _packed(path: Path, pixels: NDArray[Any], bits: int, tags: dict[int, int]) -> Path:
    """Write pixels of any number of bits, each row filled up to whole bytes."""
    rows = ["".join(f"{value:0{bits}b}" for value in row) for row in pixels]
    filled = [row + "0" * (-len(row) % 8) for row in rows]
    content = [[int(row[at : at + 8], 2) for at in range(0, len(row), 8)] for row in filled]
    tags = {256: pixels.shape[1], 258: bits, **tags}
    return write_tiff(path, [np.array(content, np.uint8)], tags)


@pytest.mark.parametrize("bits", [1, 2, 4, 10, 12, 14])
@pytest.mark.parametrize("white_is_zero", [False, True])
def test_gray_of_few_bits_is_read(tmp_path: Path, bits: int, white_is_zero: bool) -> None:
    most = (1 << bits) - 1
    values = PIXELS[:, :45].astype(int) * most // 255  # rows end within a byte
    stored = most - values if white_is_zero else values
    path = _packed(tmp_path / "a.tif", stored, bits, {262: int(not white_is_zero)})
    right = to_gray8(values.astype(np.uint16)) if bits > 8 else values * (255 // most)
    np.testing.assert_array_equal(read_image(path), right)
    assert check_file(path, whole=True).kind == "tiff"


def test_a_rotation_tag_of_few_bits_is_not_followed_either(tmp_path: Path) -> None:
    values = PIXELS.astype(int) * 15 // 255
    path = _packed(tmp_path / "a.tif", values, 4, {274: 6})
    with pytest.warns(ImageWarning, match="orientation 6"):
        np.testing.assert_array_equal(read_image(path), values * 17)


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_a_palette_is_followed(tmp_path: Path, bits: int) -> None:
    grays = np.linspace(0, 255, 1 << bits).astype(np.uint8)[::-1]
    stored = PIXELS.astype(int) * ((1 << bits) - 1) // 255
    path = _packed(tmp_path / "a.tif", stored, bits, {262: 3, 320: 0})
    content, entry = path.read_bytes(), struct.pack("<HHII", 320, 3, 1, 0)
    assert content.count(entry) == 1
    # The palette lies behind the rest: all reds, all greens, all blues, of 16 bits each.
    entry_with_palette = struct.pack("<HHII", 320, 3, 3 * len(grays), len(content))
    palette = np.tile(grays.astype("<u2") * 257, 3).tobytes()
    path.write_bytes(content.replace(entry, entry_with_palette) + palette)
    np.testing.assert_array_equal(read_image(path), grays[stored])


@pytest.mark.parametrize(
    ("bits", "kind", "words"),
    [(6, 1, "it has 6 bits per pixel"), (24, 1, "24 bits"), (16, 3, "16 bits .*, floating point")],
)
def test_a_rare_depth_is_named(tmp_path: Path, bits: int, kind: int, words: str) -> None:
    path = _packed(tmp_path / "a.tif", PIXELS.astype(int) % (1 << bits), bits, {339: kind})
    with pytest.raises(ImageError, match=rf"a\.tif cannot be decoded: .*{words}") as caught:
        read_image(path)
    assert caught.value.fix == "save it with 8 or 16 bits"


@pytest.mark.parametrize("damage", ["tags", "link", "no size"])
def test_damaged_tags_are_named(tmp_path: Path, damage: str) -> None:
    path = write_tiff(tmp_path / "a.tif", [DEEP], {256: 0} if damage == "no size" else {})
    content = path.read_bytes()
    if damage == "tags":
        path.write_bytes(content[:4] + struct.pack("<I", len(content) + 5) + content[8:])
    elif damage == "link":
        path.write_bytes(content[:-2])
    with pytest.raises(ImageError, match=r"a\.tif is a truncated or damaged TIFF"):
        check_image(path)
