"""Losses against their published formulas."""

from __future__ import annotations

import pytest
import torch
from torchvision.ops import sigmoid_focal_loss

from medsgssl.config.training_settings import FinetuneSettings
from medsgssl.losses.multilabel import (
    AsymmetricLoss,
    FocalLoss,
    WeightedBCE,
    build_loss,
    mean_of_known,
)

GENERATOR = torch.Generator().manual_seed(0)
LOGITS = torch.randn(9, 14, generator=GENERATOR) * 3
LABELS = (torch.rand(9, 14, generator=GENERATOR) < 0.3).float()


def test_focal_loss_agrees_with_torchvision() -> None:
    wanted = sigmoid_focal_loss(LOGITS, LABELS, alpha=-1, gamma=2.0, reduction="mean")
    torch.testing.assert_close(FocalLoss(2.0)(LOGITS, LABELS), wanted)


def test_focal_loss_without_focus_is_binary_cross_entropy() -> None:
    wanted = torch.nn.functional.binary_cross_entropy_with_logits(LOGITS, LABELS)
    torch.testing.assert_close(FocalLoss(0.0)(LOGITS, LABELS), wanted)


@pytest.mark.parametrize("gamma", [0.0, 0.1, 0.5, 0.99, 1.0, 2.0, 5.0])
def test_focal_loss_has_stable_gradients_over_the_whole_range(gamma: float) -> None:
    values = torch.tensor([-200.0, -88, -17, -1, 0, 1, 17, 88, 200], dtype=torch.float32)
    exact = values.double()
    for label in (0.0, 1.0):
        results = []
        for logits in (values.clone().requires_grad_(), exact.clone().requires_grad_()):
            loss = FocalLoss(gamma)(logits, torch.full_like(logits, label))
            (gradient,) = torch.autograd.grad(loss, logits)
            results.append(gradient)
        assert results[0].isfinite().all()
        torch.testing.assert_close(results[0].double(), results[1], rtol=1e-3, atol=1e-7)
        # A label that is missed by far pulls with the whole slope of the cross-entropy.
        missed = results[0][0 if label else -1] * len(values)
        assert missed == pytest.approx(-1.0 if label else 1.0, rel=1e-4)


def test_asymmetric_loss_is_its_equation() -> None:
    p = torch.sigmoid(LOGITS)
    m = (p - 0.05).clamp_min(0)
    wanted = -(LABELS * torch.log(p) + (1 - LABELS) * m**4 * torch.log(1 - m)).mean()
    torch.testing.assert_close(AsymmetricLoss()(LOGITS, LABELS), wanted, rtol=1e-4, atol=1e-6)


def test_asymmetric_loss_has_an_exponent_for_positives_too() -> None:
    p = torch.sigmoid(LOGITS)
    m = (p - 0.1).clamp_min(0)
    wanted = -(LABELS * (1 - p) ** 2 * torch.log(p) + (1 - LABELS) * m**3 * torch.log(1 - m)).mean()
    found = AsymmetricLoss(gamma_positive=2, gamma_negative=3, margin=0.1)(LOGITS, LABELS)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-6)


def test_asymmetric_loss_is_finite_where_the_network_is_sure() -> None:
    logits = torch.tensor([[-200.0, 200.0, -200.0, 200.0]], requires_grad=True)
    loss = AsymmetricLoss()(logits, torch.tensor([[0.0, 0.0, 1.0, 1.0]]))
    loss.backward()
    assert loss.isfinite()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


def test_weighted_bce_weighs_positives_by_their_rarity() -> None:
    labels = torch.zeros(300, 6)
    labels[:20, 0] = 1  # 280 negatives
    labels[0, 1] = 1  # more than a hundred times as rare
    labels[:200, 2] = 1  # more frequent than negatives
    labels[:250, 3] = torch.nan
    labels[250:260, 3] = 1
    labels[:249, 5] = torch.nan
    labels[250, 5] = 1  # a single positive beside 50 negatives
    loss = WeightedBCE(labels)
    assert loss.pos_weight.tolist() == [14.0, 100.0, 1.0, 4.0, 100.0, 50.0]
    assert not loss.state_dict()  # they belong to the training images, not to the model


def test_weighted_bce_is_its_formula() -> None:
    loss = WeightedBCE(LABELS)
    p = torch.sigmoid(LOGITS)
    wanted = -(loss.pos_weight * LABELS * p.log() + (1 - LABELS) * (1 - p).log()).mean()
    torch.testing.assert_close(loss(LOGITS, LABELS), wanted, rtol=1e-4, atol=1e-6)


def test_a_batch_without_known_labels_has_no_loss() -> None:
    values = torch.randn(3, 2, requires_grad=True)
    found = mean_of_known(values, torch.full((3, 2), torch.nan))
    found.backward()
    assert found == 0
    assert values.grad is not None
    assert not values.grad.any()


def test_the_mean_runs_over_the_known_labels_alone() -> None:
    values, labels = torch.randn(3, 2), torch.zeros(3, 2)
    labels[1, 0] = labels[2, 1] = torch.nan
    wanted = values[~labels.isnan()].mean()
    torch.testing.assert_close(mean_of_known(values, labels), wanted)


def test_the_loss_is_chosen_by_name() -> None:
    assert isinstance(build_loss(FinetuneSettings(), LABELS), FocalLoss)
    assert isinstance(build_loss(FinetuneSettings(loss="bce"), LABELS), WeightedBCE)
    assert isinstance(build_loss(FinetuneSettings(loss="asymmetric"), LABELS), AsymmetricLoss)


@pytest.mark.parametrize("name", ["focal", "asymmetric", "bce"])
def test_unknown_labels_add_nothing_to_a_loss_or_its_gradient(name: str) -> None:
    settings = FinetuneSettings(loss=name)
    labels = LABELS.clone()
    labels[::2, 3] = torch.nan
    known = ~labels.isnan()
    logits = LOGITS.clone().requires_grad_()
    loss = build_loss(settings, labels)(logits, labels)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert torch.isfinite(loss)
    assert (gradient[~known] == 0).all()
    assert (gradient[known] != 0).any()
    # Whatever the scores are where nothing is known, the loss is the same.
    other = torch.where(known, LOGITS, 5 - LOGITS)
    torch.testing.assert_close(build_loss(settings, labels)(other, labels), loss.detach())
