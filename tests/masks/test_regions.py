import numpy as np
import pytest

from medsgssl.masks.regions import (
    LEFT_LUNG,
    RIGHT_LUNG,
    Region,
    behind_heart,
    label_regions,
    lung_box,
    split_sides,
)


@pytest.fixture
def lungs() -> np.ndarray:
    mask = np.zeros((60, 100), bool)
    mask[9:39, 10:40] = True
    mask[15:45, 60:80] = True
    return mask


def test_the_patients_left_lung_is_on_the_right_of_the_image(lungs):
    left, right = split_sides(lungs)
    assert left[20, 70]
    assert right[20, 20]
    assert left.sum() + right.sum() == lungs.sum()


def test_zones_are_thirds_of_each_lung_from_top_to_bottom(lungs):
    labels = label_regions(lungs)
    assert labels.dtype == np.uint8
    for lung, top in ((RIGHT_LUNG, 9), (LEFT_LUNG, 15)):
        for number, zone in enumerate(lung):
            rows = np.flatnonzero((labels == zone).any(axis=1))
            assert (rows[0], rows[-1]) == (top + 10 * number, top + 10 * number + 9)


def test_the_mediastinum_lies_between_the_lungs_where_both_exist(lungs):
    rows, columns = np.nonzero(label_regions(lungs) == Region.MEDIASTINUM)
    assert (rows.min(), rows.max()) == (15, 38)
    assert (columns.min(), columns.max()) == (40, 59)


def test_lungs_that_touch_are_cut_at_the_thinnest_column(lungs):
    lungs[20:23, 40:60] = True
    left, right = split_sides(lungs)
    assert left[20, 70]
    assert not left[20, 20]
    assert right[20, 20]
    assert not right[20, 70]
    assert not (left & right).any()
    assert ((left | right) == lungs).all()


def test_one_lung_alone_keeps_its_side(lungs):
    lungs[:, 50:] = False
    labels = label_regions(lungs)
    assert set(np.unique(labels)) - {0} <= {*RIGHT_LUNG, *LEFT_LUNG}


def test_the_box_has_inclusive_bounds(lungs):
    box = lung_box(lungs)
    assert (box.top, box.left, box.bottom, box.right) == (9, 10, 44, 79)
    assert box.shape == (36, 70)


def test_the_margin_is_a_share_of_the_box_and_stops_at_the_image(lungs):
    box = lung_box(lungs, margin=0.1)
    assert (box.top, box.left, box.bottom, box.right) == (5, 3, 48, 86)
    assert lung_box(lungs, margin=9.0).shape == lungs.shape


def test_an_empty_mask_has_no_box_and_no_regions():
    empty = np.zeros((5, 5), bool)
    assert lung_box(empty) is None
    assert not label_regions(empty).any()


def test_the_lung_behind_the_heart_lies_between_the_lungs_and_is_an_option(phantom):
    mask = phantom.left_lung | phantom.right_lung
    hidden = behind_heart(mask)
    assert hidden.any()
    assert not (hidden & mask).any()
    labels = label_regions(mask)
    # All of it is mediastinum or the gap below a lung's inner part, never outside the chest.
    box = lung_box(mask)
    assert not hidden[: box.top].any()
    assert not hidden[box.bottom + 1 :].any()
    # The heart lies on the patient's left, which is the right of the image.
    middle = np.nonzero(labels == Region.MEDIASTINUM)[1].mean()
    columns = np.nonzero(hidden)[1]
    assert (columns > middle).sum() > (columns <= middle).sum()
    assert ((label_regions(mask, heart=True) == Region.BEHIND_HEART) == hidden).all()
    assert not (labels == Region.BEHIND_HEART).any()
    assert not behind_heart(np.zeros_like(mask)).any()
