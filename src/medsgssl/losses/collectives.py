"""What losses need of the other processes of distributed training: their rows, and means over all.

Each function is exact in one process too, where nothing is gathered.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed
from torch import Tensor


def world_size() -> int:
    """Return the number of processes that train together; 1 when alone."""
    distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
    return torch.distributed.get_world_size() if distributed else 1


def sum_over_ranks(values: Tensor) -> Tensor:
    """Return the sum of a tensor of any shape over all processes, without gradient."""
    values = values.detach().clone()
    if world_size() > 1:
        torch.distributed.all_reduce(values)
    return values


def mean_over_ranks(values: Tensor) -> Tensor:
    """Return the mean of a tensor of any shape over all processes, without gradient."""
    return sum_over_ranks(values) / world_size()


def total_over_ranks(values: Tensor) -> Tensor:
    """Return the sum of a tensor of any shape over all processes, with gradient."""
    total: Tensor = _Total.apply(values) if world_size() > 1 else values
    return total


def gather_views(local: Tensor) -> tuple[Tensor, int]:
    """Return the rows of all ranks in order, with gradient, and where this rank's begin."""
    if world_size() == 1:
        return local, 0
    every: Tensor = _Gather.apply(local)
    return every, torch.distributed.get_rank() * local.shape[0]


class _Gather(torch.autograd.Function):
    """All ranks' rows in order; what each rank's loss says of a row goes back to its rank."""

    @staticmethod
    def forward(ctx: Any, local: Tensor) -> Tensor:
        ctx.rows = local.shape[0]
        every = [torch.empty_like(local) for _ in range(torch.distributed.get_world_size())]
        torch.distributed.all_gather(every, local.contiguous())
        return torch.cat(every)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        summed = gradient.contiguous()
        torch.distributed.all_reduce(summed)
        first = torch.distributed.get_rank() * ctx.rows
        return summed[first : first + ctx.rows]


class _Total(torch.autograd.Function):
    """The sum over all ranks; what each rank's loss says of it goes back to every rank."""

    @staticmethod
    def forward(_ctx: Any, values: Tensor) -> Tensor:
        total = values.clone(memory_format=torch.contiguous_format)
        torch.distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(_ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.clone(memory_format=torch.contiguous_format)
        torch.distributed.all_reduce(total)
        return total
