"""Zones on tensors agree with those of the mask stage, in any view; pooling is a weighted mean."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medsgssl.data.synthetic.render import render_phantom
from medsgssl.losses.region_contrast import (
    cover_of_cells,
    mean_over_present,
    region_nt_xent,
    replace_absent,
    weighted_pool,
)
from medsgssl.masks.regions import Region, label_regions
from medsgssl.ops.coordinates import chained, read_map, view_to_frame
from medsgssl.ops.regions import ZONES, lung_and_rest, lung_columns, zones_of_images, zones_of_views
from medsgssl.transforms.affine import Crop, warp_mask, whole

SIZE = 96


def phantom_mask(index: int) -> np.ndarray:
    phantom = render_phantom(3, index, SIZE)
    return phantom.right_lung | phantom.left_lung


def labels_of(zones: torch.Tensor) -> np.ndarray:
    """The label map (values of Region) of one image's zone maps."""
    return torch.where(zones.any(dim=0), zones.argmax(dim=0) + 1, 0).numpy()


def affine_of(crop: Crop) -> torch.Tensor:
    return torch.from_numpy(crop.affine(SIZE)).float()[None]


def test_the_channels_are_the_regions_of_the_mask_stage() -> None:
    # The lung behind the heart is a region of masks alone: views hold it in the mediastinum.
    names = [region.name.lower().replace("_", " ") for region in Region]
    assert ["outside", *ZONES, "behind heart"] == names


@pytest.mark.parametrize("index", range(6))
def test_zones_agree_with_those_of_the_mask_stage(index: int) -> None:
    mask = phantom_mask(index)
    ours = labels_of(zones_of_images(torch.from_numpy(mask)[None])[0])
    theirs = warp_mask(label_regions(mask), whole(SIZE).affine(64), 64)
    assert (ours == theirs).mean() > 0.95


@settings(max_examples=40, deadline=None)
@given(
    crop=st.builds(
        Crop,
        x=st.floats(30, 66),
        y=st.floats(30, 66),
        width=st.floats(40, 96),
        height=st.floats(40, 96),
        rotation=st.floats(-20, 20),
        flip=st.booleans(),
    ),
    index=st.integers(0, 3),
)
def test_zones_keep_their_names_under_any_flip_and_rotation(crop: Crop, index: int) -> None:
    mask = phantom_mask(index)
    zones = zones_of_views(
        torch.from_numpy(mask)[None], affine_of(crop), affine_of(whole(SIZE)), SIZE, SIZE
    )
    theirs = warp_mask(label_regions(mask), crop.affine(SIZE), SIZE)
    assert (labels_of(zones[0]) == theirs).mean() > 0.85


def test_a_flip_puts_the_patients_left_on_the_left_of_the_view() -> None:
    mask = torch.from_numpy(phantom_mask(0))[None]
    frame = affine_of(whole(SIZE))
    left = ZONES.index("left middle")
    columns = torch.arange(SIZE).float()
    for flip in (False, True):
        crop = Crop(47.5, 47.5, SIZE, SIZE, flip=flip)
        zone = zones_of_views(mask, affine_of(crop), frame, SIZE, SIZE)[0, left]
        center = (zone.sum(dim=0) * columns).sum() / zone.sum()
        assert set(zone.unique().tolist()) == {0.0, 1.0}  # also where cells are no pixels
        assert (center < SIZE / 2) == flip


def test_a_whole_image_mask_has_six_zones_and_no_mediastinum() -> None:
    area = zones_of_images(torch.ones(1, SIZE, SIZE, dtype=torch.bool)).sum(dim=(2, 3))[0]
    assert (area[:6] > 500).all()
    assert area[6] == 0


def parting_column(lung: np.ndarray) -> int:
    """The definition: of the middle third's columns the thinnest, and of equals the middle one."""
    first, last = np.flatnonzero(lung.any(axis=0))[[0, -1]]
    middle, third = (first + last + 1) / 2, (last - first + 1) / 3
    # A column more on either side, so that there is one in narrow boxes too.
    inner = [c for c in range(lung.shape[1]) if abs(c - middle) <= third / 2 + 1]
    return min(inner, key=lambda c: (lung[:, c].sum(), abs(c - middle)))


def joined_lungs(seed: int) -> np.ndarray:
    """Random columns of lung, 128 x 128, so that sides differ and the thinnest may lie anywhere."""
    rng = np.random.default_rng(seed)
    mask = np.zeros((128, 128), bool)
    first, last = rng.integers(0, 50), rng.integers(70, 128)
    for column in range(first, last + 1):
        top = rng.integers(10, 60)
        mask[top : top + rng.integers(6, 60), column] = True
    return mask


