"""``guided-crop``: every documented statement, and mistakes that must be impossible."""

from __future__ import annotations

import pytest
import torch

from medsgssl.errors import ConfigError
from medsgssl.losses.nt_xent import nt_xent_loss
from medsgssl.methods.registry import configure, method_of

NAME = "guided-crop"
CNN = "test_efficientnet"
TERMS = {"crops": "lambda_crops", "global": "lambda_global"}


def method(**own):
    return method_of(configure(NAME, {"method": own, "encoder": {"pretrained": False}}))


@pytest.fixture
def guided_batch(lung_batch):
    """A maker of batches with the views that the method asks for."""

    def make(own=None, **changes):
        return lung_batch(plan=method(**(own or {})).pretrain_views(), **changes)

    return make


@pytest.mark.parametrize("term", TERMS)
@pytest.mark.parametrize("encoder", [CNN, "test_vit", "resnet18", "vit_tiny_patch16_224"])
def test_every_term_is_finite_and_reaches_the_encoder(
    guided_batch, make_task, term_checks, encoder, term
) -> None:
    task, batch = make_task(NAME, encoder), guided_batch()
    assert task(batch, 0.0).loss.isfinite()
    assert term_checks.gradient(task, batch, term) > 0


def test_every_parameter_is_trained(guided_batch, make_task) -> None:
    task = make_task(NAME, CNN)
    task(guided_batch(), 0.0).loss.backward()
    assert [name for name, p in task.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize("term", TERMS)
def test_switching_a_term_off_changes_the_step_and_leaves_it_out(
    guided_batch, make_task, term_checks, term
) -> None:
    batch, task = guided_batch(), make_task(NAME, CNN)
    without = make_task(NAME, CNN, **{TERMS[term]: 0.0})
    assert term not in without(batch, 0.0).losses
    assert term_checks.changes_step(task, without, batch)


def test_wrong_settings_are_named() -> None:
    with pytest.raises(ConfigError, match="context"):
        configure(NAME, {"method": {"context": (0.2, 0.1)}})
    with pytest.raises(ConfigError, match="lambda"):
        configure(NAME, {"method": {"lambda_crops": 0.0, "lambda_global": 0.0}})


def test_the_loss_is_that_of_the_pairs_of_views(guided_batch, make_task) -> None:
    task, batch = make_task(NAME, CNN), guided_batch()
    output = task(batch, 0.0)
    images = torch.cat([batch.images[:, v] for v in range(3)])
    masks = torch.cat([batch.masks[:, v] for v in range(3)])
    one, two, box = task.projector(task.encoder(images, masks).pooled).chunk(3)
    pair = nt_xent_loss(one, two, 0.2)
    with_box = (nt_xent_loss(one, box, 0.2) + nt_xent_loss(two, box, 0.2)) / 2
    torch.testing.assert_close(output.loss, pair + 0.5 * with_box)


def test_the_views_of_each_image_are_two_different_crops_and_the_box(guided_batch) -> None:
    batch = guided_batch(count=8)
    assert not torch.equal(batch.affines[:, 0], batch.affines[:, 1])
    assert (batch.affines[:, 0] != batch.affines[:, 1]).flatten(1).any(dim=1).all()
    assert (batch.masks[:, :2].float().mean(dim=(2, 3)) >= 0.4 - 0.03).all()
    assert not batch.flipped[:, 2].any()


def test_without_the_global_term_no_box_is_rendered(guided_batch, make_task) -> None:
    off = {"lambda_global": 0.0}
    batch = guided_batch(off)
    assert batch.images.shape[1] == 2
    assert make_task(NAME, CNN, **off)(batch, 0.0).loss.isfinite()


def test_pretraining_fine_tuning_and_test_share_one_box() -> None:
    option = method(box_margin=0.1, min_quality=0.5)
    (test,), (tune,) = option.test_views(), option.finetune_views()
    assert option.pretrain_views()[2].crop == test.crop == tune.crop.box
    assert test.augment is None


def test_the_test_view_is_deterministic(lung_batch) -> None:
    plan = method().test_views()
    one, two = lung_batch(plan=plan), lung_batch(plan=plan)
    assert torch.equal(one.images, two.images)


def test_whole_image_masks_without_quality_show_the_full_image(
    guided_batch, lung_batch, make_task
) -> None:
    batch = guided_batch(whole_mask=True, quality=0.0)
    assert make_task(NAME, CNN)(batch, 0.0).loss.isfinite()
    shown = lung_batch(plan=method().test_views(), whole_mask=True, quality=0.0)
    # 72 pixels of the image on 64 of the view, from edge to edge.
    whole = torch.tensor([[72 / 64, 0, 0.0625], [0, 72 / 64, 0.0625]])
    torch.testing.assert_close(shown.affines[:, 0], whole.expand(4, 2, 3))
