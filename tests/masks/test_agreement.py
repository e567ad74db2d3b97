import math

import numpy as np
import pytest

from medsgssl.masks.agreement import dice, jaccard, surface_distance


def square(left):
    mask = np.zeros((40, 60), bool)
    mask[10:30, left : left + 20] = True
    return mask


def test_dice_and_jaccard_of_known_overlap():
    assert dice(square(10), square(20)) == pytest.approx(0.5)
    assert jaccard(square(10), square(20)) == pytest.approx(1 / 3)
    assert dice(square(10), square(10)) == 1.0
    assert dice(square(0), square(30)) == 0.0


def test_empty_masks_agree_with_each_other_only():
    empty = np.zeros((40, 60), bool)
    assert dice(empty, empty) == jaccard(empty, empty) == 1.0
    assert dice(empty, square(1)) == 0.0
    assert math.isnan(surface_distance(empty, square(1)))


def test_the_surface_distance_is_in_pixels():
    assert surface_distance(square(10), square(10)) == 0.0
    # Both vertical edges lie 2 pixels away, the horizontal ones mostly overlap.
    assert 0.9 < surface_distance(square(10), square(12)) < 1.3


def test_distances_are_exact_euclidean_ones():
    first, second = np.zeros((60, 60), bool), np.zeros((60, 60), bool)
    first[5, 5], second[5 + 21, 5 + 37] = True, True
    assert surface_distance(first, second) == pytest.approx(np.hypot(21, 37), rel=1e-6)
