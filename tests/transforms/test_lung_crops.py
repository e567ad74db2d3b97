"""Guided crops keep their constraint in every draw, and fall back to the full image."""

from __future__ import annotations

import itertools
import timeit
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medsgssl.config.schema import AugmentSettings, DataSettings
from medsgssl.data.synthetic.render import render_phantom
from medsgssl.masks.regions import lung_box
from medsgssl.transforms.affine import Crop, warp_mask, whole
from medsgssl.transforms.crops import CropRule, RandomCrop, WholeImage
from medsgssl.transforms.lung_crops import AroundLungBox, InLungBox, LungBox, LungCrop
from medsgssl.utils.rng import generator

SIZE = 224
AUGMENT = AugmentSettings()


@pytest.fixture(scope="module")
def masks() -> list[np.ndarray]:
    drawn = [render_phantom(0, index, SIZE) for index in range(8)]
    return [(p.right_lung | p.left_lung).astype(np.uint8) for p in drawn]


def rng_of(number: int, view: int = 0) -> np.random.Generator:
    return generator(0, "views", 0, number, view)


def lung_share(mask: np.ndarray, crop: Crop) -> float:
    """The share of lung in the window, counted at the resolution of the image."""
    side = round(crop.width)
    return float(warp_mask(mask, crop.affine(side), side).mean())


def edges(crop: Crop) -> tuple[float, float, float, float]:
    """First and last column and row of an upright window."""
    return (
        crop.x - (crop.width - 1) / 2,
        crop.x + (crop.width - 1) / 2,
        crop.y - (crop.height - 1) / 2,
        crop.y + (crop.height - 1) / 2,
    )


def worst_share(masks: list[np.ndarray], rule: LungCrop, draws: int) -> float:
    """The smallest share that is lung (or of the lungs) in any draw, on the view's own pixels."""
    size, shares = rule.view_size, []
    for n in range(draws):
        mask = masks[n % len(masks)]
        crop = rule.draw(mask, 1.0, rng_of(n))
        shown = cv2.countNonZero(warp_mask(mask, crop.affine(size), size)) / size**2
        whole_area = 1.0 if rule.cover_of == "crop" else np.count_nonzero(mask) / crop.width**2
        shares.append(shown / whole_area)
    return min(shares)


@pytest.mark.parametrize("size", [64, 128, 224])
def test_coverage_holds_on_every_one_of_10000_draws_on_the_views_own_pixels(masks, size) -> None:
    assert worst_share(masks, LungCrop(AUGMENT, cover=0.45, view_size=size), 10_000) >= 0.45


def test_coverage_of_the_lungs_holds_on_every_draw(masks) -> None:
    rule = LungCrop(AUGMENT, cover=0.6, cover_of="lungs", view_size=128)
    assert worst_share(masks, rule, 2000) >= 0.6 - 1e-9


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.parametrize("size", [64, 128, 224])
def test_coverage_holds_on_every_one_of_10000_draws_of_real_lungs(real_data: Path, size) -> None:
    files = sorted((real_data / "lung_masks").glob("*/masks/*.png"))
    drawn = [cv2.imread(str(file), cv2.IMREAD_GRAYSCALE) for file in files]
    square = [cv2.resize(mask, (size, size), interpolation=cv2.INTER_AREA) for mask in drawn]
    masks = [(mask > mask.max() / 2).astype(np.uint8) for mask in square]
    assert len(masks) >= 200
    assert worst_share(masks, LungCrop(AUGMENT, view_size=size), 10_000) >= LungCrop.cover


def test_the_whole_of_the_lung_box_is_the_box_wherever_it_lies() -> None:
    for side, start in itertools.product((20, 21), range(8, 12)):
        for top, left in ((start, start + 1), (start + 1, start)):
            mask = np.zeros((64, 64), np.uint8)
            mask[top : top + side, left : left + side] = 1
            box = LungBox(margin=0.0)
            wanted = (left, left + side - 1, top, top + side - 1)
            assert edges(InLungBox(WholeImage(), box).draw(mask, 1.0, rng_of(0))) == wanted


def test_a_rule_in_the_lung_box_sees_the_box_as_its_image(masks) -> None:
    box = LungBox().draw(masks[0], 1.0, rng_of(0))
    assert InLungBox(WholeImage()).draw(masks[0], 1.0, rng_of(0)) == box
    inner = RandomCrop(AugmentSettings(rotation=0))
    for n in range(50):
        crop = InLungBox(inner).draw(masks[0], 1.0, rng_of(n))
        first, last, top, bottom = edges(crop)
        assert edges(box)[0] - 0.5 <= first < last <= edges(box)[1] + 0.5
        assert edges(box)[2] - 0.5 <= top < bottom <= edges(box)[3] + 0.5
    assert InLungBox(inner).draw(masks[0], 0.0, rng_of(1)) == inner.draw(masks[0], 0.0, rng_of(1))


