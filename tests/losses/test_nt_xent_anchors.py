"""NT-Xent with a weight per anchor, with absent pairs, and under mixed precision."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from medsgssl.losses.nt_xent import nt_xent_loss, nt_xent_terms


def pairs(count: int = 6, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    z1, z2 = (F.normalize(torch.randn(count, 16, generator=generator), dim=1) for _ in range(2))
    return z1, z2


def test_anchor_weights_weigh_each_view_by_itself() -> None:
    z1, z2 = pairs()
    weights = torch.rand(12)
    terms = nt_xent_terms(z1, z2, 0.2)
    want = (weights * terms).sum() / weights.sum()
    torch.testing.assert_close(nt_xent_loss(z1, z2, 0.2, weights), want)


def test_image_weights_are_anchor_weights_given_twice() -> None:
    z1, z2 = pairs()
    weights = torch.rand(6)
    torch.testing.assert_close(
        nt_xent_loss(z1, z2, 0.2, weights), nt_xent_loss(z1, z2, 0.2, weights.repeat(2))
    )


def test_absent_pairs_change_nothing_for_the_others() -> None:
    z1, z2 = pairs()
    present = torch.tensor([1, 1, 0, 1, 0, 1]).bool()
    terms = nt_xent_terms(z1, z2, 0.2, present)
    alone = nt_xent_terms(z1[present], z2[present], 0.2)
    assert terms.isfinite().all()
    torch.testing.assert_close(terms[present.repeat(2)], alone)


def test_autocast_does_not_coarsen_the_loss() -> None:
    z1, z2 = pairs()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = nt_xent_loss(z1, z2, 0.05)
    assert torch.equal(mixed, nt_xent_loss(z1, z2, 0.05))
