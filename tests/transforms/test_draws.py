"""The random numbers of views lie where the settings say, and each moves one thing alone."""

from __future__ import annotations

import statistics

import numpy as np
import pytest
from numpy.typing import NDArray

from medsgssl.config.schema import AugmentSettings
from medsgssl.transforms.affine import Crop, shrink_kernels, whole
from medsgssl.transforms.crops import RandomCrop
from medsgssl.transforms.photometric import (
    GRAIN_SIDE,
    GRAIN_ZERO,
    Tone,
    apply_tone,
    blur_kernel,
    grain_table,
    tone_table,
)

DRAWS, SIZE = 3000, 64
MASK = np.ones((SIZE, SIZE), np.uint8)
LEVELS = np.arange(256) / 255


def is_uniform(values: NDArray[np.float64], low: float, high: float) -> bool:
    """Whether values fill a range evenly: nine deciles lie where they should, and none outside."""
    deciles = np.quantile(values, np.linspace(0.1, 0.9, 9))
    wanted = low + (high - low) * np.linspace(0.1, 0.9, 9)
    near = np.abs(deciles - wanted).max() < 0.04 * (high - low)
    return bool(near and values.min() >= low and values.max() <= high)


def tones(**strengths: float) -> list[Tone]:
    off = {"brightness": 0.0, "contrast": 0.0, "gamma": 0.0, "blur": 0.0, "noise": 0.0}
    augment = AugmentSettings(**(off | strengths))
    return [Tone.draw(augment, SIZE, np.random.default_rng(n)) for n in range(DRAWS)]


@pytest.mark.parametrize(
    ("brightness", "contrast", "gamma"), [(0, 1, 1), (0.1, 1, 1), (0, 1.3, 1), (-0.1, 0.8, 1.2)]
)
def test_a_tone_is_gamma_then_contrast_about_the_middle_then_brightness(
    brightness: float, contrast: float, gamma: float
) -> None:
    wanted = 255 * ((LEVELS**gamma - 0.5) * contrast + 0.5 + brightness)
    found = tone_table(brightness, contrast, gamma).astype(float)
    assert np.abs(found - np.clip(wanted, 0, 255)).max() <= 0.51


def test_brightness_is_uniform_about_none() -> None:
    shift = [(float(t.table[128]) - 128) / 255 for t in tones(brightness=0.2)]
    assert is_uniform(np.array(shift), -0.205, 0.205)


def test_contrast_is_uniform_about_one() -> None:
    factor = [(float(t.table[190]) - float(t.table[65])) / 125 for t in tones(contrast=0.4)]
    assert is_uniform(np.array(factor), 0.59, 1.41)


def test_the_logarithm_of_gamma_is_uniform_about_none() -> None:
    tables = np.array([t.table[128] for t in tones(gamma=0.3)]) / 255
    gamma = np.log2(np.log(tables) / np.log(128 / 255))
    assert is_uniform(gamma, -0.32, 0.32)


def test_the_drawn_share_of_views_is_blurred_evenly() -> None:
    blurs = np.array([t.blur for t in tones(blur=0.3)])
    assert (blurs > 0).mean() == pytest.approx(0.3, abs=0.03)
    assert is_uniform(blurs[blurs > 0], 0.1, 1.5)
    assert not any(t.blur for t in tones())


def test_grain_is_as_strong_as_set_and_lies_anywhere_in_its_table() -> None:
    drawn = tones(noise=0.02)
    share = np.array([t.grain_share for t in drawn])
    assert is_uniform(share * 32 / 255, 0, 0.02)  # its table counts in steps of 1/32
    for places in ([t.grain_row for t in drawn], [t.grain_column for t in drawn]):
        assert is_uniform(np.array(places, float), 0, GRAIN_SIDE - SIZE)
    assert not any(t.grain_share for t in tones())


def test_no_number_of_a_tone_follows_another() -> None:
    drawn = tones(gamma=0.3, blur=0.5, noise=0.02)
    numbers = np.array(
        [
            [t.table[128], t.blur > 0, t.grain_share, t.grain_row, t.grain_column]
            for t in drawn
        ],
        float,
    )  # fmt: skip
    blurred = np.array([[t.table[128], t.blur, t.grain_share] for t in drawn if t.blur > 0], float)
    flat = tones(brightness=0.2, gamma=0, contrast=0)
    # With the same seeds brightness is another number than gamma and contrast are.
    several = np.array(
        [
            [b.table[128], c.table[200], g.table[128]]
            for b, c, g in zip(flat, tones(contrast=0.4), tones(gamma=0.3), strict=True)
        ],
        float,
    )
    for table in (numbers, blurred, several):
        related = np.abs(np.corrcoef(table.T) - np.eye(table.shape[1]))
        assert related.max() < 0.08


