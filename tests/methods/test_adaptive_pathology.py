"""``adaptive-pathology``: every documented statement, and mistakes that must be impossible."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from medsgssl.config.schema import AugmentSettings
from medsgssl.losses.nt_xent import nt_xent_loss, nt_xent_terms
from medsgssl.methods.adaptive_pathology import image_weights, pooling_weights
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
    """The weight of each image, with what is normal left as it is."""
    saliency = task.norms.eval()(*batch.view(-1))
    return image_weights(saliency.scores, batch.quality, task._settings.saliency_temperature)


@pytest.fixture
def learned(lung_batch, make_task):
    """A task that has seen what is normal in 64 images."""
    task = make_task(NAME, CNN)
    many = lung_batch(plan=(ViewSpec(WholeImage()),), count=64, seed=9)
    task.norms.train()(*many.view(-1))
    return task


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


def test_a_planted_opacity_raises_that_images_weight_and_lowers_the_others(
    lung_batch, learned
) -> None:
    batch = lung_batch(plan=(ViewSpec(WholeImage()),) * 3)
    before = weights_of(learned, batch)
    for image in range(batch.size):
        after = weights_of(learned, brighten(batch, image, spot_in(batch.masks)))
        assert after[image] > before[image] * 1.05
        others = torch.arange(batch.size) != image
        assert (after[others] < before[others]).all()


def test_a_marker_does_not(lung_batch, plan, learned) -> None:
    batch = lung_batch(plan=plan)
    before = weights_of(learned, batch)
    place = torch.zeros_like(batch.masks)
    place[..., :5, :5] = True
    after = weights_of(learned, brighten(batch, 0, place & ~batch.masks))
    assert after[0] <= before[0] * 1.01


def test_the_weights_act_per_sample_and_never_as_one_batch_scalar(
    lung_batch, plan, learned
) -> None:
    batch = lung_batch(plan=plan)
    learned._settings = learned._settings.model_copy(update={"lambda_salient": 0.0})
    weights = weights_of(learned, batch)
    assert weights.unique().numel() == batch.size
    torch.testing.assert_close(weights.mean(), torch.tensor(1.0))
    assert not weights.requires_grad
    images, masks = learned.augment_views(batch)
    first, second = learned.projector(learned.encoder(images, masks).pooled).chunk(2)
    terms = nt_xent_terms(first, second, learned.temperature)
    torch.testing.assert_close(learned(batch, 0.0).loss, (weights.repeat(2) * terms).mean())
    # The same weights on other images give another loss: no common factor could.
    turned = nt_xent_loss(first, second, learned.temperature, weights.roll(1))
    assert (turned - (weights.repeat(2) * terms).mean()).abs() > 1e-5


def test_weights_are_a_softmax_of_the_trusted_scores() -> None:
    scores, quality = torch.tensor([1.0, 3.0, -0.5, 2.0]), torch.tensor([1.0, 0.5, 1.0, 0.0])
    got = image_weights(scores, quality, 2.0)
    want = 4 * torch.softmax(torch.tensor([1.0, 1.5, -0.5, 0.0]) / 2.0, dim=0)
    torch.testing.assert_close(got, want)


def test_the_map_of_a_crop_is_that_of_the_whole_frame_at_the_same_places(
    lung_batch, learned
) -> None:
    augment = AugmentSettings(scale=(0.3, 0.5))
    crop = ViewSpec(RandomCrop(augment), augment)
    batch = lung_batch(plan=(crop, crop, ViewSpec(WholeImage())), count=8)
    whole = lung_batch(plan=(ViewSpec(WholeImage()),) * 3, count=8)
    spots = spot_in(whole.masks)[:, -1:, None]
    for views in (batch, whole):
        views.images[:, -1:] = (views.images[:, -1:] + 0.4 * spots).clamp_max(1)
    maps = learned.attention_maps(batch)["saliency"]
    full = learned.attention_maps(whole)["saliency"]
    rows, columns = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    pixels = torch.stack([columns, rows, torch.ones_like(rows)])
    compared = 0
    for one in range(8):
        # To the 72 pixels of the drawn image, and on to the 64 of its whole view.
        x, y = torch.einsum("ij,jhw->ihw", batch.affines[one, 0], pixels)
        x, y = (
            ((x + 0.5) * 64 / 72 - 0.5).round().long(),
            ((y + 0.5) * 64 / 72 - 0.5).round().long(),
        )
        here = (x >= 0) & (x < 64) & (y >= 0) & (y < 64)
        want = full[one][y.clamp(0, 63), x.clamp(0, 63)][here]
        got = maps[one][here]
        if want.max() > full[one].max() / 2:
            assert torch.corrcoef(torch.stack([want, got]))[0, 1] > 0.9
            compared += 1
    assert compared >= 4
    assert (full[~whole.masks[:, 0]] < full.max() / 2).all()


def test_looking_at_maps_teaches_nothing(lung_batch, plan, learned) -> None:
    before = {key: value.clone() for key, value in learned.norms.state_dict().items()}
    learned.train()
    learned.attention_maps(lung_batch(plan=plan))
    assert learned.norms.training
    assert all(torch.equal(v, before[k]) for k, v in learned.norms.state_dict().items())


def test_an_untrusted_mask_gives_even_weights_and_even_pooling(lung_batch, plan, make_task) -> None:
    batch = lung_batch(plan=plan, whole_mask=True, quality=0.0)
    task = make_task(NAME, CNN)
    assert task(batch, 0.0).loss.isfinite()
    saliency = task.norms(*batch.view(-1))
    weights = image_weights(saliency.scores, batch.quality, 2.0)
    torch.testing.assert_close(weights, torch.ones(4))
    cells = pooling_weights(saliency.in_views(batch, 2), batch.quality, (2, 2))
    torch.testing.assert_close(cells, cells[:1, :1, :1, :1].expand_as(cells))


def test_pooling_follows_the_saliency_and_survives_its_absence() -> None:
    maps = torch.zeros(2, 8, 8)
    maps[0, :4, :4] = 2.0
    cells = pooling_weights(maps, torch.ones(1), (2, 2))
    assert cells[0, 0, 0, 0] > 100 * cells[0, 0, 1, 1]
    assert (cells[1] == cells[1, 0, 0, 0]).all()
    assert (cells > 0).all()
