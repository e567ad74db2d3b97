"""``mask-channel``: the method around the two-channel encoder."""

from __future__ import annotations

import pytest
import torch

from medsgssl.methods.registry import configure, find_method, method_of

NAME = "mask-channel"
CNN, VIT = "test_efficientnet", "test_vit"


@pytest.mark.parametrize("encoder", [CNN, VIT])
def test_the_loss_is_finite_and_reaches_the_encoder(
    lung_batch, make_task, term_checks, encoder
) -> None:
    task, batch = make_task(NAME, encoder), lung_batch()
    assert task(batch, 0.0).loss.isfinite()
    assert term_checks.gradient(task, batch, "contrast") > 0


def test_after_one_step_the_mask_matters(lung_batch, make_task) -> None:
    task, batch = make_task(NAME, CNN, mask_drop=0.0), lung_batch()
    task(batch, 0.0).loss.backward()
    torch.optim.SGD(task.parameters(), lr=0.1).step()
    encoder = task.encoder.eval()
    images, masks = batch.view(0)
    assert not torch.equal(encoder(images, masks).pooled, encoder(images, ~masks).pooled)


def test_each_view_enters_with_its_own_mask(lung_batch, make_task) -> None:
    task, batch = make_task(NAME, CNN), lung_batch()
    images, masks = task.augment_views(batch)
    assert torch.equal(images, torch.cat([batch.images[:, 0], batch.images[:, 1]]))
    assert torch.equal(masks, torch.cat([batch.masks[:, 0], batch.masks[:, 1]]))


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_whole_image_masks_of_no_trust_work(lung_batch, make_task, mode) -> None:
    task = make_task(NAME, CNN).train(mode == "train")
    assert task(lung_batch(quality=0.0, whole_mask=True), 0.0).loss.isfinite()


def test_masks_without_trust_give_the_mask_filters_nothing_to_learn(lung_batch, make_task) -> None:
    gradients = []
    for quality in (1.0, 0.0):
        task = make_task(NAME, CNN, mask_drop=0.0)
        task(lung_batch(quality=quality), 0.0).loss.backward()
        stem = next(m for m in task.encoder.backbone.modules() if isinstance(m, torch.nn.Conv2d))
        gradients.append(stem.weight.grad[:, 3].norm().item())
    assert gradients[0] > 0
    assert gradients[1] == 0


def test_fine_tuning_and_test_are_given_masks() -> None:
    tree = {"encoder": {"name": CNN, "pretrained": False}, "data": {"img_size": 64}}
    for no_pretrain in (False, True):
        assert method_of(configure(NAME, tree, no_pretrain=no_pretrain)).encoder().needs_masks


def test_masks_are_dropped_with_probability_one_half_by_default() -> None:
    assert configure(NAME).method.mask_drop == 0.5


def test_declares_what_it_is() -> None:
    method = find_method(NAME)
    assert method.summary.count(".") == 1
    assert "ICML" in method.citation
