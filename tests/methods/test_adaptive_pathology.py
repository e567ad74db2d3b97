"""``adaptive-pathology``: every documented statement, and mistakes that must be impossible."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from medsgssl.config.schema import AugmentSettings
from medsgssl.losses.nt_xent import nt_xent_loss, nt_xent_terms
from medsgssl.methods.adaptive_pathology import anchor_weights, midline_columns, pooling_weights
from medsgssl.methods.registry import configure, method_of
from medsgssl.transforms.crops import RandomCrop, WholeImage
from medsgssl.transforms.view_spec import ViewSpec

NAME = "adaptive-pathology"
CNN = "test_efficientnet"
TERMS = {"contrast": None, "salient": "lambda_salient"}


@pytest.fixture
def plan():
    config = configure(NAME, {"encoder": {"pretrained": False}})
    return method_of(config).pretrain_views()


def weights_of(task, batch) -> torch.Tensor:
    """The weight of each image: the mean over its two views."""
    saliency = task.saliency(batch)
    weights = anchor_weights(saliency.scores, batch.quality, task._settings.saliency_temperature)
    return weights.view(2, -1).mean(dim=0)


def brighten(batch, image: int, place: torch.Tensor):
    """The batch with one image's pixels at ``place`` (B, V, S, S) bool brightened."""
    chosen = torch.zeros_like(place)
    chosen[image] = place[image]
    images = torch.where(chosen[:, :, None], (batch.images + 0.35).clamp_max(1), batch.images)
    return replace(batch, images=images)


def spot_in(masks: torch.Tensor) -> torch.Tensor:
    """A small square about the middle of the first lung of each view."""
    spots = torch.zeros_like(masks)
    for view in masks.flatten(0, 1).nonzero()[:, 0].unique():
        b, v = divmod(int(view), masks.shape[1])
        rows, columns = masks[b, v].nonzero(as_tuple=True)
        y = int(rows.float().mean())
        x = int(columns[rows == y].float().quantile(0.25))
        spots[b, v, y - 4 : y + 5, x - 4 : x + 5] = True
    return spots & masks


@pytest.mark.parametrize("term", TERMS)
@pytest.mark.parametrize("encoder", [CNN, "test_vit", "resnet18", "vit_tiny_patch16_224"])
def test_every_term_is_finite_and_reaches_the_encoder(
    lung_batch, plan, make_task, term_checks, encoder, term
) -> None:
    task, batch = make_task(NAME, encoder), lung_batch(plan=plan)
    assert task(batch, 0.0).loss.isfinite()
    assert term_checks.gradient(task, batch, term) > 0


def test_every_parameter_is_trained(lung_batch, plan, make_task) -> None:
    task = make_task(NAME, CNN)
    task(lung_batch(plan=plan), 0.0).loss.backward()
    assert [name for name, p in task.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize("off", [{"lambda_salient": 0.0}, {"weighted": False}])
def test_switching_a_part_off_changes_the_step(
    lung_batch, plan, make_task, term_checks, off
) -> None:
    batch, task, without = lung_batch(plan=plan), make_task(NAME, CNN), make_task(NAME, CNN, **off)
    assert ("salient" in without(batch, 0.0).losses) == ("lambda_salient" not in off)
    assert term_checks.changes_step(task, without, batch)


def test_a_planted_opacity_raises_that_images_weight(lung_batch, make_task) -> None:
    task = make_task(NAME, CNN)
    batch = lung_batch(plan=(ViewSpec(WholeImage()),) * 3)
    before = weights_of(task, batch)
    for image in range(batch.size):
        after = weights_of(task, brighten(batch, image, spot_in(batch.masks)))
        assert after[image] > before[image] * 1.05
        others = torch.arange(batch.size) != image
        assert (after[others] < before[others]).all()


def test_a_marker_a_wire_or_the_skin_line_does_not(lung_batch, plan, make_task) -> None:
    task, batch = make_task(NAME, CNN), lung_batch(plan=plan)
    before = weights_of(task, batch)
    place = torch.zeros_like(batch.masks)
    place[..., :8, :8] = True
    place[..., 20:22, :] = True
    place[..., -3:] = True
    after = weights_of(task, brighten(batch, 0, place & ~batch.masks))
    assert torch.equal(after, before)


def test_the_weights_act_per_sample_and_never_as_one_batch_scalar(
    lung_batch, plan, make_task
) -> None:
    task, batch = make_task(NAME, CNN, lambda_salient=0.0), lung_batch(plan=plan)
    saliency = task.saliency(batch)
    weights = anchor_weights(saliency.scores, batch.quality, 2.0)
    assert weights.unique().numel() == 2 * batch.size
    torch.testing.assert_close(weights.mean(), torch.tensor(1.0))
    assert not weights.requires_grad
    images, masks = task.augment_views(batch)
    first, second = task.projector(task.encoder(images, masks).pooled).chunk(2)
    terms = nt_xent_terms(first, second, task.temperature)
    torch.testing.assert_close(task(batch, 0.0).loss, (weights * terms).mean())
    # The same weights on other views give another loss: no common factor could.
    turned = nt_xent_loss(first, second, task.temperature, weights.roll(1))
    assert (turned - (weights * terms).mean()).abs() > 1e-5


def test_weights_are_a_softmax_of_the_scores() -> None:
    scores = torch.tensor([1.0, 3.0, 0.5, 2.0])
    got = anchor_weights(scores, torch.ones(2), 2.0)
    torch.testing.assert_close(got, 4 * torch.softmax(scores / 2.0, dim=0))


def test_an_untrusted_mask_gives_even_weights_and_even_pooling(lung_batch, plan, make_task) -> None:
    batch = lung_batch(plan=plan, whole_mask=True, quality=0.0)
    task = make_task(NAME, CNN)
    assert task(batch, 0.0).loss.isfinite()
    saliency = task.saliency(batch)
    weights = anchor_weights(saliency.scores, batch.quality, 2.0)
    torch.testing.assert_close(weights, torch.ones(8))
    cells = pooling_weights(saliency.maps, batch.quality, (2, 2))
    torch.testing.assert_close(cells, cells[:1, :1, :1, :1].expand_as(cells))


def test_pooling_follows_the_saliency_and_survives_its_absence() -> None:
    maps = torch.zeros(2, 8, 8)
    maps[0, :4, :4] = 2.0
    cells = pooling_weights(maps, torch.ones(1), (2, 2))
    assert cells[0, 0, 0, 0] > 100 * cells[0, 0, 1, 1]
    assert (cells[1] == cells[1, 0, 0, 0]).all()
    assert (cells > 0).all()


def test_the_midline_is_that_of_the_whole_image_whatever_the_crops_show(lung_batch) -> None:
    augment = AugmentSettings(scale=(0.1, 0.2))
    crop = ViewSpec(RandomCrop(augment), augment)
    batch = lung_batch(plan=(crop, crop, ViewSpec(WholeImage())), count=6)
    whole = lung_batch(plan=(ViewSpec(WholeImage()),), count=6)
    assert torch.equal(midline_columns(batch), midline_columns(whole))
    # The lungs lie about the middle of the 72 pixels of the drawn images.
    assert ((midline_columns(batch) - 35.5).abs() < 5).all()
