"""Reading image files: good ones exactly, bad ones never silently."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray

from medsgssl.errors import ImageError
from medsgssl.images.integrity import check_image
from medsgssl.images.intensity import to_gray8
from medsgssl.images.reading import ImageWarning, check_file, read_image
from tests.images.dicom_files import write_dicom

PIXELS = np.random.default_rng(0).integers(0, 256, (96, 80)).astype(np.uint8)


def _saved(path: Path, pixels: NDArray[np.generic] = PIXELS) -> Path:
    assert cv2.imwrite(str(path), pixels)
    return path


def test_gray_png_comes_back_bit_for_bit(tmp_path: Path) -> None:
    np.testing.assert_array_equal(read_image(_saved(tmp_path / "ä 1.png")), PIXELS)


def test_gray_saved_as_rgba_comes_back_bit_for_bit(tmp_path: Path) -> None:
    rgba = cv2.cvtColor(PIXELS, cv2.COLOR_GRAY2BGRA)
    np.testing.assert_array_equal(read_image(_saved(tmp_path / "a.png", rgba)), PIXELS)


def test_red_is_not_taken_for_blue(tmp_path: Path) -> None:
    red = np.zeros((32, 32, 3), np.uint8)
    red[..., 2] = 255  # OpenCV writes blue first
    assert read_image(_saved(tmp_path / "a.png", red))[0, 0] == 76


def test_16_bit_png_follows_the_contract_of_arrays(tmp_path: Path) -> None:
    deep = PIXELS.astype(np.uint16) * 16
    np.testing.assert_array_equal(read_image(_saved(tmp_path / "a.png", deep)), to_gray8(deep))


def test_jpeg_is_read(tmp_path: Path) -> None:
    smooth = cv2.GaussianBlur(PIXELS, (0, 0), 4)
    image = read_image(_saved(tmp_path / "a.jpg", smooth))
    assert np.abs(image.astype(int) - smooth).max() < 12


@pytest.mark.parametrize("suffix", ["png", "jpg"])
@pytest.mark.parametrize("kept", [0.5, 0.9, 0.999])
def test_truncated_file_is_an_error_and_not_a_half_gray_image(
    tmp_path: Path, suffix: str, kept: float
) -> None:
    path = _saved(tmp_path / f"a.{suffix}")
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    for read in (read_image, check_image):
        with pytest.raises(ImageError, match="truncated") as caught:
            read(path)
        assert str(path) in caught.value.problem


def test_damaged_png_chunk_is_an_error(tmp_path: Path) -> None:
    path = _saved(tmp_path / "a.png")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(ImageError, match="wrong checksum"):
        read_image(path)


def test_png_whose_middle_is_gone_is_an_error(tmp_path: Path) -> None:
    path = _saved(tmp_path / "a.png")
    content = path.read_bytes()
    path.write_bytes(content[:1000] + content[-12:])
    with pytest.raises(ImageError, match="damaged PNG"):
        read_image(path)


def test_padding_after_the_end_mark_is_tolerated(tmp_path: Path) -> None:
    path = _saved(tmp_path / "a.png")
    path.write_bytes(path.read_bytes() + bytes(100))
    check_image(path)
    np.testing.assert_array_equal(read_image(path), PIXELS)


@pytest.mark.parametrize(
    ("content", "says"),
    [(None, "does not exist"), (b"", "is empty"), (b"<html>404</html>", "not a PNG, JPEG")],
)
def test_what_is_no_image_file_is_named(tmp_path: Path, content: bytes | None, says: str) -> None:
    path = tmp_path / "a.png"
    if content is not None:
        path.write_bytes(content)
    for read in (read_image, check_image):
        with pytest.raises(ImageError, match=says) as caught:
            read(path)
        assert str(path) in caught.value.problem


def test_folder_in_the_place_of_an_image_is_named(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="cannot be read"):
        read_image(tmp_path)


def test_tiny_image_is_refused_without_decoding(tmp_path: Path) -> None:
    path = _saved(tmp_path / "a.png", PIXELS[:8, :8])
    with pytest.raises(ImageError, match="8 x 8"):
        check_image(path)


def test_8_bit_dicom_passes_unchanged_and_monochrome1_is_inverted(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a.dcm", PIXELS)
    assert check_image(path).kind == "dicom"
    np.testing.assert_array_equal(read_image(path), PIXELS)
    inverse = write_dicom(tmp_path / "b.dcm", PIXELS, PhotometricInterpretation="MONOCHROME1")
    np.testing.assert_array_equal(read_image(inverse), 255 - PIXELS)


def test_deep_dicom_does_not_depend_on_polarity_or_rescale(tmp_path: Path) -> None:
    deep = PIXELS.astype(np.uint16) * 16
    plain = read_image(write_dicom(tmp_path / "a.dcm", deep))
    np.testing.assert_array_equal(plain, to_gray8(deep))
    inverse = write_dicom(
        tmp_path / "b.dcm", np.uint16(4080) - deep, PhotometricInterpretation="MONOCHROME1"
    )
    np.testing.assert_array_equal(read_image(inverse), plain)
    rescaled = write_dicom(tmp_path / "c.dcm", deep, RescaleSlope=2, RescaleIntercept=-1000)
    np.testing.assert_array_equal(read_image(rescaled), plain)


def test_dicom_window_is_used_unless_it_blinds_the_image(tmp_path: Path) -> None:
    deep = PIXELS.astype(np.uint16) * 16
    sane = read_image(write_dicom(tmp_path / "a.dcm", deep, WindowCenter=2000, WindowWidth=3000))
    assert np.mean(sane == 0) > 0.05  # what lies below the window is black
    path = write_dicom(tmp_path / "b.dcm", deep, WindowCenter=40, WindowWidth=2)
    with pytest.warns(ImageWarning, match=r"b\.dcm: its window is not used: it would clip"):
        blind = read_image(path)
    np.testing.assert_array_equal(blind, to_gray8(deep))


def test_dicom_padding_is_black_whatever_the_polarity(tmp_path: Path) -> None:
    deep = PIXELS.astype(np.uint16) * 16 + 1
    deep[:10] = 0
    for photometric in ("MONOCHROME1", "MONOCHROME2"):
        path = write_dicom(
            tmp_path / "a.dcm", deep, PhotometricInterpretation=photometric, PixelPaddingValue=0
        )
        assert (read_image(path)[:10] == 0).all()


def test_broken_or_unusual_dicom_is_named(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a.dcm", PIXELS)
    path.write_bytes(path.read_bytes()[:-3000])
    with pytest.raises(ImageError, match=r"a\.dcm cannot be decoded"):
        read_image(path)
    color = write_dicom(tmp_path / "b.dcm", PIXELS, PhotometricInterpretation="HSV")
    with pytest.raises(ImageError, match=r"b\.dcm has the color model HSV"):
        read_image(color)
    frames = np.concatenate([PIXELS, PIXELS])
    several = write_dicom(tmp_path / "c.dcm", frames, Rows=96, NumberOfFrames=2)
    with pytest.raises(ImageError, match="several frames"):
        read_image(several)
    uncounted = write_dicom(tmp_path / "d.dcm", frames, Rows=len(PIXELS))
    with pytest.raises(ImageError, match=r"d\.dcm holds the pixels of 2 images of 80 x 96"):
        check_file(uncounted, whole=False)
    padded = write_dicom(tmp_path / "e.dcm", PIXELS, PixelData=PIXELS.tobytes() + bytes(40))
    np.testing.assert_array_equal(read_image(padded), PIXELS)


def test_compressed_dicom_that_breaks_off_is_called_truncated(tmp_path: Path) -> None:
    path = Path(pydicom.__file__).parent / "data" / "test_files" / "MR_small_RLE.dcm"
    cut = tmp_path / "a.dcm"
    cut.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ImageError, match=r"a\.dcm is truncated or damaged: the pixels of its"):
        read_image(cut)


@pytest.mark.real
def test_real_files_of_every_kind_are_read(real_data: Path) -> None:
    for path in [*(real_data / "dicom").glob("*.dcm"), *(real_data / "nih1024").rglob("*.png")]:
        image = read_image(path)
        check_image(path)
        assert image.shape == (1024, 1024)
        assert image.std() > 20


@pytest.mark.real
def test_real_monochrome1_is_inverted(real_data: Path) -> None:
    image = read_image(real_data / "dicom" / "monochrome1.dcm")
    raw = pydicom.dcmread(real_data / "dicom" / "monochrome1.dcm").pixel_array
    np.testing.assert_array_equal(image, 255 - raw)