def test_grain_is_added_where_it_was_drawn() -> None:
    tone = Tone(tone_table(0, 1, 1), 0.0, grain_row=30, grain_column=700, grain_share=0.25)
    image = np.full((SIZE, SIZE), 120, np.uint8)
    noisy = apply_tone(image.copy(), tone).astype(float)
    window = grain_table()[30 : 30 + SIZE, 700 : 700 + SIZE].astype(float)
    assert np.abs(noisy - (120 + 0.25 * (window - GRAIN_ZERO))).max() <= 0.51
    assert (window - GRAIN_ZERO).std() == pytest.approx(32, rel=0.05)
    assert grain_table().mean() == pytest.approx(GRAIN_ZERO, abs=0.1)


def test_grain_is_normal_and_cut_at_four_standard_deviations() -> None:
    drawn = grain_table.__wrapped__()  # as every process draws it
    levels = np.bincount(drawn.ravel(), minlength=256) / drawn.size
    normal = statistics.NormalDist(128, 32)
    wanted = np.diff([0.0, *(normal.cdf(level + 0.5) for level in range(255)), 1.0])
    assert np.abs(levels - wanted).max() < 3e-4
    # What lies beyond the ends lies at the ends.
    assert levels[[0, 255]] == pytest.approx(wanted[[0, 255]], rel=0.4)


@pytest.mark.parametrize("sigma", [0.1, 0.4, 0.7, 1.0, 1.5])
def test_a_blur_reaches_three_standard_deviations(sigma: float) -> None:
    kernel = blur_kernel(sigma)
    assert len(kernel) == 2 * round(3 * sigma) + 1
    weights = np.exp(-0.5 * ((np.arange(len(kernel)) - len(kernel) // 2) / sigma) ** 2)
    np.testing.assert_allclose(kernel, weights / weights.sum(), atol=1e-9)


def test_random_crops_are_drawn_as_their_settings_say() -> None:
    augment = AugmentSettings(scale=(0.2, 0.5), ratio=(0.5, 1.5), rotation=20, flip=0.2)
    crops = [RandomCrop(augment).draw(MASK, 1, np.random.default_rng(n)) for n in range(DRAWS)]
    width, height, x, y, rotation = np.array(
        [(c.width, c.height, c.x, c.y, c.rotation) for c in crops]
    ).T
    assert is_uniform(width * height / SIZE**2, 0.2, 0.5)
    assert is_uniform(np.log(width / height), np.log(0.5), np.log(1.5))
    assert is_uniform((x - (width - 1) / 2) / (SIZE - width), 0, 1)
    assert is_uniform((y - (height - 1) / 2) / (SIZE - height), 0, 1)
    assert is_uniform(rotation, -20, 20)
    assert np.mean([c.flip for c in crops]) == pytest.approx(0.2, abs=0.03)
    free_x, free_y = (
        (x - (width - 1) / 2) / (SIZE - width),
        (y - (height - 1) / 2) / (SIZE - height),
    )
    flips = np.array([c.flip for c in crops], float)
    drawn = np.array([width * height, width / height, free_x, free_y, rotation, flips])
    assert np.abs(np.corrcoef(drawn) - np.eye(6)).max() < 0.08


@pytest.mark.parametrize(("wide", "high"), [(3.0, 1.0), (1.0, 3.0), (2.5, 1.5)])
def test_an_image_is_filtered_along_the_axes_that_shrink(wide: float, high: float) -> None:
    crop = Crop(31.5, 31.5, 64 * wide, 64 * high)
    spreads = []
    for kernel in shrink_kernels(crop.affine(64)):
        places = np.arange(len(kernel)) - len(kernel) // 2
        spreads.append(float((kernel * places**2).sum()))
    # The variance that is left of a pixel's own when it grows by the factor.
    assert spreads == pytest.approx([0.25 * (s**2 - 1) for s in (wide, high)], rel=0.12)


@pytest.mark.parametrize("shrink", [1.5, 3.0])
def test_the_filter_before_shrinking_has_its_standard_deviation(shrink: float) -> None:
    kernels = shrink_kernels(whole(round(64 * shrink)).affine(64))
    assert len(kernels) == 2
    for kernel in kernels:
        places = np.arange(len(kernel)) - len(kernel) // 2
        assert kernel.sum() == pytest.approx(1)
        wanted = 0.25 * (shrink**2 - 1)
        assert (kernel * places**2).sum() == pytest.approx(wanted, rel=0.12)
    assert shrink_kernels(whole(64).affine(64)) == []
