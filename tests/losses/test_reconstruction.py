from __future__ import annotations

import torch

from medsgssl.losses.reconstruction import reconstruction_loss


def test_reconstruction_is_smooth_l1_to_layer_normalized_tokens_where_hidden() -> None:
    predicted, taught = torch.randn(2, 5, 8), torch.randn(2, 5, 8) * 3 + 1
    hidden = torch.tensor([[1, 0, 0, 1, 0], [0, 0, 1, 0, 0]]).bool()
    target = (taught - taught.mean(2, keepdim=True)) / (
        taught.var(2, False, keepdim=True) + 1e-5
    ) ** 0.5
    gap = (predicted - target).abs()
    wanted = torch.where(gap < 1, gap**2 / 2, gap - 0.5).mean(2)[hidden].mean()
    torch.testing.assert_close(reconstruction_loss(predicted, taught, hidden), wanted)
    elsewhere = predicted + 5 * ~hidden[..., None]
    torch.testing.assert_close(reconstruction_loss(elsewhere, taught, hidden), wanted)


def test_the_gradient_goes_to_the_prediction_alone() -> None:
    predicted, taught = (torch.randn(1, 3, 4, requires_grad=True) for _ in range(2))
    reconstruction_loss(predicted, taught, torch.tensor([[True, False, True]])).backward()
    assert taught.grad is None
    assert predicted.grad is not None
    assert predicted.grad[0, 0].any()
    assert not predicted.grad[0, 1].any()


def test_a_single_hidden_patch_counts_in_full() -> None:
    predicted, taught = torch.randn(1, 4, 8), torch.randn(1, 4, 8)
    one = reconstruction_loss(predicted, taught, torch.tensor([[True, False, False, False]]))
    alone = reconstruction_loss(predicted[:, :1], taught[:, :1], torch.ones(1, 1).bool())
    twice = reconstruction_loss(
        predicted[:, [0, 0]], taught[:, [0, 0]], torch.ones(1, 2, dtype=torch.bool)
    )
    torch.testing.assert_close(one, twice)
    torch.testing.assert_close(alone, twice)
    assert reconstruction_loss(predicted, taught, torch.zeros(1, 4).bool()) == 0
