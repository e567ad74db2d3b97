"""The region loss of two processes is that of the global batch, with uneven presence."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torch.nn.functional as F
from torch import Tensor

from medsgssl.losses.region_contrast import mean_over_present, region_nt_xent

# The second process sees no region 1 at all, and nobody sees region 3.
PRESENT = torch.tensor([[1, 1, 0, 0], [1, 1, 1, 0], [1, 0, 1, 0], [0, 0, 1, 0]]).bool()


def embeddings() -> Tensor:
    return torch.randn(2, 4, 4, 8, generator=torch.Generator().manual_seed(0))


def gradient(raw_2BRD: Tensor, present: Tensor) -> Tensor:
    leaf = raw_2BRD.clone().requires_grad_()
    z1, z2 = F.normalize(leaf, dim=-1)
    mean_over_present(region_nt_xent(z1, z2, present, 0.3), present).backward()
    return leaf.grad


def half(rank: int, init: str, answer: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=init, rank=rank, world_size=2)
    mine = slice(2 * rank, 2 * rank + 2)
    # Distributed training averages the gradients of the ranks.
    torch.save(gradient(embeddings()[:, mine], PRESENT[mine]) / 2, answer / f"{rank}.pt")
    dist.destroy_process_group()


def test_two_processes_have_the_gradient_of_the_global_batch(tmp_path: Path) -> None:
    mp.spawn(half, (f"file://{tmp_path}/init", tmp_path), nprocs=2)
    halves = torch.cat([torch.load(tmp_path / f"{rank}.pt") for rank in range(2)], dim=1)
    torch.testing.assert_close(halves, gradient(embeddings(), PRESENT))
    assert (halves[:, ~PRESENT] == 0).all()
