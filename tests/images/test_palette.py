"""DICOM of the color model PALETTE COLOR: the palette is followed, or the file is named."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from pydicom.data import get_testdata_file

from medsgssl.errors import ImageError
from medsgssl.images.reading import check_file, read_image
from tests.images.dicom_files import write_dicom

GRAY = cv2.GaussianBlur(
    np.random.default_rng(2).integers(0, 256, (48, 40)).astype(np.uint8), (0, 0), 3
)
# A palette in no order: read without it, the picture is noise.
ORDER = np.random.default_rng(3).permutation(256).astype(np.uint8)
STORED = np.argsort(ORDER).astype(np.uint8)[GRAY]


def palette_tags(
    red: NDArray[np.generic], green: NDArray[np.generic], blue: NDArray[np.generic],
    *, first: int = 0, bits: int = 8, segmented: bool = False,
) -> dict[str, object]:  # fmt: skip
    tags: dict[str, object] = {"PhotometricInterpretation": "PALETTE COLOR"}
    for name, entries in zip(("Red", "Green", "Blue"), (red, green, blue), strict=True):
        start = f"{name}PaletteColorLookupTable"
        tags[f"{start}Descriptor"] = [256, first, bits]
        tags[f"{'Segmented' if segmented else ''}{start}Data"] = entries.tobytes()
    return tags


def test_a_gray_palette_gives_the_picture(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a.dcm", STORED, **palette_tags(ORDER, ORDER, ORDER))
    np.testing.assert_array_equal(read_image(path), GRAY)
    for whole in (False, True):
        assert check_file(path, whole=whole).kind == "dicom"


def test_entries_of_8_bits_may_lie_in_16(tmp_path: Path) -> None:
    wide = ORDER.astype("<u2")
    path = write_dicom(tmp_path / "a.dcm", STORED, **palette_tags(wide, wide, wide))
    np.testing.assert_array_equal(read_image(path), GRAY)


def test_entries_of_16_bits_follow_the_contract_of_deep_images(tmp_path: Path) -> None:
    wide = ORDER.astype("<u2") * 257
    path = write_dicom(tmp_path / "a.dcm", STORED, **palette_tags(wide, wide, wide, bits=16))
    low, high = np.percentile(GRAY, [0.1, 99.9])
    right = np.clip((GRAY - low) / (high - low), 0, 1) * 255
    assert np.abs(read_image(path) - right).max() < 1


def test_colors_become_gray_by_their_luma(tmp_path: Path) -> None:
    none = np.zeros(256, np.uint8)
    path = write_dicom(tmp_path / "a.dcm", STORED, **palette_tags(none, ORDER, none))
    assert np.abs(read_image(path) - GRAY * 0.587).max() <= 1


def test_values_outside_the_palette_get_its_ends(tmp_path: Path) -> None:
    entries = np.arange(256, dtype=np.uint8)
    deep = GRAY.astype(np.uint16) + 100
    path = write_dicom(tmp_path / "a.dcm", deep, **palette_tags(*[entries] * 3, first=150))
    np.testing.assert_array_equal(read_image(path), np.clip(deep.astype(int) - 150, 0, 255))


def test_a_segmented_palette_is_followed(tmp_path: Path) -> None:
    # One entry of 0, then a line of 255 entries up to 255.
    ramp = np.array([0, 1, 0, 1, 255, 255], np.uint8)
    tags = palette_tags(ramp, ramp, ramp, segmented=True)
    path = write_dicom(tmp_path / "a.dcm", GRAY, **tags)
    np.testing.assert_array_equal(read_image(path), GRAY)


@pytest.mark.parametrize("damage", ["absent", "short", "one color"])
def test_a_palette_that_cannot_be_used_names_the_file(tmp_path: Path, damage: str) -> None:
    flat = np.full(256, 9, np.uint8)
    tags = palette_tags(*[flat if damage == "one color" else ORDER] * 3)
    if damage == "absent":
        tags = {"PhotometricInterpretation": "PALETTE COLOR"}
    elif damage == "short":
        tags["GreenPaletteColorLookupTableData"] = ORDER[:100].tobytes()
    path = write_dicom(tmp_path / "a.dcm", STORED, **tags)
    with pytest.raises(ImageError, match=r"a\.dcm has .* PALETTE COLOR, and its palette") as caught:
        read_image(path)
    assert "gray PNG" in caught.value.fix


def test_a_real_palette_is_read() -> None:
    name = get_testdata_file("examples_palette.dcm", download=False)
    if name is None:
        pytest.skip("pydicom 3.0.0 comes without this file")
    path = Path(str(name))
    image = read_image(path)
    stored = pydicom.dcmread(path)
    colors = pydicom.pixels.apply_color_lut(stored.pixel_array, stored)
    assert image.shape == stored.pixel_array.shape
    assert image.std() > 10
    assert np.corrcoef(image.ravel(), colors.mean(2).ravel())[0, 1] > 0.95
