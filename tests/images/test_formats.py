"""Formats beside gray PNG: what decides the kind, limits before decoding, ends, rotation tags."""

from __future__ import annotations

import struct
import tracemalloc
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from medsgssl.errors import ImageError
from medsgssl.images.integrity import check_image, image_kind, kind_of_file
from medsgssl.images.intensity import to_gray8
from medsgssl.images.reading import ImageWarning, check_file, read_image
from tests.images.dicom_files import write_dicom

PIXELS = np.random.default_rng(1).integers(0, 256, (64, 48)).astype(np.uint8)
SMOOTH = cv2.GaussianBlur(PIXELS, (0, 0), 5)


def _png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _huge_png(path: Path, side: int) -> Path:
    """A PNG whose header claims side x side pixels, and whose data is a few bytes."""
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    data = zlib.compress(bytes(1000))
    chunks = [(b"IHDR", header), (b"IDAT", data), (b"IEND", b"")]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(_png_chunk(*chunk) for chunk in chunks))
    return path


@pytest.mark.parametrize(("suffix", "kind"), [("tif", "tiff"), ("bmp", "bmp"), ("webp", "webp")])
def test_the_content_decides_what_a_file_is(tmp_path: Path, suffix: str, kind: str) -> None:
    written = tmp_path / f"a.{suffix}"
    lossless = [cv2.IMWRITE_WEBP_QUALITY, 101] if suffix == "webp" else []
    assert cv2.imwrite(str(written), PIXELS, lossless)
    path = written.rename(tmp_path / "no suffix at all")
    assert kind_of_file(path) == check_image(path).kind == kind
    np.testing.assert_array_equal(read_image(path), PIXELS)


def test_16_bit_tiff_follows_the_contract_of_arrays(tmp_path: Path) -> None:
    deep = PIXELS.astype(np.uint16) * 200
    assert cv2.imwrite(str(tmp_path / "a.tif"), deep)
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), to_gray8(deep))


def test_dicom_without_suffix_or_preamble_is_known_by_its_content(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a.dcm", PIXELS).rename(tmp_path / "IM0001")
    assert kind_of_file(path) == "dicom"
    bare = tmp_path / "IM0002"
    bare.write_bytes(path.read_bytes()[132:])
    assert kind_of_file(bare) == "dicom"
    for file in (path, bare):
        np.testing.assert_array_equal(read_image(file), PIXELS)


def test_an_odd_color_profile_changes_nothing_and_writes_nothing_to_the_terminal(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), PIXELS)
    content = (tmp_path / "a.png").read_bytes()
    profile = _png_chunk(b"iCCP", b"ICC\0\0" + zlib.compress(b"no profile" * 9))
    (tmp_path / "a.png").write_bytes(content[:33] + profile + content[33:])
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), PIXELS)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("text", [b"name,label\na.png,0\n", b"BM is no image", b"\x08\x00", b""])
def test_what_is_no_image_is_not_taken_for_one(text: bytes) -> None:
    assert image_kind(text) is None


@pytest.mark.parametrize("suffix", ["tif", "bmp", "webp"])
def test_other_formats_cut_short_are_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    assert cv2.imwrite(str(path), PIXELS)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(ImageError, match=r"a\."):
        check_file(path, whole=False)
    with pytest.raises(ImageError, match=r"a\."):
        read_image(path)


@pytest.mark.parametrize("whole", [False, True])
def test_a_huge_image_is_refused_by_its_header_before_memory_is_taken(
    tmp_path: Path, whole: bool
) -> None:
    path = _huge_png(tmp_path / "bomb.png", 50_000)
    tracemalloc.start()
    with pytest.raises(ImageError, match=r"bomb\.png is 50000 x 50000 pixels") as caught:
        check_file(path, whole=whole)
    assert tracemalloc.get_traced_memory()[1] < 10e6
    tracemalloc.stop()
    assert "data.max_pixels=2500000000" in caught.value.fix


def test_the_pixel_limit_holds_for_every_format(tmp_path: Path) -> None:
    paths = [tmp_path / f"a.{suffix}" for suffix in ("png", "jpg", "tif", "bmp", "webp")]
    for path in paths:
        assert cv2.imwrite(str(path), PIXELS)
    for path in [*paths, write_dicom(tmp_path / "a.dcm", PIXELS)]:
        read_image(path, max_pixels=PIXELS.size)
        with pytest.raises(ImageError, match="48 x 64 pixels, more than"):
            read_image(path, max_pixels=PIXELS.size - 1)
        with pytest.raises(ImageError, match="48 x 64 pixels, more than"):
            check_file(path, whole=False, max_pixels=PIXELS.size - 1)


@pytest.mark.parametrize("suffix", ["jpg", "png"])
@pytest.mark.parametrize("extra", [b"\0" * 50, b"\xff\xd8" + b"x" * 5000, b"text" * 3000])
def test_bytes_after_the_end_mark_are_ignored(tmp_path: Path, suffix: str, extra: bytes) -> None:
    path = tmp_path / f"a.{suffix}"
    assert cv2.imwrite(str(path), SMOOTH)
    expected = read_image(path)
    path.write_bytes(path.read_bytes() + extra)
    assert check_file(path, whole=False).kind == check_file(path, whole=True).kind
    np.testing.assert_array_equal(read_image(path), expected)


def test_a_progressive_jpeg_is_followed_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    Image.fromarray(SMOOTH).save(path, progressive=True, quality=90)
    content = path.read_bytes()
    read_image(path)
    path.write_bytes(content[:-2])
    for read in (read_image, check_image):
        with pytest.raises(ImageError, match="end mark is missing"):
            read(path)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
def test_a_rotation_tag_is_not_followed_but_noted(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(SMOOTH).save(path, exif=exif)
    with pytest.warns(ImageWarning, match="EXIF orientation 6"):
        assert read_image(path).shape == SMOOTH.shape
    assert check_file(path, whole=True).notes == (
        "its rotation tag (EXIF orientation 6) is not followed",
    )


def test_whatever_goes_wrong_names_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.png"
    assert cv2.imwrite(str(path), PIXELS)
    for error in (RuntimeError("odd"), MemoryError(), RecursionError()):
        monkeypatch.setattr(
            "medsgssl.images.reading.to_gray8", lambda *_, error=error: (_ for _ in ()).throw(error)
        )
        with pytest.raises(ImageError, match=r"a\.png"):
            read_image(path)
