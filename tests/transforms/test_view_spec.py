"""A view is its image and its mask, moved by one affine, and noise on the image alone."""

from __future__ import annotations

import numpy as np
import pytest

from medsgssl.config.schema import AugmentSettings
from medsgssl.transforms.affine import warp_image, warp_mask
from medsgssl.transforms.crops import RandomCrop, WholeImage
from medsgssl.transforms.photometric import apply_tone
from medsgssl.transforms.view_spec import ViewSpec, draw_view, make_view

SIDE, SIZE = 80, 64
RNG = np.random.default_rng(0)
IMAGE = RNG.integers(0, 256, (SIDE, SIDE), dtype=np.uint8)
MASK = (RNG.random((SIDE, SIDE)) < 0.5).astype(np.uint8)
AUGMENT = AugmentSettings(rotation=20)


@pytest.mark.parametrize("noise", [None, AUGMENT])
def test_image_and_mask_are_moved_by_the_views_own_affine(noise: AugmentSettings | None) -> None:
    spec = ViewSpec(RandomCrop(AUGMENT), noise)
    flips = set()
    for number in range(20):
        key = (0, 1, number, 0)
        view = make_view(IMAGE, MASK, 1.0, spec, SIZE, key)
        moved = warp_image(IMAGE, view.affine, SIZE)
        tone = draw_view(MASK, 1.0, spec, SIZE, key).tone
        assert (tone is None) == (noise is None)
        assert np.array_equal(view.image, moved if tone is None else apply_tone(moved, tone))
        assert np.array_equal(view.mask, warp_mask(MASK, view.affine, SIZE))
        assert view.flipped == (np.linalg.det(view.affine[:, :2]) < 0)
        flips.add(view.flipped)
    assert flips == {False, True}


def test_the_whole_image_without_noise_is_the_image() -> None:
    view = make_view(IMAGE, MASK, 1.0, ViewSpec(WholeImage()), SIDE, (0, 0, 0, 0))
    assert np.array_equal(view.image, IMAGE)
    assert np.array_equal(view.mask, MASK)
    assert not view.flipped


def test_a_view_is_written_where_it_is_asked_to_be() -> None:
    spec, key = ViewSpec(RandomCrop(AUGMENT), AUGMENT), (0, 0, 0, 1)
    out = np.zeros((SIZE, SIZE), np.uint8), np.zeros((SIZE, SIZE), np.uint8)
    view = make_view(IMAGE, MASK, 1.0, spec, SIZE, key, out)
    alone = make_view(IMAGE, MASK, 1.0, spec, SIZE, key)
    for written, given, wanted in zip(
        out, (view.image, view.mask), (alone.image, alone.mask), strict=True
    ):
        assert np.shares_memory(written, given)
        assert np.array_equal(written, wanted)
