"""Images and masks of any shape share one square, without aliasing."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medsgssl.data.letterbox import Letterbox


@pytest.mark.parametrize(
    ("shape", "wanted"),
    [
        ((64, 64), Letterbox(32, 32, 0, 0, 32)),
        ((128, 64), Letterbox(32, 16, 0, 8, 32)),
        ((50, 100), Letterbox(16, 32, 8, 0, 32)),
        ((16, 8), Letterbox(32, 16, 0, 8, 32)),
        ((1, 4000), Letterbox(1, 32, 15, 0, 32)),
    ],
)
def test_the_longer_side_fills_the_square_and_the_picture_is_centered(
    shape: tuple[int, int], wanted: Letterbox
) -> None:
    assert Letterbox.of(shape, 32) == wanted


@settings(max_examples=200, deadline=None)
@given(height=st.integers(1, 3000), width=st.integers(1, 3000), size=st.integers(32, 300))
def test_every_shape_fits_with_its_aspect(height: int, width: int, size: int) -> None:
    fit = Letterbox.of((height, width), size)
    assert max(fit.height, fit.width) == size
    assert 0 <= fit.top <= size - fit.height
    assert 0 <= fit.left <= size - fit.width
    assert abs(fit.height * width - fit.width * height) <= max(height, width) + size


def test_around_the_picture_the_square_is_black_and_no_lung() -> None:
    fit = Letterbox.of((100, 50), 32)
    image = fit.image(np.full((100, 50), 200, np.uint8))
    mask = fit.mask(np.ones((100, 50), bool))
    assert (image[:, 8:24] == 200).all()
    assert image[:, :8].max() == image[:, 24:].max() == 0
    np.testing.assert_array_equal(mask, image > 0)


def test_shrinking_takes_the_mean_over_each_area() -> None:
    image = np.random.default_rng(0).integers(0, 256, (96, 64), dtype=np.uint8)
    small = Letterbox.of(image.shape, 24).image(image)
    means = image.reshape(24, 4, 16, 4).mean(axis=(1, 3))
    np.testing.assert_allclose(small[:, 4:20], means, atol=0.51)


@pytest.mark.parametrize("side", [1024, 2000, 2048])
def test_halving_first_stays_near_the_mean_over_each_area(side: int) -> None:
    rng = np.random.default_rng(0)
    field = cv2.GaussianBlur(rng.normal(size=(side, side)), (0, 0), side / 400)
    image = np.clip(128 + 40 * field / field.std(), 0, 255).astype(np.uint8)
    fit = Letterbox.of(image.shape, 224)
    exact = cv2.resize(image, (224, 224), interpolation=cv2.INTER_AREA).astype(float)
    apart = np.abs(fit.image(image) - exact)
    assert 0 < apart.max() <= 16
    assert apart.mean() < 2


def test_sides_that_are_odd_or_whole_multiples_shrink_in_one_step() -> None:
    for shape in ((1024, 1024), (1023, 1001)):
        image = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
        fit = Letterbox.of(shape, 64)
        exact = cv2.resize(image, (fit.width, fit.height), interpolation=cv2.INTER_AREA)
        inside = fit.image(image)[fit.top :][: fit.height, fit.left : fit.left + fit.width]
        np.testing.assert_array_equal(inside, exact)


def test_an_image_of_the_right_size_comes_back_unchanged() -> None:
    image = np.random.default_rng(0).integers(0, 256, (40, 40), dtype=np.uint8)
    np.testing.assert_array_equal(Letterbox.of((40, 40), 40).image(image), image)


def test_a_pixel_is_lung_where_half_of_its_area_is() -> None:
    mask = np.zeros((64, 64), bool)
    mask[0:4, 0:2] = True  # Half of the first cell of 4 x 4.
    mask[4:8, 0:1] = True  # A quarter of the next.
    mask[8:12, 0:4] = True
    small = Letterbox.of((64, 64), 16).mask(mask)
    assert small[:3, 0].tolist() == [True, False, True]
    assert small.sum() == 2


@pytest.mark.parametrize("values", [(0, 1), (0, 255)])
def test_masks_that_are_not_bool_are_refused(values: tuple[int, int]) -> None:
    mask = np.array(values, np.uint8)[np.eye(8, dtype=int)]
    with pytest.raises(TypeError, match="masks are bool, not uint8"):
        Letterbox.of((8, 8), 8).mask(mask)


def test_image_and_mask_lie_in_one_place() -> None:
    mask = np.zeros((300, 170), bool)
    mask[60:240, 30:90] = True
    fit = Letterbox.of(mask.shape, 48)
    image = fit.image(mask.astype(np.uint8) * 255)
    np.testing.assert_array_equal(image >= 128, fit.mask(mask))