def test_a_rule_in_the_lung_box_sees_the_mask_of_the_box(masks) -> None:
    class Spy(CropRule):
        def draw(self, mask: np.ndarray, quality: float, rng: np.random.Generator) -> Crop:
            seen.append(mask.copy())
            return whole(len(mask))

    seen: list[np.ndarray] = []
    for mask in masks:
        InLungBox(Spy()).draw(mask, 1.0, rng_of(0))
        first, last, top, bottom = map(int, edges(LungBox().draw(mask, 1.0, rng_of(0))))
        assert np.array_equal(seen.pop(), mask[top : bottom + 1, first : last + 1])


def test_upright_crops_keep_the_constraint_to_the_pixel(masks) -> None:
    rule = LungCrop(AugmentSettings(rotation=0), cover=0.5)
    for number in range(200):
        mask = masks[number % 8]
        x0, x1, y0, y1 = (round(edge) for edge in edges(rule.draw(mask, 1.0, rng_of(number))))
        assert 0 <= min(x0, y0) <= max(x1, y1) < SIZE
        assert mask[y0 : y1 + 1, x0 : x1 + 1].mean() >= 0.5


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 10**6), cover=st.floats(0.05, 0.9), lungs=st.booleans())
def test_any_mask_gives_a_window_in_the_image(seed: int, cover: float, lungs: bool) -> None:
    noise = np.random.default_rng(seed).random((48, 48))
    mask = (cv2.GaussianBlur(noise, (0, 0), 3) > 0.53).astype(np.uint8)
    rule = LungCrop(AugmentSettings(rotation=0), cover, "lungs" if lungs else "crop")
    crop = rule.draw(mask, 1.0, rng_of(seed))
    x0, x1, y0, y1 = edges(crop)
    assert min(x0, y0) >= -0.5
    assert max(x1, y1) <= 47.5


def test_a_mask_with_nowhere_enough_lung_guides_nothing() -> None:
    mask = np.zeros((128, 128), np.uint8)
    mask[60, 60] = 1
    crop = LungCrop(AUGMENT, 0.9).draw(mask, 1.0, rng_of(0))
    x0, x1, y0, y1 = edges(crop)
    assert -0.5 <= min(x0, y0) <= max(x1, y1) <= 127.5
    assert crop.width * crop.height >= AUGMENT.scale[0] * 128**2 - 1


@pytest.mark.parametrize("cover_of", ["crop", "lungs"])
def test_a_window_that_has_just_enough_will_do(cover_of: str) -> None:
    augment = AugmentSettings(scale=(0.2, 0.4), ratio=(0.5, 0.5), rotation=0)
    crop = LungCrop(augment, 1.0, cover_of).draw(np.ones((96, 96), np.uint8), 1.0, rng_of(0))
    assert crop.width == crop.height  # a random crop would have the ratio of the settings


def test_the_rotation_is_left_out_where_it_would_cost_the_constraint(masks) -> None:
    rule = LungCrop(AugmentSettings(rotation=45), 0.7)
    angles = [rule.draw(masks[n % 8], 1.0, rng_of(n)).rotation for n in range(200)]
    assert sum(angle == 0 for angle in angles) > 10
    assert np.median(np.abs([angle for angle in angles if angle])) > 5


def test_windows_lie_anywhere_among_the_places_that_will_do() -> None:
    rule = LungCrop(AugmentSettings(scale=(0.1, 0.1), rotation=0), 0.4, margin=(0, 0))
    full = np.ones((SIZE, SIZE), np.uint8)
    crops = [rule.draw(full, 1.0, rng_of(n)) for n in range(1500)]
    places = np.array([(edges(crop)[0], edges(crop)[2]) for crop in crops])
    free = SIZE - crops[0].width
    assert places.min() >= 0
    assert places.max() <= free
    for shares in (places / free).T:
        assert np.abs(np.quantile(shares, [0.1, 0.5, 0.9]) - [0.1, 0.5, 0.9]).max() < 0.05
    assert abs(np.corrcoef(places.T)[0, 1]) < 0.1
    # Between the places of the lattice too, along each axis by itself.
    step = int(free) // 24 + 1
    within = places % step
    assert {tuple(pair) for pair in within} == {(i, j) for i in range(step) for j in range(step)}


def test_the_default_view_is_that_of_the_data() -> None:
    assert LungCrop(AUGMENT).view_size == DataSettings().img_size


def test_the_two_crops_of_an_image_are_different(masks) -> None:
    rule = LungCrop(AUGMENT)
    for number in range(1000):
        mask = masks[number % 8]
        first, second = (rule.draw(mask, 1.0, rng_of(number, view)) for view in range(2))
        assert first != second


