"""Saliency is a function of lung pixels alone, in units of the image's own lung."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from medsgssl.data.synthetic.render import render_phantom
from medsgssl.ops.coordinates import view_to_mirror
from medsgssl.ops.regions import lung_columns
from medsgssl.ops.saliency import Saliency, lung_saliency
from medsgssl.transforms.affine import Crop, warp_image, warp_mask, whole

SIZE = 224
SCALES = (0.036, 0.071, 0.143)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def phantom(index: int, *findings: str) -> tuple[np.ndarray, np.ndarray]:
    drawn = render_phantom(1, index, SIZE, findings)
    return drawn.image, drawn.right_lung | drawn.left_lung


def saliency(image: np.ndarray, mask: np.ndarray, crop: Crop | None = None) -> Saliency:
    """The saliency of one view of an image."""
    affine = (crop or whole(SIZE)).affine(SIZE)
    first, last = lung_columns(torch.from_numpy(mask)[None])
    mirror = view_to_mirror(torch.from_numpy(affine).float()[None], (first + last) / 2, SIZE)
    view = torch.from_numpy(warp_image(image, affine, SIZE))[None, None].float() / 255
    lung = torch.from_numpy(warp_mask(mask.astype(np.uint8), affine, SIZE))[None] > 0
    return lung_saliency(view, lung, mirror, SCALES, 0.005, 6.0)


def plant_nodule(image: np.ndarray, mask: np.ndarray, radius: int = 7) -> np.ndarray:
    """A soft bright disc in the patient's right lung."""
    depth = cv2.distanceTransform((mask[:, : SIZE // 2]).astype(np.uint8), cv2.DIST_L2, 5)
    y, x = np.unravel_index(depth.argmax(), depth.shape)
    spot = np.zeros((SIZE, SIZE), np.float32)
    cv2.circle(spot, (int(x), int(y)), radius, 60, -1)
    return np.clip(image + cv2.GaussianBlur(spot, (0, 0), 1.5), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("index", range(4))
def test_a_nodule_raises_the_score_and_is_the_most_salient_place(index: int) -> None:
    image, mask = phantom(index)
    planted = plant_nodule(image, mask)
    before, after = saliency(image, mask), saliency(planted, mask)
    assert after.scores[0] > before.scores[0] + 0.05
    change = (planted.astype(int) - image) > 30
    y, x = np.nonzero(change)
    rise = (after.maps - before.maps)[0]
    row, column = divmod(int(rise.argmax()), rise.shape[1])
    assert np.hypot(2 * row - y.mean(), 2 * column - x.mean()) < 12


@pytest.mark.parametrize("finding", ["Mass", "Consolidation", "Effusion"])
def test_a_large_opacity_raises_the_score(finding: str) -> None:
    for index in range(3):
        healthy, ill = saliency(*phantom(index)), saliency(*phantom(index, finding))
        assert ill.scores[0] > healthy.scores[0]


@pytest.mark.parametrize("outside", ["marker", "wire", "skin line", "noise"])
def test_nothing_outside_the_lungs_changes_anything(outside: str) -> None:
    image, mask = phantom(0)
    changed = image.copy()
    if outside == "marker":
        changed[5:25, 5:30] = 255
    elif outside == "wire":
        cv2.line(changed, (0, 0), (SIZE - 1, SIZE - 1), 255, 3)
    elif outside == "skin line":
        changed[:, :4] = changed[:, -4:] = 255
    else:
        changed = np.random.default_rng(0).integers(0, 256, image.shape, dtype=np.uint8)
    changed[mask] = image[mask]
    before, after = saliency(image, mask), saliency(changed, mask)
    assert torch.equal(before.maps, after.maps)
    assert torch.equal(before.scores, after.scores)


def test_a_change_of_exposure_changes_little() -> None:
    image, mask = phantom(2)
    darker = (image * 0.7 + 20).astype(np.uint8)
    torch.testing.assert_close(
        saliency(darker, mask).scores, saliency(image, mask).scores, rtol=0.05, atol=0
    )


def test_mirror_images_have_no_asymmetry_and_one_sided_shadows_do() -> None:
    mask = np.zeros((SIZE, SIZE), bool)
    mask[40:180, 30:90] = mask[40:180, 134:194] = True
    image = np.tile(np.linspace(40, 90, SIZE).astype(np.uint8)[:, None], (1, SIZE))
    shadow = image.copy()
    shadow[60:160, 30:90] += 60
    even, uneven = saliency(image, mask).maps[0], saliency(shadow, mask).maps[0]
    place = (slice(45, 65), slice(22, 38))
    mirrored = (slice(45, 65), slice(74, 90))
    assert even[place].max() < 0.5
    assert uneven[place].min() > 1
    assert uneven[mirrored].max() < 0.5


def test_a_rotated_and_flipped_view_is_as_salient_as_the_upright_one() -> None:
    image, mask = phantom(1, "Mass")
    upright = saliency(image, mask).scores
    for crop in (
        Crop(111.5, 111.5, SIZE, SIZE, flip=True),
        Crop(111.5, 111.5, SIZE, SIZE, rotation=10),
    ):
        torch.testing.assert_close(saliency(image, mask, crop).scores, upright, rtol=0.15, atol=0)


def test_a_view_without_lung_scores_zero() -> None:
    image, mask = phantom(0)
    found = saliency(image, np.zeros_like(mask))
    assert found.scores[0] == 0
    assert (found.maps == 0).all()
