from __future__ import annotations

import numpy as np
import pytest
import torch

from medsgssl.losses.alignment import (
    attention_alignment_loss,
    attention_on_lung,
    layer_weights,
    lung_prior,
)


def test_the_prior_is_its_formula_and_sums_to_one() -> None:
    cover = torch.tensor([[1.0, 0.5, 0.0], [0.0, 0.0, 0.0]])
    raw = 0.9 * cover + 0.1
    found = lung_prior(cover, 0.1)
    torch.testing.assert_close(found, raw / raw.sum(dim=1, keepdim=True))
    torch.testing.assert_close(found.sum(dim=1), torch.ones(2))


def test_layers_weigh_as_the_softmax_of_half_their_number() -> None:
    wanted = np.exp(np.arange(4) / 2.0)
    np.testing.assert_allclose(layer_weights(4), wanted / wanted.sum(), rtol=1e-6)


def test_the_loss_is_the_weighted_cross_entropy_layer_by_layer() -> None:
    rng = np.random.default_rng(0)
    attention = rng.dirichlet(np.ones(6), size=(3, 4))
    prior = rng.dirichlet(np.ones(6), size=3)
    quality = np.array([1.0, 0.5, 0.0])
    weights = np.exp(np.arange(4) / 2.0) / np.exp(np.arange(4) / 2.0).sum()
    wanted = 0.0
    for b in range(3):
        for layer in range(4):
            wanted += quality[b] * weights[layer] * -(prior[b] * np.log(attention[b, layer])).sum()
    found = attention_alignment_loss(
        *(torch.from_numpy(one).float() for one in (attention, prior, quality))
    )
    assert found.item() == pytest.approx(wanted / 3, rel=1e-5)


def test_the_prior_itself_is_the_best_attention() -> None:
    prior = lung_prior(torch.tensor([[1.0, 1.0, 0.0, 0.0]]), 0.1)
    logits = torch.randn(1, 2, 4, requires_grad=True)
    best = attention_alignment_loss(prior[:, None].expand(-1, 2, -1), prior, torch.ones(1))
    assert attention_alignment_loss(logits.softmax(dim=2), prior, torch.ones(1)) > best
    for _ in range(400):
        (gradient,) = torch.autograd.grad(
            attention_alignment_loss(logits.softmax(dim=2), prior, torch.ones(1)), logits
        )
        logits = (logits - 2 * gradient).detach().requires_grad_()
    torch.testing.assert_close(logits.softmax(dim=2)[:, 1], prior, atol=1e-2, rtol=0)


def test_the_share_on_lung_is_between_none_and_all() -> None:
    cover = torch.tensor([[1.0, 1.0, 0.0, 0.0]])
    on, off = torch.tensor([0.5, 0.5, 0, 0]), torch.tensor([0, 0, 0.2, 0.8])
    attention = torch.stack([off, on])[None]
    assert attention_on_lung(attention, cover).item() == pytest.approx(layer_weights(2)[1].item())
