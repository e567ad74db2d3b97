"""``attention-prior``: every documented statement, and mistakes that must be impossible."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from medsgssl.errors import ConfigError
from medsgssl.methods.attention_prior import segmentation_loss
from medsgssl.methods.registry import configure, find_method, method_of
from medsgssl.models.encoder import Encoder, Features
from medsgssl.transforms.batch import ViewBatch

NAME = "attention-prior"
CNN, VIT = "test_efficientnet", "test_vit"
TERMS = {"contrast": None, "segmentation": "lambda_seg", "equivariance": "lambda_eq"}


@pytest.mark.parametrize("encoder", [CNN, VIT])
@pytest.mark.parametrize("term", TERMS)
def test_every_term_is_finite_and_reaches_the_encoder(
    lung_batch, make_task, term_checks, encoder, term
) -> None:
    task, batch = make_task(NAME, encoder), lung_batch()
    assert task(batch, 0.0).loss.isfinite()
    assert term_checks.gradient(task, batch, term) > 0


@pytest.mark.parametrize("weight", ["lambda_seg", "lambda_eq"])
def test_switching_a_term_off_changes_the_parameters_after_one_step(
    lung_batch, make_task, term_checks, weight
) -> None:
    with_term, without = make_task(NAME, CNN), make_task(NAME, CNN, **{weight: 0})
    assert term_checks.changes_step(with_term, without, lung_batch())


def test_terms_of_weight_zero_are_not_computed(lung_batch, make_task) -> None:
    output = make_task(NAME, CNN, lambda_seg=0, lambda_eq=0)(lung_batch(), 0.0)
    assert set(output.losses) == {"contrast"}


def test_map_iou_against_the_rule_mask_rises_in_training(lung_batch, make_task) -> None:
    # Whole views: at 4 x 4 cells a small crop would hold little but lung borders.
    task, batch = make_task(NAME, CNN, stage_stride=8, map_hidden=16), lung_batch(count=6)
    optimizer = torch.optim.AdamW(task.parameters(), lr=3e-3)
    found = []
    for _ in range(30):
        output = task(batch, 0.0)
        optimizer.zero_grad()
        output.loss.backward()
        optimizer.step()
        found.append(float(output.metrics["lung_map_iou"]))
    assert max(found[:3]) < 0.5 < min(found[-3:])


def test_a_constant_map_is_penalized_more_than_the_mask_itself() -> None:
    target = torch.zeros(2, 8, 8)
    target[:, 2:6, 1:3] = 1
    quality = torch.ones(2)
    right = segmentation_loss((target - 0.5) * 40, target, quality)
    assert right < 1e-6
    for level in (-5.0, -2.0, -1.0, 0.0, 2.0, 5.0):
        assert segmentation_loss(torch.full_like(target, level), target, quality) > 0.5


def test_the_segmentation_loss_is_the_mean_of_cross_entropy_and_dice_by_quality() -> None:
    torch.manual_seed(0)
    logits, target, quality = torch.randn(3, 8, 8), torch.rand(3, 8, 8), torch.tensor([1, 0, 0.4])
    p = logits.sigmoid()
    entropy = torch.nn.functional.binary_cross_entropy(p, target, reduction="none").mean((1, 2))
    dice = 1 - (2 * (p * target).sum((1, 2)) + 1) / ((p**2 + target**2).sum((1, 2)) + 1)
    found = segmentation_loss(logits, target, quality)
    torch.testing.assert_close(found, (quality * (entropy + dice)).sum() / 3)


def test_the_logits_of_each_view_are_compared_with_the_share_of_lung_of_its_cells(
    lung_batch, make_task
) -> None:
    task, batch = make_task(NAME, CNN).eval(), lung_batch(quality=[1, 0.2, 0.5, 0])
    masks = torch.cat([batch.masks[:, 0], batch.masks[:, 1]])
    images = torch.cat([batch.images[:, 0], batch.images[:, 1]])
    logits = task.encoder(images, masks).extra["lung_logits"]
    share = torch.nn.functional.avg_pool2d(masks[:, None].float(), 64 // logits.shape[-1])[:, 0]
    wanted = segmentation_loss(logits, share, batch.quality.repeat(2))
    torch.testing.assert_close(task(batch, 0.0).losses["segmentation"], wanted)


def test_the_map_that_is_shown_is_that_of_the_first_views(lung_batch, make_task) -> None:
    task, batch = make_task(NAME, CNN).eval(), lung_batch()
    shown = task.attention_maps(batch)["predicted_lungs"]
    wanted = task.encoder(batch.images[:, 0], batch.masks[:, 0]).extra["lung_map"]
    assert torch.equal(shown, wanted)


def test_a_mask_that_is_not_trusted_teaches_nothing(lung_batch, make_task) -> None:
    batch = lung_batch(quality=0.0, whole_mask=True)  # the control without masks
    output = make_task(NAME, CNN)(batch, 0.0)
    assert output.losses["segmentation"] == 0
    assert output.loss.isfinite()


def test_quality_weighs_each_image_by_itself(lung_batch, make_task) -> None:
    task = make_task(NAME, CNN)
    one, other = lung_batch(quality=[1, 0, 0, 0]), lung_batch(quality=[0, 1, 0, 0])
    terms = [task(batch, 0.0).losses["segmentation"] for batch in (one, other)]
    assert terms[0] != terms[1]


def test_the_map_of_each_view_is_compared_with_the_mask_of_that_view(lung_batch, make_task) -> None:
    task, batch = make_task(NAME, CNN).eval(), lung_batch()
    both = task(batch, 0.0).losses["segmentation"]
    single = []
    for view in (0, 1):
        twice = replace(
            batch,
            images=batch.images[:, [view, view]],
            masks=batch.masks[:, [view, view]],
            affines=batch.affines[:, [view, view]],
        )
        single.append(task(twice, 0.0).losses["segmentation"])
    torch.testing.assert_close(both, (single[0] + single[1]) / 2)
    crossed = replace(batch, masks=batch.masks.flip(1))
    assert (task(crossed, 0.0).losses["segmentation"] - both).abs() > 1e-4


@pytest.mark.parametrize("encoder", [CNN, VIT])
def test_the_gate_stays_at_fine_tune_and_test_and_needs_no_mask(make_task, encoder) -> None:
    gated = make_task(NAME, encoder).encoder.eval()
    images, masks = torch.rand(2, 1, 64, 64), torch.rand(2, 64, 64) > 0.5
    features = gated(images, masks)
    assert features.extra["lung_map"].shape[0] == 2
    assert not gated.needs_masks
    assert torch.equal(features.pooled, gated(images, ~masks).pooled)
    plain = Encoder(gated.backbone)(images, masks)
    assert not torch.allclose(features.pooled, plain.pooled, atol=1e-4)


def test_the_direct_twin_has_the_same_input_path() -> None:
    tree = {"encoder": {"name": CNN, "pretrained": False}, "data": {"img_size": 64}}
    twin = method_of(configure(NAME, tree, no_pretrain=True)).encoder()
    option = method_of(configure(NAME, tree)).encoder()
    assert type(twin) is type(option)
    assert twin.state_dict().keys() == option.state_dict().keys()


def test_a_copy_of_the_task_is_independent(lung_batch, make_task) -> None:
    task, batch = make_task(NAME, CNN).eval(), lung_batch()
    other = copy.deepcopy(task)
    before = other(batch, 0.0).loss
    with torch.no_grad():
        for parameter in task.parameters():
            parameter.add_(1.0)
    assert torch.equal(other(batch, 0.0).loss, before)


def test_declares_what_it_is() -> None:
    method = find_method(NAME)
    assert method.summary.count(".") == 1
    assert "CVPR" in method.citation


def test_a_backbone_without_a_single_middle_map_is_refused(make_task) -> None:
    with pytest.raises(ConfigError, match="does not return one feature map"):
        make_task(NAME, "hrnet_w18_small")


def drawn_in_the_image(batch: ViewBatch) -> Tensor:
    """A map linear in the coordinates of the image, as each view shows it, (B, V, 8, 8)."""
    size, cells = batch.images.shape[-1], 8
    centers = (torch.arange(cells) + 0.5) * size / cells - 0.5
    y, x = torch.meshgrid(centers, centers, indexing="ij")
    points = torch.stack([x, y, torch.ones_like(x)])
    places = torch.einsum("bvij,jhw->bvihw", batch.affines, points)
    return 0.2 + 0.004 * places[:, :, 0] + 0.003 * places[:, :, 1]


def test_an_equivariant_predictor_has_no_equivariance_loss_through_the_task(
    lung_batch, make_task
) -> None:
    task, batch = make_task(NAME, CNN), lung_batch(count=6)
    maps = drawn_in_the_image(batch)
    stacked = torch.cat([maps[:, 0], maps[:, 1]])
    pooled = torch.rand(12, task.encoder.num_features)

    def loss(lung_map: Tensor) -> float:
        extra = {"lung_map": lung_map, "lung_logits": lung_map.logit()}
        features = Features(pooled, lung_map, "none", extra)
        output = task.contrast(batch, features, None)
        task.extra_losses(output, batch, features)
        return float(output.losses["equivariance"])

    assert loss(stacked) < 1e-5
    # Maps that belong to the other view's affine, as if the task had swapped the two.
    assert loss(torch.cat([maps[:, 1], maps[:, 0]])) > 1e-2


@pytest.mark.parametrize("encoder", [CNN, "mobilenetv2_050"])
def test_the_weighted_equivariance_is_within_two_orders_of_magnitude_of_the_contrast(
    lung_batch, make_task, term_checks, encoder
) -> None:
    task, batch = make_task(NAME, encoder), lung_batch(count=8)
    weights = task(batch, 0.0).weights
    sizes = {
        term: weights[term] * term_checks.gradient(task, batch, term)
        for term in ("contrast", "equivariance")
    }
    assert 0.01 < sizes["equivariance"] / sizes["contrast"] < 100
