"""The package's own combination: each of its terms, its zones, and what its masks decide."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import pytest
import torch

from medsgssl.errors import ConfigError
from medsgssl.losses.nt_xent import nt_xent_loss
from medsgssl.losses.region_contrast import region_nt_xent
from medsgssl.methods.registry import configure, method_of
from medsgssl.ops.regions import ZONES
from medsgssl.transforms.lung_crops import InLungBox

NAME = "anatomy-contrast"
CNN = "test_efficientnet"
TERMS = {"contrast": "lambda_crops", "global": "lambda_global", "regions": "lambda_regions"}


def method(**tree):
    return method_of(configure(NAME, {"encoder": {"pretrained": False}, **tree}))


@pytest.fixture
def zone_batch(lung_batch):
    """A maker of batches with the views that the method asks for."""

    def make(**changes):
        return lung_batch(plan=method().pretrain_views(), **changes)

    return make


@pytest.mark.parametrize("term", TERMS)
@pytest.mark.parametrize("encoder", [CNN, "test_vit", "resnet18", "vit_tiny_patch16_224"])
def test_every_term_is_finite_and_reaches_the_encoder(
    zone_batch, make_task, term_checks, encoder, term
) -> None:
    task, batch = make_task(NAME, encoder), zone_batch()
    assert task(batch, 0.0).loss.isfinite()
    assert term_checks.gradient(task, batch, term) > 0


@pytest.mark.parametrize("term", TERMS)
def test_switching_a_term_off_changes_the_step_and_leaves_no_parameter_without_gradient(
    zone_batch, make_task, term_checks, term
) -> None:
    batch, task = zone_batch(), make_task(NAME, CNN)
    without = make_task(NAME, CNN, **{TERMS[term]: 0.0})
    assert without(batch, 0.0).losses.keys() == set(TERMS) - {term}
    assert term_checks.changes_step(task, without, batch)
    without(batch, 0.0).loss.backward()
    assert [n for n, p in without.named_parameters() if p.requires_grad and p.grad is None] == []
    assert all(p.requires_grad for p in without.projector.parameters())


def test_without_its_term_the_frame_is_not_encoded(zone_batch, make_task) -> None:
    task, shown = make_task(NAME, CNN, lambda_global=0.0), []
    task.encoder.register_forward_pre_hook(lambda module, given: shown.append(given[0]))
    batch = zone_batch()
    task(batch, 0.0)
    assert len(shown) == 1
    assert torch.equal(shown[0], torch.cat([batch.images[:, 0], batch.images[:, 1]]))


def test_zones_alone_train_without_the_projector_of_views(zone_batch, make_task) -> None:
    task = make_task(NAME, CNN, lambda_crops=0.0, lambda_global=0.0)
    output = task(zone_batch(), 0.0)
    output.loss.backward()
    assert output.losses.keys() == {"regions"}
    assert not any(p.requires_grad for p in task.projector.parameters())
    assert [n for n, p in task.named_parameters() if p.requires_grad and p.grad is None] == []
    with pytest.raises(ConfigError, match="must be above 0"):
        configure(NAME, {"method": dict.fromkeys(TERMS.values(), 0.0)})


@pytest.mark.parametrize("negatives", ["all", "same-zone"])
def test_the_loss_is_that_of_the_pairs_of_views_and_of_their_zones(
    zone_batch, make_task, negatives
) -> None:
    task, batch = make_task(NAME, CNN, negatives=negatives), zone_batch()
    output = task(batch, 0.0)
    images = torch.cat([batch.images[:, v] for v in range(3)])
    features = task.encoder(images, None)
    one, two, frame = task.projector(features.pooled).chunk(3)
    with_frame = (nt_xent_loss(one, frame, 0.2) + nt_xent_loss(two, frame, 0.2)) / 2
    # By hand: mean features of the cells of each zone, weighted by how much of the zone they hold.
    maps = task.region_maps(batch, 3)
    side, cell = features.spatial.shape[-1], 64 // features.spatial.shape[-1]
    share = maps.reshape(12, 7, side, cell, side, cell).mean(dim=(3, 5))
    assert (share.sum(dim=(2, 3)) > 0).all()
    pooled = torch.einsum("nrhw,nchw->nrc", share, features.spatial)
    pooled = pooled / share.sum(dim=(2, 3))[:, :, None]
    z = task.region_projector(pooled.flatten(0, 1)).view(3, 4, 7, -1)
    here = (maps.mean(dim=(2, 3)) >= 0.02).view(3, 4, 7)
    assert here.all()
    zones = torch.stack([
        torch.stack([nt_xent_loss(z[a, :, r], z[b, :, r], 0.2) for r in range(7)]).mean()
        if negatives == "same-zone"
        else nt_xent_loss(z[a].flatten(0, 1), z[b].flatten(0, 1), 0.2)
        for a, b in combinations(range(3), 2)
    ])  # fmt: skip
    torch.testing.assert_close(output.losses["regions"], zones.mean())
    torch.testing.assert_close(
        output.loss, nt_xent_loss(one, two, 0.2) + 0.5 * with_frame + 0.5 * zones.mean()
    )


def test_negatives_of_the_same_zone_leave_other_zones_out() -> None:
    generator = torch.Generator().manual_seed(0)
    draw = lambda: torch.nn.functional.normalize(  # noqa: E731
        torch.randn(5, 3, 8, generator=generator), dim=2
    )
    z1, z2, present = draw(), draw(), torch.ones(5, 3, dtype=torch.bool)
    present[2, 1] = False
    got = region_nt_xent(z1, z2, present, 0.2, within_region=True)
    for number in range(3):
        keep = present[:, number]
        torch.testing.assert_close(
            got[number], nt_xent_loss(z1[keep, number], z2[keep, number], 0.2)
        )
    # Moving another zone's embeddings changes nothing.
    moved = torch.cat([z2[:, :1], draw()[:, 1:]], dim=1)
    assert region_nt_xent(z1, moved, present, 0.2, within_region=True)[0] == got[0]
    assert region_nt_xent(z1, moved, present, 0.2)[0] != region_nt_xent(z1, z2, present, 0.2)[0]


def test_zones_are_those_of_the_body_in_every_view(zone_batch, make_task) -> None:
    batch = zone_batch(count=12)
    task = make_task(NAME, CNN)
    maps = task.region_maps(batch, 3).view(3, 12, 7, 64, 64)
    upper, lower = (
        (m * torch.arange(64.0)[:, None]).sum(dim=(-2, -1)) / m.sum(dim=(-2, -1)).clamp_min(1)
        for m in (maps[:, :, 0], maps[:, :, 2])
    )
    both = (maps[:, :, 0].sum(dim=(-2, -1)) > 0) & (maps[:, :, 2].sum(dim=(-2, -1)) > 0)
    assert both[2].all()
    assert (lower > upper)[both].all()
    # Every zone lies in the frame, which is not flipped.
    assert (maps[2].sum(dim=(-2, -1)) > 0).all()
    assert not batch.flipped[:, 2].any()
    lungs = maps[:, :, :6].sum(dim=2) > 0
    masks = batch.masks.transpose(0, 1)
    assert ((lungs & masks).sum() / (lungs | masks).sum()) > 0.85


def test_an_untrusted_mask_has_no_zones_and_moves_no_other_image(zone_batch, make_task) -> None:
    task, batch = make_task(NAME, CNN), zone_batch()
    spatial = torch.rand(12, task.encoder.map_channels, 8, 8, requires_grad=True)
    doubtful = replace(batch, quality=torch.tensor([0.29, 0.3, 1.0, 1.0]))
    losses, present = task.region_losses(doubtful, spatial)
    assert present.view(3, 4, 7).any(dim=(0, 2)).tolist() == [False, True, True, True]
    losses.sum().backward()
    assert (spatial.grad.view(3, 4, -1)[:, 0] == 0).all()
    assert (spatial.grad.view(3, 4, -1)[:, 1:] != 0).any(dim=2).all()


def test_a_zone_that_one_view_alone_shows_is_contrasted_with_no_other(
    zone_batch, make_task, monkeypatch: pytest.MonkeyPatch
) -> None:
    task, batch = make_task(NAME, CNN).eval(), zone_batch()
    spatial = torch.rand(12, task.encoder.map_channels, 8, 8)
    maps = task.region_maps(batch, 3).view(3, 4, 7, 64, 64)
    maps[:2, 0, 1] = 0
    losses = []
    for shown in (True, False):
        maps[2, 0, 1] *= shown
        monkeypatch.setattr(task, "region_maps", lambda *given: maps.flatten(0, 1))
        found, present = task.region_losses(batch, spatial)
        assert present.view(3, 4, 7)[2, 0, 1] == shown
        losses.append(found)
    torch.testing.assert_close(losses[0], losses[1], rtol=0, atol=0)


def test_masks_without_any_trust_leave_the_contrast_of_whole_views(lung_batch, make_task) -> None:
    batch = lung_batch(plan=method().pretrain_views(), whole_mask=True, quality=0.0)
    task = make_task(NAME, CNN)
    output = task(batch, 0.0)
    assert output.losses["regions"] == 0
    assert term_norm(output.losses["contrast"], task) > 0


def term_norm(term, task) -> float:
    grads = torch.autograd.grad(term, list(task.encoder.backbone.parameters()), allow_unused=True)
    return sum(float(g.norm()) for g in grads if g is not None)


def test_fine_tuning_and_test_see_what_direct_sees_in_the_same_frame() -> None:
    assert type(method()).plain_input()
    direct = method_of(
        configure("direct", {"views": {"frame": "lung-box"}, "encoder": {"pretrained": False}})
    )
    assert method().test_views() == direct.test_views()
    assert method().finetune_views() == direct.finetune_views()
    assert all(isinstance(view.crop, InLungBox) for view in method().pretrain_views())
    whole = method(views={"frame": "image"}).pretrain_views()
    assert not any(isinstance(view.crop, InLungBox) for view in whole)


def test_saliency_weighs_images_where_asked(zone_batch, make_task) -> None:
    batch = zone_batch(quality=[1.0, 0.7, 0.4, 0.9])
    even, weighted = make_task(NAME, CNN), make_task(NAME, CNN, weighted=True)
    assert even.image_weights(batch) is None
    weighted.norms.train()(*batch.view(-1))
    weighted.norms.eval()
    weights = weighted.image_weights(batch)
    assert weights.shape == (4,)
    assert weights.unique().numel() == 4
    torch.testing.assert_close(weights.mean(), torch.tensor(1.0))
    # Of the whole frame, the last view.
    scores = weighted.norms(batch.images[:, 2], batch.masks[:, 2]).scores
    torch.testing.assert_close(weights, 4 * torch.softmax(batch.quality * scores / 4.0, dim=0))
    one, two = (task(batch, 0.0).losses for task in (even, weighted))
    assert one["contrast"] != two["contrast"]
    assert one["global"] != two["global"]
    assert one["regions"] == two["regions"]
    images = torch.cat([batch.images[:, v] for v in range(3)])
    first, second, _ = weighted.projector(weighted.encoder(images, None).pooled).chunk(3)
    torch.testing.assert_close(two["contrast"], nt_xent_loss(first, second, 0.2, weights))


def test_pooling_for_embed_names_the_zones(zone_batch) -> None:
    names, maps = method().test_regions(zone_batch().masks[:, 2])
    assert names == ZONES
    assert maps.shape[:2] == (4, 7)


def test_without_zones_no_map_is_too_small_for_them() -> None:
    small = {"encoder": {"name": CNN, "pretrained": False}, "data": {"img_size": 64}}
    off = {**small, "method": {"lambda_regions": 0.0}}
    assert not any("feature map" in text for text in method(**off).check())
