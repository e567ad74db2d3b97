"""The intensity contract on arrays."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from medsgssl.errors import ImageError
from medsgssl.images.intensity import to_gray8

RAMP = np.add.outer(np.arange(40), np.arange(60)).astype(np.uint8)


def test_8_bit_gray_passes_unchanged() -> None:
    np.testing.assert_array_equal(to_gray8(RAMP), RAMP)
    np.testing.assert_array_equal(to_gray8(RAMP[..., None]), RAMP)


@pytest.mark.parametrize("channels", [3, 4])
def test_gray_stored_as_color_comes_back_exactly(channels: int) -> None:
    every_level = np.tile(np.arange(256, dtype=np.uint8), (16, 1))
    color = np.repeat(every_level[..., None], channels, axis=2)
    if channels == 4:
        color[..., 3] = 255
    np.testing.assert_array_equal(to_gray8(color), every_level)


def test_channel_order_is_rgb() -> None:
    red = np.zeros((16, 16, 3), np.uint8)
    red[..., 0] = 255
    assert to_gray8(red)[0, 0] == 76  # 0.299 * 255


@pytest.mark.parametrize("dtype", [np.uint16, np.int16, np.int32, np.float32, np.float64])
def test_deep_images_are_stretched_between_their_percentiles(dtype: type) -> None:
    deep = (np.arange(100 * 100).reshape(100, 100) + 1000).astype(dtype)
    deep[0, 0] = 30000  # an outlier may not set the scale
    gray = to_gray8(deep)
    assert gray.dtype == np.uint8
    assert gray.min() == 0
    assert gray.max() == 255
    middle = to_gray8(deep)[50, 0]
    assert abs(int(middle) - 127) <= 1
    assert (np.diff(gray.ravel()[1:].astype(int)) >= 0).all()


def test_the_scale_of_a_deep_image_does_not_matter() -> None:
    deep = np.random.default_rng(0).integers(0, 4096, (64, 64)).astype(np.uint16)
    np.testing.assert_array_equal(to_gray8(deep), to_gray8(deep * 8))


def test_16_bit_color_is_accepted() -> None:
    deep = np.repeat((RAMP.astype(np.uint16) * 200)[..., None], 3, axis=2)
    np.testing.assert_array_equal(to_gray8(deep), to_gray8(deep[..., 0]))


@pytest.mark.parametrize(
    ("array", "says"),
    [
        (np.zeros((15, 400), np.uint8), "400 x 15"),
        (np.zeros((0, 0), np.uint8), "0 x 0"),
        (np.zeros((32, 32), bool), "bool"),
        (np.zeros((32, 32, 2), np.uint8), "shape"),
        (np.zeros(32, np.uint8), "shape"),
        (np.full((32, 32), 7, np.uint16), "value 7 in every pixel"),
        (np.full((32, 32), np.nan), "not finite"),
    ],
)
def test_what_is_no_image_is_refused_with_its_name(array: NDArray[np.uint8], says: str) -> None:
    with pytest.raises(ImageError, match=says) as caught:
        to_gray8(array, "ward/7.png")
    assert "ward/7.png" in caught.value.problem
    assert caught.value.fix
