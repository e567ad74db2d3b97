"""Image and mask move together under any affine, without aliasing."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medsgssl.transforms.affine import Crop, box_crop, warp_image, warp_mask, whole

SIZE = 64

crops = st.builds(
    Crop,
    x=st.floats(10, 54),
    y=st.floats(10, 54),
    width=st.floats(12, 64),
    height=st.floats(12, 64),
    rotation=st.floats(-30, 30),
    flip=st.booleans(),
)


def smooth_shape() -> np.ndarray:
    """A blob with a soft edge, 255 inside, so that a threshold at 128 is its outline."""
    image = np.zeros((SIZE, SIZE), np.uint8)
    cv2.ellipse(image, (28, 34), (16, 22), 20, 0, 360, 255, -1)
    return cv2.GaussianBlur(image, (0, 0), 2)


@settings(max_examples=200, deadline=None)
@given(crop=crops)
def test_image_and_mask_stay_aligned_under_any_affine(crop: Crop) -> None:
    image = smooth_shape()
    mask = (image >= 128).astype(np.uint8)
    affine = crop.affine(SIZE)
    moved, moved_mask = warp_image(image, affine, SIZE), warp_mask(mask, affine, SIZE)
    # Nearest neighbor may differ from bilinear within one source pixel of the outline only.
    inside, outside = (cv2.distanceTransform(m, cv2.DIST_L2, 5) for m in (mask, 1 - mask))
    distance = warp_distance(inside + outside, affine)
    away = distance > 2
    np.testing.assert_array_equal((moved >= 128)[away], moved_mask.astype(bool)[away])


def warp_distance(distance: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """The distance to the outline, in source pixels, at each pixel of the view."""
    v, u = np.indices((SIZE, SIZE))
    x, y = np.tensordot(affine, np.stack([u, v, np.ones_like(u)]), 1)
    inner = (x >= 0) & (x <= SIZE - 1) & (y >= 0) & (y <= SIZE - 1)
    columns, rows = (np.clip(np.rint(c), 0, SIZE - 1).astype(int) for c in (x, y))
    return np.where(inner, distance[rows, columns], 0)


@settings(max_examples=100, deadline=None)
@given(crop=crops, u=st.integers(0, SIZE - 1), v=st.integers(0, SIZE - 1))
def test_the_affine_maps_a_view_pixel_to_where_its_gray_came_from(
    crop: Crop, u: int, v: int
) -> None:
    columns = np.tile(np.arange(SIZE, dtype=np.uint8) * 3 + 30, (SIZE, 1))
    affine = crop.affine(SIZE)
    x, y = affine @ [u, v, 1]
    if not (1 <= x <= SIZE - 2 and 1 <= y <= SIZE - 2):
        return
    assert abs(float(warp_image(columns, affine, SIZE)[v, u]) - (3 * x + 30)) <= 1.5
    assert abs(float(warp_image(columns.T.copy(), affine, SIZE)[v, u]) - (3 * y + 30)) <= 1.5


def test_the_whole_image_comes_back_unchanged() -> None:
    image = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE), dtype=np.uint8)
    np.testing.assert_array_equal(warp_image(image, whole(SIZE).affine(SIZE), SIZE), image)


def test_a_flip_mirrors_left_and_right() -> None:
    image = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE), dtype=np.uint8)
    crop = Crop(31.5, 31.5, 64, 64, flip=True)
    np.testing.assert_array_equal(warp_image(image, crop.affine(SIZE), SIZE), image[:, ::-1])


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("rotation", [0.0, 25.0, -70.0, 90.0])
def test_a_crop_is_the_rotated_rectangle_of_opencv(rotation: float, flip: bool) -> None:
    crop = Crop(30.0, 41.5, 40.0, 24.0, rotation, flip)
    left, right, top, bottom = -0.5, SIZE - 0.5, -0.5, SIZE - 0.5
    if flip:
        left, right = right, left
    corners = [(left, bottom, 1), (left, top, 1), (right, top, 1), (right, bottom, 1)]
    # OpenCV counts degrees clockwise, as seen on the screen.
    wanted = cv2.boxPoints(((crop.x, crop.y), (crop.width, crop.height), -rotation))
    np.testing.assert_allclose(np.array(corners) @ crop.affine(SIZE).T, wanted, atol=1e-4)


def test_a_box_crop_includes_both_of_its_bounds() -> None:
    image = np.zeros((SIZE, SIZE), np.uint8)
    image[10:26, 20:36] = 200
    view = warp_image(image, box_crop(20, 10, 35, 25).affine(16), 16)
    assert (view == 200).all()


def test_a_checkerboard_shrinks_to_gray_and_not_to_a_moire() -> None:
    board = (np.indices((256, 256)).sum(0) % 2 * 255).astype(np.uint8)
    small = warp_image(board, whole(256).affine(64), 64)
    assert np.abs(small[4:-4, 4:-4].astype(int) - 127).max() <= 16


def test_outside_the_image_is_black_and_no_lung() -> None:
    image, mask = np.full((SIZE, SIZE), 255, np.uint8), np.ones((SIZE, SIZE), np.uint8)
    affine = Crop(0, 0, 64, 64).affine(SIZE)
    assert (warp_image(image, affine, SIZE)[:30, :30] == 0).all()
    assert (warp_mask(mask, affine, SIZE)[:30, :30] == 0).all()