def like_a_hill(mask: np.ndarray) -> np.ndarray:
    """Columns that are thinner the further out they lie, so that the outermost one is wanted."""
    first, last = np.flatnonzero(mask.any(axis=0))[[0, -1]]
    off = np.abs(np.arange(mask.shape[1]) - (first + last) / 2)
    return mask.any(axis=0) & (np.arange(mask.shape[0])[:, None] < 120 - off)


@pytest.mark.parametrize("shape", ["random", "equal", "hill"])
def test_lungs_part_at_the_thinnest_column_near_the_middle(shape: str) -> None:
    for seed in range(30):
        mask = joined_lungs(seed)
        if shape == "equal":
            mask[:] = mask.any(axis=0)
        elif shape == "hill":
            mask = like_a_hill(mask)
        # A cell of the zones is lung where at least half of it is.
        lung = mask.reshape(64, 2, 64, 2).mean(axis=(1, 3)) >= 0.5
        zones = zones_of_images(torch.from_numpy(mask)[None])[0].numpy()
        columns = np.arange(64) < parting_column(lung)
        assert np.array_equal(zones[:3].any(axis=0), lung & columns)
        assert np.array_equal(zones[3:6].any(axis=0), lung & ~columns)


def test_zones_are_thirds_of_the_height_of_each_lung() -> None:
    for height in range(6, 40):
        mask = np.zeros((64, 64), bool)
        mask[10 : 10 + height, 5:25] = True
        mask[20 : 20 + height // 2, 40:60] = True
        zones = zones_of_images(torch.from_numpy(mask)[None])[0].numpy()
        for lung, rows in ((zones[:3], height), (zones[3:6], height // 2)):
            counted = lung.any(axis=2).sum(axis=1)
            assert counted.tolist() == np.bincount(np.arange(rows) * 3 // rows).tolist()


def test_zones_of_a_batch_are_those_of_each_image() -> None:
    masks = torch.from_numpy(
        np.stack([phantom_mask(0), phantom_mask(1), joined_lungs(0)[:96, :96]])
    )
    for mask, zones in zip(masks, zones_of_images(masks), strict=True):
        assert torch.equal(zones_of_images(mask[None])[0], zones)


def test_an_empty_mask_has_no_zone() -> None:
    assert zones_of_images(torch.zeros(1, SIZE, SIZE, dtype=torch.bool)).sum() == 0


def test_the_columns_that_hold_lung_are_the_first_and_the_last() -> None:
    masks = torch.zeros(4, 6, 8, dtype=torch.bool)
    masks[0, 2, 3] = masks[0, 5, 6] = True
    masks[1, 4, 7] = True
    masks[2] = True
    first, last = lung_columns(masks)
    assert first.tolist() == [3, 7, 0, 0]
    assert last.tolist() == [6, 7, 7, 7]  # all columns where no lung says otherwise


def test_lung_and_rest_share_out_every_pixel() -> None:
    masks = torch.from_numpy(phantom_mask(1))[None]
    maps = lung_and_rest(masks)
    assert torch.equal(maps[:, 0] > 0, masks)
    assert (maps.sum(dim=1) == 1).all()


def test_a_view_read_in_its_own_frame_is_itself() -> None:
    crop = Crop(40, 50, 60, 66, rotation=9, flip=True)
    theta = view_to_frame(affine_of(crop), affine_of(crop), SIZE)
    image = torch.rand(1, 1, SIZE, SIZE)
    torch.testing.assert_close(read_map(image, theta, SIZE, "bilinear"), image, atol=1e-3, rtol=0)


def test_chained_maps_apply_the_inner_one_first() -> None:
    outer = torch.tensor([[[2.0, 0.0, 1.0], [0.0, 3.0, -1.0]]])
    inner = torch.tensor([[[0.0, 1.0, 0.5], [1.0, 0.0, 0.25]]])
    point = torch.tensor([0.1, 0.7, 1.0])
    moved = torch.cat([inner[0] @ point, torch.ones(1)])
    torch.testing.assert_close(chained(outer, inner)[0] @ point, outer[0] @ moved)


def test_pooling_is_the_mean_of_the_cells_weighted_by_cover() -> None:
    spatial, regions = torch.rand(3, 5, 2, 2), (torch.rand(3, 4, 16, 16) > 0.5).float()
    pooled = weighted_pool(spatial, cover_of_cells(regions, (2, 2))).numpy()
    for n in range(3):
        for r in range(4):
            cover = regions[n, r].numpy().reshape(2, 8, 2, 8).mean(axis=(1, 3))
            want = (spatial[n].numpy() * cover).sum(axis=(1, 2)) / cover.sum()
            np.testing.assert_allclose(pooled[n, r], want, rtol=1e-5)


def test_pooling_an_empty_region_gives_zeros() -> None:
    assert weighted_pool(torch.rand(1, 5, 2, 2), torch.zeros(1, 1, 2, 2)).abs().sum() == 0


def test_pooling_needs_no_large_weights() -> None:
    spatial, weights = torch.rand(1, 5, 2, 2), torch.tensor([[[[0.0, 0.2], [0.1, 0.0]]]])
    wanted = (spatial * weights).sum(dim=(2, 3)) / 0.3
    torch.testing.assert_close(weighted_pool(spatial, weights)[:, 0], wanted)


def numpy_region_loss(z1: np.ndarray, z2: np.ndarray, present: np.ndarray, t: float) -> np.ndarray:
    """The definition, one anchor at a time."""
    views, regions = (z1, z2), present.shape[1]
    items = [(v, i, r) for v in range(2) for i, r in np.argwhere(present)]
    losses = []
    for region in range(regions):
        terms = []
        for view, image, r in items:
            if r != region:
                continue
            anchor = views[view][image, r]
            sims = {
                (v, i, s): np.exp(anchor @ views[v][i, s] / t)
                for v, i, s in items
                if (v, i, s) != (view, image, r)
            }
            terms.append(-np.log(sims[1 - view, image, r] / sum(sims.values())))
        losses.append(np.mean(terms) if terms else 0.0)
    return np.array(losses)


@pytest.mark.parametrize("seed", range(5))
def test_region_loss_equals_a_plain_numpy_loss(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    z = torch.nn.functional.normalize(torch.randn(2, 4, 3, 8, generator=generator), dim=-1)
    present = torch.rand(4, 3, generator=generator) > 0.3
    present[:, 2] &= seed % 2 == 0
    got = region_nt_xent(z[0], z[1], present, 0.3)
    want = numpy_region_loss(z[0].numpy(), z[1].numpy(), present.numpy(), 0.3)
    np.testing.assert_allclose(got.numpy(), want, rtol=1e-4)


def test_absent_regions_give_no_loss_and_no_gradient() -> None:
    z1, z2 = (torch.randn(4, 3, 8, requires_grad=True) for _ in range(2))
    present = torch.tensor([[1, 0, 0], [1, 1, 0], [1, 1, 0], [1, 0, 0]]).bool()
    losses = region_nt_xent(z1, z2, present, 0.3)
    losses.sum().backward()
    assert losses[2] == 0
    for z in (z1, z2):
        assert (z.grad[~present] == 0).all()
        assert (z.grad[present].abs().sum(dim=1) > 0).all()


def test_no_region_at_all_gives_zero_and_zero_gradient() -> None:
    z1, z2 = (torch.randn(2, 3, 8, requires_grad=True) for _ in range(2))
    losses = region_nt_xent(z1, z2, torch.zeros(2, 3, dtype=torch.bool), 0.3)
    losses.sum().backward()
    assert (losses == 0).all()
    assert z1.grad.abs().sum() == 0


def test_the_same_region_of_other_images_alone_can_be_the_negatives() -> None:
    z1, z2 = torch.nn.functional.normalize(torch.randn(2, 5, 3, 8), dim=-1)
    present = torch.tensor([[1, 1, 0], [1, 1, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]]).bool()
    got = region_nt_xent(z1, z2, present, 0.3, within_region=True)
    for region in range(3):
        alone = (one[:, region : region + 1].numpy() for one in (z1, z2, present))
        np.testing.assert_allclose(got[region], numpy_region_loss(*alone, 0.3)[0], rtol=1e-4)


def test_the_mean_runs_over_regions_that_occur() -> None:
    losses = torch.tensor([2.0, 3.0, 0.0])
    present = torch.tensor([[True, True, False], [True, False, False]])
    assert mean_over_present(losses, present) == 2.5
    assert mean_over_present(losses[:1], present[:, :1]) == 2.0
    assert mean_over_present(losses[2:], present[:, 2:]) == 0.0


def test_an_absent_region_is_replaced_by_its_images_present_ones() -> None:
    pooled = torch.rand(3, 3, 4, requires_grad=True)
    present = torch.tensor([[True, True, False], [False, False, False], [False, True, False]])
    replaced = replace_absent(pooled, present)
    torch.testing.assert_close(replaced[0, 2], pooled[0, :2].mean(dim=0))
    assert torch.equal(replaced[0, :2], pooled[0, :2])
    torch.testing.assert_close(replaced[1], pooled[1].mean(dim=0).expand(3, -1))
    assert torch.equal(replaced[2], pooled[2, 1].expand(3, -1))
    replaced.square().sum().backward()
    assert (pooled.grad[~present] == 0).all()


def test_autocast_does_not_move_a_zone() -> None:
    masks = torch.from_numpy(phantom_mask(0))[None]
    affine, frame = affine_of(Crop(40, 50, 60, 66, rotation=9)), affine_of(whole(SIZE))
    exact = zones_of_views(masks, affine, frame, SIZE, SIZE)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(zones_of_views(masks, affine, frame, SIZE, SIZE), exact)
