"""What ranks give each other: sums, means and rows, and where gradients go."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from medsgssl.losses.collectives import (
    gather_views,
    mean_over_ranks,
    sum_over_ranks,
    total_over_ranks,
    world_size,
)
from medsgssl.losses.multilabel import mean_of_known
from medsgssl.losses.nt_xent import normalize_weights, nt_xent_loss, nt_xent_terms
from medsgssl.losses.region_contrast import mean_over_present, region_nt_xent
from tests.losses.ranks import on_ranks

RANKS, ROWS = 3, 4


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_alone_nothing_is_gathered_or_summed() -> None:
    values = draw(4).requires_grad_()
    assert world_size() == 1
    assert torch.equal(sum_over_ranks(values), values)
    assert torch.equal(mean_over_ranks(values), values)
    assert not sum_over_ranks(values).requires_grad
    assert gather_views(values) == (values, 0)
    assert total_over_ranks(values) is values


@pytest.mark.parametrize("ranks", [2, 3])
def test_sums_and_means_run_over_the_ranks_and_leave_their_argument(
    monkeypatch: pytest.MonkeyPatch, ranks: int
) -> None:
    values = draw(ranks, 4)

    def work(rank: int) -> tuple[Tensor, Tensor, int]:
        mine = values[rank].clone()
        found = sum_over_ranks(mine), mean_over_ranks(mine), world_size()
        assert torch.equal(mine, values[rank])
        return found

    for total, mean, size in on_ranks(monkeypatch, ranks, work):
        torch.testing.assert_close(total, values.sum(dim=0))
        torch.testing.assert_close(mean, values.mean(dim=0))
        assert size == ranks


def test_rows_of_all_ranks_come_in_order_and_their_gradients_return(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    values, weights = draw(RANKS, ROWS, 5), draw(RANKS, RANKS * ROWS, 5, seed=1)

    def work(rank: int) -> Tensor:
        mine = values[rank].clone().requires_grad_()
        every, first = gather_views(mine)
        assert torch.equal(every, values.flatten(0, 1))
        assert first == rank * ROWS
        (every * weights[rank]).sum().backward()
        assert mine.grad is not None
        return mine.grad

    gradients = torch.cat(on_ranks(monkeypatch, RANKS, work))
    torch.testing.assert_close(gradients, weights.sum(dim=0))


@pytest.mark.parametrize("ranks", [2, 3])
def test_a_total_sends_its_gradient_to_every_rank(
    monkeypatch: pytest.MonkeyPatch, ranks: int
) -> None:
    values, weights = draw(ranks, 4, 2), draw(ranks, 4, 2, seed=1)

    def work(rank: int) -> Tensor:
        mine = values[rank].clone().requires_grad_()
        total = total_over_ranks(mine.T)
        torch.testing.assert_close(total, values.sum(dim=0).T)
        # The gradient of the transposed total is contiguous: that of the total is not.
        (total.T * weights[rank]).sum().backward()
        assert mine.grad is not None
        return mine.grad

    for gradient in on_ranks(monkeypatch, ranks, work):
        torch.testing.assert_close(gradient, weights.sum(dim=0))


def test_nt_xent_of_several_ranks_is_that_of_the_global_batch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    z1, z2 = F.normalize(draw(2, RANKS * ROWS, 5), dim=-1).float()
    present = torch.arange(RANKS * ROWS) % 3 != 1
    weights = torch.rand(RANKS * ROWS, generator=torch.Generator().manual_seed(2))

    def work(rank: int) -> tuple[Tensor, Tensor, Tensor]:
        mine = slice(rank * ROWS, rank * ROWS + ROWS)
        return (
            nt_xent_terms(z1[mine], z2[mine], 0.3, present[mine]).view(2, ROWS),
            nt_xent_loss(z1[mine], z2[mine], 0.3, weights[mine]),
            normalize_weights(weights[mine]),
        )

    terms, losses, shares = zip(*on_ranks(monkeypatch, RANKS, work), strict=True)
    wanted = nt_xent_terms(z1, z2, 0.3, present).view(2, -1)
    torch.testing.assert_close(torch.cat(terms, dim=1)[:, present], wanted[:, present])
    torch.testing.assert_close(torch.stack(losses).mean(), nt_xent_loss(z1, z2, 0.3, weights))
    torch.testing.assert_close(torch.cat(shares), weights / weights.mean())


@pytest.mark.parametrize("within", [False, True])
def test_the_region_loss_of_several_ranks_is_that_of_the_global_batch(
    monkeypatch: pytest.MonkeyPatch, within: bool
) -> None:
    z1, z2 = F.normalize(draw(2, RANKS * ROWS, 4, 5), dim=-1).float()
    # Nobody sees region 3.
    present = torch.tensor([[1, 1, 0, 0], [1, 1, 1, 0], [1, 0, 1, 0], [0, 0, 1, 0]]).bool()
    present = present.repeat(3, 1)

    def work(rank: int) -> Tensor:
        mine = slice(rank * ROWS, rank * ROWS + ROWS)
        losses = region_nt_xent(z1[mine], z2[mine], present[mine], 0.3, within)
        return mean_over_present(losses, present[mine])

    found = torch.stack(on_ranks(monkeypatch, RANKS, work)).mean()
    wanted = mean_over_present(region_nt_xent(z1, z2, present, 0.3, within), present)
    torch.testing.assert_close(found, wanted)


def test_the_mean_of_known_labels_is_that_of_the_global_batch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    values, labels = draw(RANKS, ROWS, 3), torch.zeros(RANKS, ROWS, 3)
    labels[0, 0, 1] = labels[0, 1, 2] = labels[2, 0, 0] = torch.nan

    def work(rank: int) -> Tensor:
        return mean_of_known(values[rank], labels[rank])

    found = torch.stack(on_ranks(monkeypatch, RANKS, work)).mean()
    torch.testing.assert_close(found, values[~labels.isnan()].mean())
