"""Means over the processes of distributed training, for denominators that batches share."""

from __future__ import annotations

import torch
import torch.distributed
from torch import Tensor


def mean_over_ranks(values: Tensor) -> Tensor:
    """Return the mean of a tensor of any shape over all processes, without gradient."""
    values = values.detach().clone()
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.all_reduce(values)
        values = values / torch.distributed.get_world_size()
    return values
