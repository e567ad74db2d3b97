"""The appearance of lungs in their own box: what moves it, and what must not."""

from __future__ import annotations

from dataclasses import fields

import cv2
import numpy as np
import pytest
import torch

from medsgssl.data.synthetic.render import render_phantom
from medsgssl.ops.saliency import (
    PLACES,
    LungAppearance,
    _percentiles,
    local_mean,
    lung_appearance,
    soft_maximum,
)

SIZE = 224


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def phantom(index: int, *findings: str) -> tuple[np.ndarray, np.ndarray]:
    drawn = render_phantom(1, index, SIZE, findings)
    return drawn.image, drawn.right_lung | drawn.left_lung


def appearance(image: np.ndarray, mask: np.ndarray) -> LungAppearance:
    view = torch.from_numpy(np.array(image))[None, None].float() / 255
    return lung_appearance(view, torch.from_numpy(np.array(mask))[None])


def test_places_are_those_of_the_box_with_its_margin() -> None:
    mask = np.zeros((SIZE, SIZE), bool)
    mask[40:140, 60:180] = True
    seen = appearance(np.zeros((SIZE, SIZE), np.uint8), mask)
    assert seen.area[0] == pytest.approx(100 * 120 / SIZE**2)
    # 6 % of the box on every side, so 1 / 1.12 of it is lung; a place of rim less on each.
    rows, columns = seen.lung[0].any(dim=1), seen.lung[0].any(dim=0)
    for held in (rows, columns):
        assert int(held.sum()) == round(PLACES / 1.12) - 2
        assert torch.equal(held, held.flip(0))
    # Box edges in normalized coordinates of the view, 12 % apart from the mask's.
    box = seen.boxes[0]
    left, right = (float(box[0, 0]) * side + float(box[0, 2]) for side in (-1, 1))
    top, bottom = (float(box[1, 1]) * side + float(box[1, 2]) for side in (-1, 1))
    assert [(v + 1) / 2 * SIZE for v in (left, right)] == pytest.approx([52.8, 187.2])
    assert [(v + 1) / 2 * SIZE for v in (top, bottom)] == pytest.approx([34, 146])
    outline = seen.outline[0]
    assert outline.shape == (7, 7)
    assert outline[1:-1, 1:-1].min() == 1
    assert 0 < outline[0, 3] < 1


@pytest.mark.parametrize(
    ("gain", "shift"), [(0.5, 0), (0.5, 60), (0.8, 20)], ids=["darker", "flat and bright", "flat"]
)
def test_exposure_and_linear_contrast_change_next_to_nothing(gain: float, shift: float) -> None:
    image, mask = phantom(2)
    before, after = appearance(image, mask), appearance(image * gain + shift, mask)
    torch.testing.assert_close(after.gray, before.gray, atol=1e-2, rtol=0)


def test_a_lesion_inside_the_lungs_changes_gray_at_its_own_place_alone() -> None:
    image, mask = phantom(0)
    depth = cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    y, x = np.unravel_index(depth.argmax(), depth.shape)
    planted = image.astype(np.float32)
    planted[y - 6 : y + 7, x - 6 : x + 7] += 50
    change = (appearance(planted, mask).gray - appearance(image, mask).gray)[0]
    rows, columns = change.nonzero(as_tuple=True)
    assert change.min() >= 0
    assert change.max() > 0.3
    assert int(rows.max() - rows.min()) <= 6
    assert int(columns.max() - columns.min()) <= 6


@pytest.mark.parametrize("outside", ["marker", "wire", "skin line"])
def test_markers_and_wires_outside_the_lungs_raise_no_place(outside: str) -> None:
    image, mask = phantom(0)
    changed = image.copy()
    if outside == "marker":
        changed[5:25, 5:30] = 255
    elif outside == "wire":
        cv2.line(changed, (0, 0), (SIZE - 1, SIZE - 1), 255, 3)
    else:
        changed[:, :4] = changed[:, -4:] = 255
    changed[mask] = image[mask]
    rise = appearance(changed, mask).gray - appearance(image, mask).gray
    assert rise.max() < 0.02


