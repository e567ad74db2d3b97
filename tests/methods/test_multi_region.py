"""``multi-region``: every documented statement, and mistakes that must be impossible."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from medsgssl.errors import ConfigError
from medsgssl.losses.region_contrast import (
    cover_of_cells,
    mean_over_present,
    region_nt_xent,
    weighted_pool,
)
from medsgssl.methods.base import small_map_warning
from medsgssl.methods.registry import configure, method_of
from medsgssl.ops.regions import ZONES

NAME = "multi-region"
CNN = "test_efficientnet"
TERMS = {"contrast": "lambda_global", "regions": "lambda_regions"}
REGIONS = ("lung", "zones")


@pytest.fixture
def batch_for(lung_batch):
    """A maker of batches with the views that the method asks for."""

    def make(regions: str, **changes):
        config = configure(NAME, {"method": {"regions": regions}, "encoder": {"pretrained": False}})
        return lung_batch(plan=method_of(config).pretrain_views(), **changes)

    return make


@pytest.mark.parametrize("regions", REGIONS)
@pytest.mark.parametrize("term", TERMS)
@pytest.mark.parametrize("encoder", [CNN, "test_vit", "resnet18", "vit_tiny_patch16_224"])
def test_every_term_is_finite_and_reaches_the_encoder(
    batch_for, make_task, term_checks, encoder, term, regions
) -> None:
    task, batch = make_task(NAME, encoder, regions=regions), batch_for(regions)
    assert task(batch, 0.0).loss.isfinite()
    assert term_checks.gradient(task, batch, term) > 0


@pytest.mark.parametrize("regions", REGIONS)
def test_every_parameter_is_trained(batch_for, make_task, regions) -> None:
    task = make_task(NAME, CNN, regions=regions)
    task(batch_for(regions), 0.0).loss.backward()
    assert [name for name, p in task.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize("term", TERMS)
def test_switching_a_term_off_changes_the_step_and_leaves_it_out(
    batch_for, make_task, term_checks, term
) -> None:
    batch, task = batch_for("lung"), make_task(NAME, CNN)
    without = make_task(NAME, CNN, **{TERMS[term]: 0.0})
    assert term not in without(batch, 0.0).losses
    assert term_checks.changes_step(task, without, batch)
    # What no term uses would wait for its gradient in distributed training.
    without(batch, 0.0).loss.backward()
    assert [n for n, p in without.named_parameters() if p.requires_grad and p.grad is None] == []
    assert all(p.requires_grad for p in task.projector.parameters())


def test_both_terms_off_is_an_error() -> None:
    with pytest.raises(ConfigError, match="one of lambda_global, lambda_regions must be above 0"):
        configure(NAME, {"method": {"lambda_global": 0.0, "lambda_regions": 0.0}})


@pytest.mark.parametrize("regions", REGIONS)
def test_gradient_reaches_the_encoder_through_every_region(batch_for, make_task, regions) -> None:
    task, batch = make_task(NAME, CNN, regions=regions), batch_for(regions)
    for number in range(len(task.names)):
        task.zero_grad(set_to_none=True)
        images, masks = task.augment_views(batch)
        losses_R, present_BR = task.region_losses(batch, task.encoder(images, masks).spatial)
        assert present_BR[:, number].any(), task.names[number]
        losses_R[number].backward()
        norm = sum(float(p.grad.norm()) for p in task.encoder.parameters() if p.grad is not None)
        assert norm > 0, task.names[number]


def zone_loss(task, batch, swap: bool = False) -> float:
    """The region loss of two views whose features are those of the body at each point."""
    maps_1, maps_2 = task.region_maps(batch).chunk(2)
    generator = torch.Generator().manual_seed(0)
    body = torch.randn(batch.size, len(ZONES), 32, generator=generator)
    # Each cell holds the mean feature of the zones it shows: an encoder that knows the anatomy.
    spatial = [
        torch.einsum("brhw,brd->bdhw", cover_of_cells(maps, (8, 8)), body)
        for maps in (maps_1, maps_2)
    ]
    if swap:
        order = [3, 4, 5, 0, 1, 2, 6]
        maps_2 = maps_2[:, order]
    pooled = [
        torch.nn.functional.normalize(weighted_pool(s, cover_of_cells(m, (8, 8))), dim=2)
        for s, m in zip(spatial, (maps_1, maps_2), strict=True)
    ]
    present = (maps_1.mean(dim=(2, 3)) > 0.01) & (maps_2.mean(dim=(2, 3)) > 0.01)
    losses = region_nt_xent(pooled[0], pooled[1], present, 0.2)
    return float(mean_over_present(losses, present))


def test_swapping_left_and_right_in_one_view_raises_the_loss(batch_for, make_task) -> None:
    task = make_task(NAME, CNN, regions="zones")
    for seed in range(4):
        batch = batch_for("zones", seed=seed)
        assert zone_loss(task, batch, swap=True) > zone_loss(task, batch) + 1


def test_a_flipped_view_keeps_the_patients_left_and_right(batch_for, make_task) -> None:
    task, batch = make_task(NAME, CNN, regions="zones"), batch_for("zones", count=12)
    assert batch.flipped[:, :2].any()
    assert not batch.flipped[:, :2].all()
    maps = task.region_maps(batch)
    columns = torch.arange(maps.shape[-1]).float()
    flipped = torch.cat([batch.flipped[:, 0], batch.flipped[:, 1]])
    right, left = maps[:, 1].sum(dim=1), maps[:, 4].sum(dim=1)
    both = (right.sum(dim=1) > 0) & (left.sum(dim=1) > 0)
    right, left = ((m * columns).sum(dim=1) / m.sum(dim=1).clamp_min(1) for m in (right, left))
    assert torch.equal((right > left)[both], flipped[both])


def test_zones_are_those_of_the_lungs_in_every_view(batch_for, make_task) -> None:
    task, batch = make_task(NAME, CNN, regions="zones"), batch_for("zones", count=12)
    maps = task.region_maps(batch)
    lungs = maps[:, :6].sum(dim=1) > 0
    masks = torch.cat([batch.masks[:, 0], batch.masks[:, 1]])
    assert ((lungs & masks).sum() / (lungs | masks).sum()) > 0.85
    assert torch.equal(maps, make_task("anatomy-contrast", CNN).region_maps(batch, 2))


def test_constant_masks_do_not_reduce_the_loss_to_a_constant_factor(batch_for, make_task) -> None:
    # The same half of every view: a mask that only scaled the features would cancel in NT-Xent.
    task, ratios, cosines = make_task(NAME, CNN), [], []
    for seed in range(3):
        batch = batch_for("lung", seed=seed)
        half = torch.zeros_like(batch.masks)
        half[..., : half.shape[-1] // 2] = True
        gradients, losses = [], []
        for term in TERMS:
            task.zero_grad(set_to_none=True)
            loss = task(replace(batch, masks=half), 0.0).losses[term]
            loss.backward()
            losses.append(float(loss.detach()))
            gradients.append(
                torch.cat([p.grad.flatten() for p in task.encoder.backbone.parameters()])
            )
        ratios.append(losses[1] / losses[0])
        cosines.append(float(torch.nn.functional.cosine_similarity(*gradients, dim=0)))
    assert max(ratios) - min(ratios) > 1e-2
    assert max(cosines) < 0.99


def test_an_absent_region_gives_no_loss_and_no_gradient(batch_for, make_task) -> None:
    task, batch = make_task(NAME, CNN), batch_for("lung")
    masks = batch.masks.clone()
    masks[0, 1] = False  # No lung in the second view of the first image.
    changed = replace(batch, masks=masks)
    spatial = torch.rand(8, task.encoder.backbone.num_features, 4, 4, requires_grad=True)
    losses, present = task.region_losses(changed, spatial)
    assert present[0].tolist() == [False, True]
    losses[0].backward()
    only_lung = cover_of_cells(masks[0, 0][None, None].float(), (4, 4))[0, 0] == 1
    assert only_lung.any()
    assert (spatial.grad[0][:, only_lung] == 0).all()


def test_a_batch_without_any_region_gives_zero_loss_and_gradient(batch_for, make_task) -> None:
    task, batch = make_task(NAME, CNN, min_area=0.99), batch_for("lung")
    task.zero_grad(set_to_none=True)
    term = task(batch, 0.0).losses["regions"]
    term.backward()
    assert term == 0
    grads = [p.grad for p in task.encoder.parameters() if p.grad is not None]
    assert all((g == 0).all() for g in grads)


@pytest.mark.parametrize("regions", REGIONS)
def test_the_encoder_is_shown_all_views_as_they_are(batch_for, make_task, regions) -> None:
    task, batch = make_task(NAME, CNN, regions=regions), batch_for(regions)
    assert batch.images.shape[1] == (3 if regions == "zones" else 2)
    assert torch.equal(task.encoder_input(batch), batch.images)


@pytest.mark.parametrize("regions", REGIONS)
def test_the_regions_of_a_test_view_are_those_of_pretraining(batch_for, make_task, regions) -> None:
    config = configure(NAME, {"method": {"regions": regions}, "encoder": {"pretrained": False}})
    masks = batch_for("zones").masks[:, 2]
    names, maps = method_of(config).test_regions(masks)
    assert names == make_task(NAME, CNN, regions=regions).names
    assert maps.shape == (4, len(names), 64, 64)
    lungs = maps[:, 0] if regions == "lung" else maps[:, :6].sum(dim=1)
    assert torch.equal(lungs > 0, masks)


@pytest.mark.parametrize(("name", "regions"), [(NAME, "lung"), ("anatomy-contrast", "zones")])
def test_a_region_of_exactly_the_smallest_area_takes_part(
    batch_for, make_task, monkeypatch: pytest.MonkeyPatch, name, regions
) -> None:
    task, batch = make_task(name, CNN, min_area=1 / 64), batch_for(regions)
    count = 2 if name == NAME else 3
    maps = torch.zeros(count * 4, 2, 64, 64)
    maps[:, :, :8, :8] = 1
    maps[0, 0, 0, 0] = 0  # one pixel less, in the first view of the first image
    monkeypatch.setattr(task, "region_maps", lambda *given: maps)
    spatial = torch.rand(count * 4, task.encoder.map_channels, 8, 8)
    present = task.region_losses(batch, spatial)[1]
    assert not present[0, 0]
    assert present.sum() == present.numel() - 1


@pytest.mark.parametrize(
    ("name", "small", "large"),
    [
        (NAME, 64, 128),  # 2 x 2 and 4 x 4 cells
        ("adaptive-pathology", 64, 128),
        ("anatomy-contrast", 64, 128),
        ("attention-prior", 32, 64),  # the gated stage is twice as fine
        ("simclr", None, 64),
    ],
)
def test_a_map_too_small_to_be_read_is_warned_of(name: str, small: int | None, large: int) -> None:
    def warned(size: int) -> bool:
        tree = {"encoder": {"name": CNN, "pretrained": False}, "data": {"img_size": size}}
        return any("feature map of" in text for text in method_of(configure(name, tree)).check())

    assert small_map_warning((2, 8), configure(name))
    assert small is None or warned(small)
    assert not warned(large)


@pytest.mark.parametrize("regions", REGIONS)
def test_whole_image_masks_without_quality_work(batch_for, make_task, regions) -> None:
    task = make_task(NAME, CNN, regions=regions)
    output = task(batch_for(regions, whole_mask=True, quality=0.0), 0.0)
    assert output.loss.isfinite()
    assert output.losses["regions"] > 0
