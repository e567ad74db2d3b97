"""The control: NT-Xent of two views, and no mask anywhere."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from pydantic import ValidationError

from medsgssl.losses.nt_xent import nt_xent_floor, nt_xent_loss
from medsgssl.methods.registry import configure, find_method, method_of

NAME = "simclr"
CNN = "test_efficientnet"


def loss_and_gradient(task, batch) -> tuple[torch.Tensor, torch.Tensor]:
    task.zero_grad(set_to_none=True)
    torch.manual_seed(1)
    loss = task(batch, 0.0).loss
    loss.backward()
    return loss.detach(), torch.cat([p.grad.flatten() for p in task.parameters()])


def test_its_loss_is_nt_xent_of_the_two_views_projections(lung_batch, make_task) -> None:
    task, batch = make_task(NAME, CNN, temperature=0.3), lung_batch()
    output = task(batch, 0.0)
    both = torch.cat([batch.images[:, 0], batch.images[:, 1]])
    pooled = task.encoder.features(task.encoder.normalize(both)).pooled
    first, second = task.projector(pooled).chunk(2)
    assert torch.equal(output.loss, nt_xent_loss(first, second, 0.3))
    assert output.lower_bounds == {"contrast": nt_xent_floor(4, 0.3)}


@pytest.mark.parametrize("reconstruction", [0.0, 1.0])
def test_changing_the_masks_changes_nothing(lung_batch, make_task, reconstruction: float) -> None:
    task, batch = make_task(NAME, CNN, lambda_reconstruction=reconstruction), lung_batch()
    before = loss_and_gradient(task, batch)
    for masks in (~batch.masks, torch.ones_like(batch.masks), torch.zeros_like(batch.masks)):
        changed = replace(batch, masks=masks, quality=torch.rand(batch.size))
        after = loss_and_gradient(task, changed)
        assert torch.equal(before[0], after[0])
        assert torch.equal(before[1], after[1])


def test_it_shows_its_views_to_the_encoder_as_they_are(lung_batch, make_task) -> None:
    task, batch = make_task(NAME, CNN), lung_batch()
    assert torch.equal(task.encoder_input(batch), batch.images)


def test_it_asks_for_no_mask_at_any_stage() -> None:
    assert not find_method(NAME).uses_masks
    tree = {"encoder": {"name": CNN, "pretrained": False}, "data": {"img_size": 64}}
    assert not method_of(configure(NAME, tree)).encoder().needs_masks


def test_reconstruction_is_off_by_default_and_then_absent(lung_batch, make_task) -> None:
    assert configure(NAME).method.lambda_reconstruction == 0
    task = make_task(NAME, CNN)
    assert set(task(lung_batch(), 0.0).losses) == {"contrast"}
    assert [name for name, _ in task.named_children()] == ["encoder", "projector"]


def test_reconstruction_on_request_reaches_the_encoder(lung_batch, make_task, term_checks) -> None:
    task, batch = make_task(NAME, CNN, lambda_reconstruction=0.5), lung_batch()
    assert task(batch, 0.0).weights["reconstruction"] == 0.5
    assert term_checks.gradient(task, batch, "reconstruction") > 0
    assert term_checks.changes_step(task, make_task(NAME, CNN), batch)


def test_reconstruction_is_of_each_views_own_pixels(lung_batch, make_task) -> None:
    task, batch = make_task(NAME, CNN, lambda_reconstruction=1.0), lung_batch()
    with torch.no_grad():
        for parameter in task.decoder.parameters():
            parameter.zero_()
    black = replace(batch, images=torch.zeros_like(batch.images))
    assert float(task(black, 0.0).losses["reconstruction"].detach()) == 0
    one = batch.images.clone()
    one[2, 1] = 0.0
    parts = [
        float(task(replace(batch, images=images), 0.0).losses["reconstruction"].detach())
        for images in (batch.images, one)
    ]
    assert 0 < parts[1] < parts[0]


def test_a_view_rebuilt_from_its_own_features_costs_nothing(lung_batch, make_task) -> None:
    task, batch = (
        make_task(NAME, CNN, lambda_reconstruction=1.0, reconstruction_size=32),
        lung_batch(),
    )
    views = torch.cat([batch.images[:, 0], batch.images[:, 1]])
    small = torch.nn.functional.interpolate(views, size=32, mode="bilinear", antialias=True)

    class Perfect(torch.nn.Module):
        def forward(self, pooled: torch.Tensor) -> torch.Tensor:
            return small.flatten(1)

    task.decoder = Perfect()
    assert float(task(batch, 0.0).losses["reconstruction"]) == 0


def test_the_reconstructed_image_is_shrunk_without_aliasing(lung_batch, make_task) -> None:
    task = make_task(NAME, CNN, lambda_reconstruction=1.0, reconstruction_size=8)
    with torch.no_grad():
        for parameter in task.decoder.parameters():
            parameter.zero_()
    batch = lung_batch()
    noise = replace(batch, images=torch.rand(batch.images.shape))
    # Each of its pixels is the mean of some 64: hardly any variance is left beside the mean's 1/4.
    loss = float(task(noise, 0.0).losses["reconstruction"].detach())
    assert loss == pytest.approx(0.25, abs=0.005)


@pytest.mark.parametrize(
    "name", ["masked-contrastive", "multi-region", "attention-prior", "mask-channel"]
)
def test_it_differs_from_an_option_in_the_option_alone(name: str) -> None:
    control, option = configure(NAME), configure(name)
    for part in ("data", "encoder", "views", "pretrain", "finetune", "evaluate"):
        assert getattr(control, part) == getattr(option, part), part
    shared = {"temperature", "projector_hidden", "projector_out", "projector_layers"}
    for key in shared:
        assert getattr(control.method, key) == getattr(option.method, key), key
    views = method_of(control).pretrain_views()
    assert method_of(option).pretrain_views()[:2] == views


def test_a_negative_weight_or_no_temperature_is_refused() -> None:
    settings = find_method(NAME).settings
    for wrong in ({"lambda_reconstruction": -1.0}, {"temperature": 0.0}):
        with pytest.raises(ValidationError):
            settings.model_validate(wrong)