def test_a_mirrored_image_has_a_mirrored_appearance() -> None:
    image, mask = phantom(1, "Mass")
    one, other = appearance(image, mask), appearance(image[:, ::-1], mask[:, ::-1])
    torch.testing.assert_close(other.gray, one.gray.flip(2), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(other.outline, one.outline.flip(2), atol=1e-4, rtol=1e-4)
    assert other.area == one.area


def test_a_view_without_lung_has_no_place() -> None:
    image, mask = phantom(0)
    seen = appearance(image, np.zeros_like(mask))
    assert not seen.lung.any()
    assert (seen.gray == 0).all()
    assert (seen.outline == 0).all()
    torch.testing.assert_close(seen.area, torch.ones(1))


@pytest.mark.parametrize("width", [3, 5])
def test_local_means_are_of_places_inside_alone(width: int) -> None:
    values, inside = torch.rand(2, 9, 9), torch.rand(2, 9, 9) > 0.4
    got, reach = local_mean(values, inside, width), width // 2
    for b, y, x in np.ndindex(2, 9, 9):
        rows = slice(max(y - reach, 0), y + reach + 1)
        columns = slice(max(x - reach, 0), x + reach + 1)
        here = inside[b, rows, columns]
        want = values[b, rows, columns][here].mean() if inside[b, y, x] else 0.0
        assert float(got[b, y, x]) == pytest.approx(float(want), abs=1e-5)


def test_the_soft_maximum_lies_between_mean_and_maximum_and_grows_with_every_value() -> None:
    values, inside = torch.randn(3, 6, 6), torch.ones(3, 6, 6, dtype=torch.bool)
    inside[0, :, :3] = False
    inside[2] = False
    got = soft_maximum(values, inside, 2.0)
    for number in (0, 1):
        own = values[number][inside[number]]
        want = (2 * own).exp().mean().log() / 2
        assert float(got[number]) == pytest.approx(float(want), abs=1e-5)
        assert own.mean() < got[number] < own.max()
    assert got[2] == 0
    single = torch.zeros(1, 6, 6, dtype=torch.bool)
    single[0, 4, 1] = True
    assert soft_maximum(values[:1], single, 2.0)[0] == pytest.approx(float(values[0, 4, 1]))
    raised = values.clone()
    raised[1, 2, 2] += 0.1
    assert soft_maximum(raised, inside, 2.0)[1] > got[1]
    raised[0, 0, 0] += 5  # outside
    assert soft_maximum(raised, inside, 2.0)[0] == got[0]


def test_lungs_without_surroundings_have_a_unit_all_the_same() -> None:
    images = torch.rand(2, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    seen = lung_appearance(images, torch.ones(2, 64, 64, dtype=torch.bool))
    assert seen.lung.any()
    assert seen.gray.isfinite().all()
    assert seen.gray.std() > 0
    # Nothing is known of their level: that of black is taken.
    assert lung_appearance(images / 20, torch.ones(2, 64, 64, dtype=torch.bool)).gray.min() >= 0


def test_percentiles_are_values_of_places_inside() -> None:
    values, inside = torch.randn(5, 9), torch.rand(5, 9) > 0.4
    inside[3] = False
    inside[4] = torch.arange(9) == 5
    shares = (0.0, 0.3, 0.5, 0.9, 1.0)
    for share, got in zip(shares, _percentiles(values, inside, shares), strict=True):
        for row, held, value in zip(values.numpy(), inside.numpy(), got, strict=True):
            want = np.quantile(row[held], share, method="nearest") if held.any() else 0.0
            assert float(value) == pytest.approx(float(want))


def test_images_of_a_batch_are_seen_each_by_itself() -> None:
    drawn = [phantom(number) for number in range(3)]
    images, masks = (torch.from_numpy(np.stack(every)) for every in zip(*drawn, strict=True))
    masks[2, :100] = False
    together = lung_appearance(images[:, None].float() / 255, masks)
    for number, (image, _) in enumerate(drawn):
        alone = appearance(image, masks[number].numpy())
        for field in fields(LungAppearance):
            one, all_of_them = getattr(alone, field.name), getattr(together, field.name)
            torch.testing.assert_close(one[0], all_of_them[number])


def test_what_lies_in_a_hole_of_the_mask_does_not_shine_into_the_lung() -> None:
    image, mask = np.full((SIZE, SIZE), 150, np.uint8), np.zeros((SIZE, SIZE), bool)
    image[::7] = 220
    mask[40:140, 60:180] = True
    image[mask] = 80
    whole = appearance(image, mask)
    image[50:140:13, 70:180:13] = 255
    mask[50:140:13, 70:180:13] = False
    torch.testing.assert_close(appearance(image, mask).gray, whole.gray, atol=1e-3, rtol=0)