def test_the_aspect_is_kept(masks) -> None:
    box = LungBox()
    for rule in (LungCrop(AUGMENT), box, AroundLungBox(AUGMENT, box)):
        for number in range(100):
            crop = rule.draw(masks[number % 8], 1.0, rng_of(number))
            assert crop.width == crop.height


def test_a_draw_is_a_pure_function_of_its_arguments(masks) -> None:
    for rule in (LungCrop(AUGMENT), LungBox(), AroundLungBox(AUGMENT, LungBox())):
        one, two = (rule.draw(masks[0], 1.0, rng_of(3)) for _ in range(2))
        assert one == two


def test_the_context_margin_widens_the_crop(masks) -> None:
    upright = AugmentSettings(rotation=0, scale=(0.3, 0.3))
    tight, wide = (
        LungCrop(upright, 0.05, margin=(m, m)).draw(masks[0], 1.0, rng_of(1)) for m in (0.0, 0.1)
    )
    assert wide.width == pytest.approx(1.2 * tight.width, abs=1)


def test_every_crop_has_five_to_ten_percent_of_context_by_default(masks) -> None:
    rule = LungCrop(AugmentSettings(rotation=0, scale=(0.25, 0.25)), 0.01)
    tight = LungBox().draw(masks[0], 1.0, rng_of(0)).width / 2
    crops = [rule.draw(masks[0], 1.0, rng_of(n)) for n in range(300)]
    context = (np.array([crop.width for crop in crops]) / tight - 1) / 2
    pixel = 0.5 / tight
    assert 0.05 - pixel <= context.min() < 0.06
    assert 0.09 < context.max() <= 0.10 + pixel


def most_lung(mask: np.ndarray, side: int) -> int:
    """The most pixels of lung that any window of a side holds."""
    sums = cv2.integral(mask)
    inside = sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side]
    return int(inside.max())


def test_a_window_for_a_share_of_the_lungs_grows_no_more_than_it_must() -> None:
    mask = np.zeros((96, 96), np.uint8)
    mask[30:70, 20:40] = mask[30:70, 56:76] = 1
    rule = LungCrop(AugmentSettings(rotation=0, scale=(0.01, 0.3)), 0.8, "lungs", view_size=96)
    for number in range(50):
        width = round(rule.draw(mask, 1.0, rng_of(number)).width)
        assert most_lung(mask, width) >= 0.8 * mask.sum()
        # A step smaller there is no such window, or one that the lattice of places missed.
        assert most_lung(mask, int(0.85 * width) - 4) < 0.8 * mask.sum()


def test_a_window_of_a_single_pixel_is_tried_too() -> None:
    mask = np.zeros((20, 20), np.uint8)  # so small that every place is tried
    mask[10, 12] = 1
    crop = LungCrop(AugmentSettings(rotation=0, scale=(0.2, 0.2)), 0.9).draw(mask, 1.0, rng_of(0))
    assert edges(crop) == (12, 12, 10, 10)


def test_the_box_adds_its_margin_on_every_side() -> None:
    mask = np.zeros((200, 200), np.uint8)
    mask[40:80, 50:100] = 1
    crop = LungBox(margin=0.1).draw(mask, 1.0, rng_of(0))
    assert (crop.width, crop.height) == (60, 60)
    assert edges(crop) == (45, 104, 30, 89)


@pytest.mark.parametrize(("top", "left"), [(0, 0), (0, 60), (60, 0), (60, 60)])
def test_a_box_at_the_border_is_moved_inside(top: int, left: int) -> None:
    mask = np.zeros((100, 100), np.uint8)
    mask[top : top + 40, left : left + 40] = 1
    crop = LungBox(margin=0.1).draw(mask, 1.0, rng_of(0))
    # The margin that finds no place at the border lies on the other side.
    first, last, above, below = edges(crop)
    assert (first, last) == ((0, 47) if left == 0 else (52, 99))
    assert (above, below) == ((0, 47) if top == 0 else (52, 99))


