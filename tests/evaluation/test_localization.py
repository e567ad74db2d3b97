from __future__ import annotations

import math
from collections.abc import Callable

import cv2
import numpy as np
import pytest

from medsgssl.evaluation.localization import box_mask, center_prior, energy_inside, score_box
from medsgssl.inference.maps import to_image
from medsgssl.transforms.affine import box_crop, whole


def test_box_covers_the_pixels_whose_center_it_holds() -> None:
    mask = box_mask((256.0, 512.0, 256.0, 128.0), 8)
    assert np.flatnonzero(mask.any(axis=0)).tolist() == [2, 3]
    assert np.flatnonzero(mask.any(axis=1)).tolist() == [4]
    assert box_mask((1020.0, 1020.0, 4.0, 4.0), 8).sum() == 1
    assert box_mask((0.0, 0.0, 1024.0, 1024.0), 8).all()


def test_scores_of_a_map_that_is_the_box() -> None:
    box = box_mask((256.0, 256.0, 512.0, 256.0), 16)
    scores = score_box(box.astype(np.float32), box)
    assert scores.pointing == 1
    assert scores.iou == (1.0, 1.0, 1.0)
    assert scores.energy == 1.0
    assert scores.area == 0.125


def test_scores_by_hand() -> None:
    found = np.zeros((4, 4), np.float32)
    found[0, 0], found[1, 1], found[3, 3] = 1.0, 0.6, 0.4
    box = np.zeros((4, 4), bool)
    box[1:3, 1:3] = True
    scores = score_box(found, box)
    assert not scores.pointing
    assert scores.iou == pytest.approx((1 / 6, 1 / 5, 0.0))
    assert scores.energy == pytest.approx(0.3)
    assert score_box(found * 4, box) == score_box(found, box)
    assert energy_inside(found * 1e-3, box) == pytest.approx(0.3)
    # A value of exactly the share of the highest at which the map is cut belongs to it.
    found[1, 1] = 0.5
    assert score_box(found, box).iou == pytest.approx((1 / 6, 1 / 5, 0.0))


def test_the_energy_of_everything_is_one_to_the_last_digits() -> None:
    found = np.random.default_rng(0).random((300, 300)).astype(np.float32)
    whole_map = np.ones((300, 300), bool)
    assert energy_inside(found, whole_map) == pytest.approx(1, abs=1e-13)
    half = np.arange(300) < 150
    parts = [energy_inside(found, np.outer(side, np.ones(300, bool))) for side in (half, ~half)]
    assert sum(parts) == pytest.approx(1, abs=1e-13)


def test_of_tied_values_the_centroid_decides() -> None:
    plateau = np.zeros((8, 8), np.float32)
    plateau[2:5, 0:5] = 1
    box = np.zeros((8, 8), bool)
    box[3, 2] = True
    assert score_box(plateau, box).pointing == 1
    plateau[2:6, 0:5] = 1  # the centroid lies between rows 3 and 4
    assert score_box(plateau, box).pointing == 0.5


@pytest.mark.parametrize("turned", [np.fliplr, np.flipud, np.transpose])
def test_pointing_follows_flips(turned: Callable[[np.ndarray], np.ndarray]) -> None:
    """Small maps enlarged to the image, whose highest values are plateaus."""
    rng = np.random.default_rng(0)
    box = box_mask((300.0, 500.0, 300.0, 400.0), 32)
    points = []
    for _ in range(200):
        found = cv2.resize(rng.random((2, 2)).astype(np.float32), (32, 32))
        points.append(score_box(found, box).pointing)
        assert score_box(turned(found), turned(box)).pointing == points[-1]
    other = np.zeros((32, 32), bool)
    other[:, :1] = True  # the column where the first of tied pixels would lie
    edge = [
        score_box(cv2.resize(rng.random((2, 2)).astype(np.float32), (32, 32)), other).pointing
        for _ in range(200)
    ]
    assert np.mean(edge) < 0.1


def test_the_middle_looks_at_the_middle() -> None:
    middle = center_prior(32)
    inner = box_mask((384.0, 384.0, 256.0, 256.0), 32)
    corner = box_mask((0.0, 0.0, 256.0, 256.0), 32)
    assert score_box(middle, inner).pointing == 1
    assert score_box(middle, corner).pointing == 0
    assert score_box(middle, inner).energy > 2 * inner.mean()
    np.testing.assert_array_equal(middle, middle[::-1, ::-1])
    # A quarter of the side from the middle, one standard deviation, to either side and down.
    middle = center_prior(33)
    assert middle[16, 16] == 1
    for place in ((16, 16 + 33 // 4), (16 - 33 // 4, 16)):
        assert middle[place] == pytest.approx(np.exp(-((8 / 8.25) ** 2) / 2), rel=1e-5)
    assert middle[8, 24] == pytest.approx(middle[8, 16] ** 2, rel=1e-5)


def test_a_map_of_zeros_finds_nothing() -> None:
    found = np.zeros((4, 4), np.float32)
    scores = score_box(found, np.arange(16).reshape(4, 4) < 8)
    assert not scores.pointing
    assert scores.area == 0.5
    assert scores.iou == (0.0, 0.0, 0.0)
    assert math.isnan(scores.energy)
    assert math.isnan(energy_inside(found, np.ones((4, 4), bool)))


def test_a_map_of_the_whole_view_stays_where_it_is() -> None:
    found = np.zeros((4, 4), np.float32)
    found[1, 2] = 1
    back = to_image(found, whole(16).affine(16).astype(np.float32), 16, 16)
    row, column = np.unravel_index(int(back.argmax()), back.shape)
    assert row in (5, 6)
    assert column in (9, 10)


def test_a_map_of_a_crop_lands_in_the_crop_alone() -> None:
    found = np.ones((4, 4), np.float32)
    back = to_image(found, box_crop(8, 4, 15, 11).affine(16).astype(np.float32), 16, 32)
    assert back[5:11, 9:15] == pytest.approx(1.0)
    back[3:13, 7:17] = 0
    assert not back.any()


def test_a_flipped_view_is_flipped_back() -> None:
    from medsgssl.transforms.affine import Crop

    found = np.zeros((4, 4), np.float32)
    found[0, 0] = 1
    affine = Crop(7.5, 7.5, 16, 16, flip=True).affine(16).astype(np.float32)
    back = to_image(found, affine, 16, 16)
    assert np.unravel_index(int(back.argmax()), back.shape)[1] > 10
