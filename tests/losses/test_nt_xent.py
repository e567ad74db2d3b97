"""NT-Xent: the published loss, weighted, and the same on one process or two."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torch.nn.functional as F
from lightly.loss import NTXentLoss
from torch import nn

from medsgssl.losses.nt_xent import (
    normalize_weights,
    nt_xent_chance,
    nt_xent_floor,
    nt_xent_loss,
)


def unit(*shape: int, seed: int = 0) -> torch.Tensor:
    values = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return F.normalize(values, dim=-1)


def by_definition(z1: np.ndarray, z2: np.ndarray, t: float, w: np.ndarray) -> float:
    """Equation 1 of the paper, written as its sums, in NumPy."""
    z, count = np.concatenate([z1, z2]), len(z1)
    total = 0.0
    for i in range(2 * count):
        j = (i + count) % (2 * count)
        below = sum(math.exp(z[i] @ z[k] / t) for k in range(2 * count) if k != i)
        total += w[i % count] * -math.log(math.exp(z[i] @ z[j] / t) / below)
    return total / (2 * w.sum())


@pytest.mark.parametrize("temperature", [0.05, 0.2, 1.0])
@pytest.mark.parametrize("batch", [2, 7, 32])
def test_agrees_with_lightly(batch: int, temperature: float) -> None:
    z1, z2 = unit(batch, 16).float(), unit(batch, 16, seed=1).float()
    ours = nt_xent_loss(z1, z2, temperature)
    assert ours.item() == pytest.approx(NTXentLoss(temperature)(z1, z2).item(), abs=1e-6)


def test_agrees_with_the_paper_weights_included() -> None:
    z1, z2, w = unit(5, 8), unit(5, 8, seed=1), torch.tensor([0.1, 1.0, 0.4, 0.9, 0.2])
    wanted = by_definition(z1.numpy(), z2.numpy(), 0.3, w.double().numpy())
    assert nt_xent_loss(z1, z2, 0.3, w).item() == pytest.approx(wanted, abs=1e-6)


def test_equal_weights_give_exactly_nt_xent() -> None:
    z1, z2 = unit(6, 8), unit(6, 8, seed=1)
    assert torch.equal(nt_xent_loss(z1, z2, 0.2, torch.full((6,), 0.37)), nt_xent_loss(z1, z2, 0.2))


def test_weights_that_are_all_zero_count_as_equal() -> None:
    assert torch.equal(normalize_weights(torch.zeros(4)), torch.ones(4))


def test_the_floor_is_reached_by_a_simplex_and_undercut_by_nothing() -> None:
    batch, temperature = 5, 0.5
    simplex = F.normalize(torch.eye(batch, dtype=torch.float64) - 1 / batch, dim=1)
    floor = nt_xent_floor(batch, temperature)
    assert nt_xent_loss(simplex, simplex, temperature).item() == pytest.approx(floor, abs=1e-6)
    for seed in range(20):
        z = unit(batch, 4, seed=seed)
        assert nt_xent_loss(z, z, temperature).item() >= floor - 1e-6


@pytest.mark.parametrize("batch", [2, 5, 32])
def test_chance_is_the_loss_of_projections_that_tell_no_image_from_another(batch: int) -> None:
    same = unit(1, 8).expand(batch, -1)
    assert nt_xent_loss(same, same, 0.2).item() == pytest.approx(nt_xent_chance(batch), abs=1e-6)


def _global_run(x: torch.Tensor, w: torch.Tensor) -> tuple[float, list]:
    torch.manual_seed(0)
    layer = nn.Linear(6, 4)
    z = F.normalize(layer(x), dim=-1)
    loss = nt_xent_loss(z[0], z[1], 0.2, w)
    loss.backward()
    return loss.item(), [p.grad for p in layer.parameters()]


def _worker(rank: int, init: str, folder: str, x: torch.Tensor, w: torch.Tensor) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=init, rank=rank, world_size=2)
    torch.manual_seed(0)
    layer = nn.parallel.DistributedDataParallel(nn.Linear(6, 4))
    mine = slice(rank * 4, rank * 4 + 4)
    z1, z2 = F.normalize(layer(x[:, mine].flatten(0, 1)), dim=-1).chunk(2)
    loss = nt_xent_loss(z1, z2, 0.2, w[mine])
    loss.backward()
    torch.save((loss.detach(), [p.grad for p in layer.parameters()]), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def test_two_processes_have_the_value_and_gradient_of_the_global_batch(tmp_path: Path) -> None:
    x = torch.randn(2, 8, 6, generator=torch.Generator().manual_seed(3))
    w = torch.rand(8, generator=torch.Generator().manual_seed(4))
    value, gradients = _global_run(x, w)
    mp.spawn(_worker, (f"file://{tmp_path}/init", str(tmp_path), x, w), nprocs=2)
    parts = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
    assert np.mean([loss.item() for loss, _ in parts]) == pytest.approx(value, abs=1e-5)
    for mine, wanted in zip(parts[0][1], gradients, strict=True):
        torch.testing.assert_close(mine, wanted, rtol=1e-4, atol=1e-6)
