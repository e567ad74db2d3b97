"""``masked-contrastive``: every statement of its documentation."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from medsgssl.losses.nt_xent import nt_xent_loss
from medsgssl.methods.masked_contrastive import MaskedContrastiveSettings, hide_lung_blocks
from medsgssl.methods.registry import configure, method_of
from medsgssl.ops.patch_grid import cell_cover

NAME = "masked-contrastive"
CNN = "test_efficientnet"
SIZE, CELLS = 64, 14


def hidden_of(batch, **own):
    """Both views of a batch, hidden: images before and after, masks and hidden pixels."""
    torch.manual_seed(3)
    images, masks = batch.images.flatten(0, 1), batch.masks.flatten(0, 1)
    after, hidden = hide_lung_blocks(images, masks, MaskedContrastiveSettings(**own))
    return images, after, masks, hidden


def hidden_cells(hidden: torch.Tensor) -> torch.Tensor:
    """Which cells are hidden; a cell is hidden as a whole or not at all."""
    edges = torch.arange(SIZE) * CELLS // SIZE
    cells = torch.zeros(len(hidden), CELLS, CELLS)
    for row in range(CELLS):
        for column in range(CELLS):
            part = hidden[:, edges == row][:, :, edges == column].flatten(1).float().mean(dim=1)
            assert ((part == 0) | (part == 1)).all()
            cells[:, row, column] = part
    return cells > 0


def test_only_lung_cells_are_hidden(lung_batch) -> None:
    _, _, masks, hidden = hidden_of(lung_batch(count=16))
    lung = cell_cover(masks, CELLS) >= 0.3
    cells = hidden_cells(hidden)
    assert cells.any()
    assert not (cells & ~lung).any()
    assert (cell_cover(masks, CELLS)[cells] >= 0.3).all()


def test_the_two_views_hide_different_cells_even_of_the_same_picture(lung_batch) -> None:
    batch = lung_batch(count=8)
    same = replace(
        batch,
        images=batch.images[:, :1].repeat(1, 2, 1, 1, 1),
        masks=batch.masks[:, :1].repeat(1, 2, 1, 1),
    )
    cells = hidden_cells(hidden_of(same)[3]).view(8, 2, CELLS, CELLS)
    lung = cell_cover(same.masks[:, 0], CELLS) >= 0.3
    assert (lung.flatten(1).sum(dim=1) > 10).all()
    assert (cells[:, 0] != cells[:, 1]).flatten(1).any(dim=1).all()
    shares = cells.flatten(2).sum(dim=2) / lung.flatten(1).sum(dim=1)[:, None]
    assert len(torch.unique(shares)) > 8


def test_the_hidden_share_of_lung_cells_lies_between_its_bounds(lung_batch) -> None:
    default = configure(NAME).method
    assert default.mask_ratio == (0.2, 0.5)
    shares = []
    for seed in range(6):
        _, _, masks, hidden = hidden_of(lung_batch(count=8, seed=seed))
        lung = (cell_cover(masks, CELLS) >= 0.3).flatten(1).sum(dim=1)
        share = hidden_cells(hidden).flatten(1).sum(dim=1) / lung.clamp_min(1)
        # The number of cells is rounded.
        slack = 0.5 / lung.clamp_min(1)
        assert ((share >= 0.2 - slack - 1e-6) & (share <= 0.5 + slack + 1e-6)).all()
        shares.append(share)
    spread = torch.cat(shares)
    assert spread.min() < 0.26
    assert spread.max() > 0.44


def test_hidden_pixels_are_the_lung_mean_plus_noise_and_the_rest_is_untouched(lung_batch) -> None:
    images, after, masks, hidden = hidden_of(lung_batch(count=8), fill_noise=0.05)
    assert torch.equal(after[:, 0][~hidden], images[:, 0][~hidden])
    deviations = []
    for number in range(len(images)):
        mean = images[number, 0][masks[number]].mean()
        outside = images[number, 0][~masks[number]].mean()
        fill = after[number, 0][hidden[number]]
        assert abs(fill.mean() - mean) < 0.02 < abs(outside - mean)
        deviations.append(fill - mean)
    assert torch.cat(deviations).std() == pytest.approx(0.05, rel=0.1)


def test_without_noise_hidden_pixels_are_exactly_the_lung_mean(lung_batch) -> None:
    images, after, masks, hidden = hidden_of(lung_batch(), fill_noise=0.0)
    for number in range(len(images)):
        fill = after[number, 0][hidden[number]]
        assert torch.allclose(fill, images[number, 0][masks[number]].mean(), atol=1e-5)


def test_a_view_without_lung_comes_back_unchanged(lung_batch) -> None:
    batch = lung_batch()
    masks = batch.masks.clone()
    masks[1] = False
    images, after, _, hidden = hidden_of(replace(batch, masks=masks))
    assert torch.equal(images[2:4], after[2:4])
    assert not hidden[2:4].any()
    assert hidden[:2].any()


def test_a_cell_with_exactly_the_smallest_share_of_lung_is_a_lung_block() -> None:
    masks = torch.zeros(2, SIZE, SIZE, dtype=torch.bool)
    masks[0, ::2, ::2] = True  # a quarter of each of the 8 x 8 cells
    masks[1, ::2, ::4] = True
    images = torch.rand(2, 1, SIZE, SIZE)
    settings = MaskedContrastiveSettings(cells=8, min_lung_fraction=0.25)
    hidden = hide_lung_blocks(images, masks, settings)[1]
    assert hidden.flatten(1).any(dim=1).tolist() == [True, False]


def test_a_lung_of_one_pixel_has_that_pixels_mean() -> None:
    images, masks = torch.rand(1, 1, 16, 16), torch.zeros(1, 16, 16, dtype=torch.bool)
    masks[0, 3, 5] = True
    settings = MaskedContrastiveSettings(cells=16, mask_ratio=(1.0, 1.0), fill_noise=0.0)
    after, hidden = hide_lung_blocks(images, masks, settings)
    assert torch.equal(hidden, masks)
    torch.testing.assert_close(after, images)


@pytest.mark.parametrize("level", [0.0, 1.0])
def test_hidden_pixels_stay_in_the_range_of_images(level: float) -> None:
    images, masks = torch.full((2, 1, 64, 64), level), torch.ones(2, 64, 64, dtype=torch.bool)
    after, hidden = hide_lung_blocks(images, masks, MaskedContrastiveSettings(fill_noise=0.2))
    fill = after[:, 0][hidden]
    assert fill.min() >= 0
    assert fill.max() <= 1
    assert fill.unique().numel() > 100


def test_a_view_with_too_little_lung_in_every_cell_comes_back_unchanged(lung_batch) -> None:
    batch = lung_batch()
    sparse = torch.zeros_like(batch.masks)
    sparse[..., ::4, ::4] = True
    images, after, _, hidden = hidden_of(replace(batch, masks=sparse))
    assert torch.equal(images, after)
    assert not hidden.any()


def test_each_view_is_hidden_by_its_own_mask(lung_batch, make_task) -> None:
    task, batch = make_task(NAME, CNN), lung_batch()
    masks = torch.zeros_like(batch.masks)
    masks[:, 0, : SIZE // 2], masks[:, 1, SIZE // 2 :] = True, True
    torch.manual_seed(0)
    changed = (task.encoder_input(replace(batch, masks=masks)) != batch.images)[:, :, 0]
    assert changed[:, 0, : SIZE // 2].any()
    assert changed[:, 1, SIZE // 2 :].any()
    assert not changed[:, 0, SIZE // 2 :].any()
    assert not changed[:, 1, : SIZE // 2].any()


def loss_of(task, batch, quality: list[float]) -> torch.Tensor:
    torch.manual_seed(5)
    with torch.no_grad():
        return task(replace(batch, quality=torch.tensor(quality)), 0.0).loss


def test_equal_quality_gives_exactly_nt_xent(lung_batch, make_task) -> None:
    task, batch = make_task(NAME, CNN), lung_batch()
    torch.manual_seed(5)
    images, masks = task.augment_views(batch)
    with torch.no_grad():
        first, second = task.projector(task.encoder(images, masks).pooled).chunk(2)
        wanted = nt_xent_loss(first, second, task.temperature)
        for quality in (1.0, 0.4, 0.0):
            assert torch.equal(loss_of(task, batch, [quality] * 4), wanted)


def test_permuting_the_weights_changes_the_loss(lung_batch, make_task) -> None:
    task, batch = make_task(NAME, CNN), lung_batch()
    quality = [1.0, 0.3, 0.6, 0.1]
    assert not torch.equal(loss_of(task, batch, quality), loss_of(task, batch, quality[::-1]))


def test_the_loss_is_the_weighted_mean_of_each_images_terms(lung_batch, make_task) -> None:
    from medsgssl.losses.nt_xent import nt_xent_terms

    task, batch = make_task(NAME, CNN), lung_batch()
    quality = torch.tensor([1.0, 0.3, 0.6, 0.2])
    torch.manual_seed(5)
    with torch.no_grad():
        images, masks = task.augment_views(batch)
        first, second = task.projector(task.encoder(images, masks).pooled).chunk(2)
        terms = nt_xent_terms(first, second, task.temperature).view(2, 4).mean(dim=0)
    wanted = (quality * terms).sum() / quality.sum()
    assert float(loss_of(task, batch, quality.tolist())) == pytest.approx(float(wanted), rel=1e-5)


def test_images_of_no_quality_count_least(make_task, lung_batch) -> None:
    task = make_task(NAME, CNN)
    weights = task.image_weights(lung_batch(quality=[0.0, 0.2, 0.6, 1.0]))
    assert weights.argmin() == 0
    assert weights.tolist() == sorted(weights.tolist())
    assert 0 < weights[0] < weights[1]


def test_a_batch_without_trusted_masks_still_learns(lung_batch, make_task) -> None:
    task = make_task(NAME, CNN)
    output = task(lung_batch(quality=0.0), 0.0)
    output.loss.backward()
    assert output.loss.isfinite()
    assert sum(float(p.grad.norm()) for p in task.encoder.parameters()) > 0


def test_the_weights_carry_no_gradient(lung_batch, make_task) -> None:
    task, batch = make_task(NAME, CNN), lung_batch()
    quality = batch.quality.clone().requires_grad_()
    task(replace(batch, quality=quality), 0.0).loss.backward()
    assert quality.grad is None


def test_its_encoder_needs_no_mask_at_fine_tuning_and_test() -> None:
    tree = {"encoder": {"name": CNN, "pretrained": False}, "data": {"img_size": 64}}
    for no_pretrain in (False, True):
        assert not method_of(configure(NAME, tree, no_pretrain=no_pretrain)).encoder().needs_masks