def test_the_box_is_the_smallest_with_its_margin() -> None:
    for longer in range(20, 60):
        mask = np.zeros((200, 200), np.uint8)
        mask[90 : 90 + longer // 2, 70 : 70 + longer] = 1
        width = LungBox(margin=0.08).draw(mask, 1.0, rng_of(0)).width
        assert 0 <= width - longer * 1.16 < 1


def test_box_has_inclusive_bounds() -> None:
    mask = np.zeros((64, 64), np.uint8)
    mask[20:40, 10:50] = 1  # Rows 20 to 39, columns 10 to 49: 40 columns wide.
    crop = LungBox(margin=0.0).draw(mask, 1.0, rng_of(0))
    assert edges(crop)[:2] == (10, 49)
    view = warp_mask(mask, crop.affine(40), 40)
    assert view.sum() == mask.sum()
    assert view[:, 0].any()
    assert view[:, -1].any()


def test_the_box_keeps_lungs_heart_and_costophrenic_angles(masks) -> None:
    for mask in masks:
        crop = LungBox(margin=0.08).draw(mask, 1.0, rng_of(0))
        box = lung_box(mask.astype(bool))
        assert box is not None
        x0, x1, y0, y1 = edges(crop)
        around = 0.05 * max(box.shape)
        # What lies between the lungs is inside; beyond them is margin, or the image ends.
        assert x0 <= max(box.left - around, 0)
        assert x1 >= min(box.right + around, SIZE - 1)
        assert y0 <= max(box.top - around, 0)
        assert y1 >= min(box.bottom + around, SIZE - 1)
        assert warp_mask(mask, crop.affine(SIZE), SIZE).any()


def test_failed_mask_equals_full_image(masks) -> None:
    everything, nothing = np.ones((SIZE, SIZE), np.uint8), np.zeros((SIZE, SIZE), np.uint8)
    image = WholeImage().draw(masks[0], 0.0, rng_of(0))
    for mask, quality in ((everything, 0.0), (nothing, 0.0), (nothing, 1.0), (masks[0], 0.1)):
        assert LungBox().draw(mask, quality, rng_of(0)) == image == whole(SIZE)
        free = RandomCrop(AUGMENT).draw(mask, quality, rng_of(5))
        assert LungCrop(AUGMENT).draw(mask, quality, rng_of(5)) == free


def test_a_mask_that_can_just_be_trusted_guides(masks) -> None:
    assert LungBox().draw(masks[0], LungBox().min_quality, rng_of(0)) != whole(SIZE)
    rule, free = LungCrop(AUGMENT), RandomCrop(AUGMENT)
    trusted = rule.draw(masks[0], rule.box.min_quality, rng_of(5))
    assert trusted == rule.draw(masks[0], 1.0, rng_of(5))
    assert trusted != free.draw(masks[0], rule.box.min_quality, rng_of(5))


@pytest.mark.parametrize("lungs", [np.s_[30:70, 20:76], np.s_[95, 20:80], np.s_[20:80, 95]])
def test_windows_for_a_share_of_the_lungs_lie_anywhere_among_the_places_that_will_do(
    lungs: tuple[slice | int, slice | int],
) -> None:
    mask = np.zeros((96, 96), np.uint8)
    mask[lungs] = 1
    augment = AugmentSettings(rotation=0, scale=(0.6, 0.6))
    rule = LungCrop(augment, 0.5, "lungs", margin=(0, 0), view_size=96)
    places = [(c.x, c.y) for c in (rule.draw(mask, 1.0, rng_of(n)) for n in range(300))]
    # Were the first place that is drawn refused, that with the most lung would come instead.
    assert max(Counter(places).values()) < 25


def test_the_fine_tune_crop_is_uniform_in_the_box(masks) -> None:
    rule = AroundLungBox(AugmentSettings(scale=(0.5, 0.9), rotation=0), LungBox())
    box = LungBox().draw(masks[0], 1.0, rng_of(0))
    crops = [rule.draw(masks[0], 1.0, rng_of(n)) for n in range(2000)]
    free = np.array([box.width - crop.width for crop in crops])
    share = np.array([(crop.width / box.width) ** 2 for crop in crops])
    drawn = np.array(
        [
            (share - 0.5) / 0.4,
            [crop.x - box.x for crop in crops] / free + 0.5,
            [crop.y - box.y for crop in crops] / free + 0.5,
        ]
    )
    deciles = np.linspace(0.1, 0.9, 9)
    for numbers in drawn:
        assert np.abs(np.quantile(numbers, deciles) - deciles).max() < 0.04
    assert np.abs(np.corrcoef(drawn) - np.eye(3)).max() < 0.08


def test_the_fine_tune_crop_stays_in_the_box(masks) -> None:
    mild = AugmentSettings(scale=(0.7, 1.0), rotation=0)
    for number in range(200):
        mask = masks[number % 8]
        inner = edges(AroundLungBox(mild, LungBox()).draw(mask, 1.0, rng_of(number)))
        outer = edges(LungBox().draw(mask, 1.0, rng_of(number)))
        assert inner[0] >= outer[0] - 1e-6
        assert inner[1] <= outer[1] + 1e-6
        assert inner[2] >= outer[2] - 1e-6
        assert inner[3] <= outer[3] + 1e-6


@pytest.mark.slow
def test_a_draw_takes_at_most_150_microseconds(masks) -> None:
    cv2.setNumThreads(1)
    rule, rng = LungCrop(AUGMENT), rng_of(0)
    seconds = timeit.repeat(lambda: rule.draw(masks[0], 1.0, rng), number=20, repeat=100)
    assert min(seconds) / 20 < 150e-6
