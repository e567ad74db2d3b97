"""The mean teacher: a copy of a model that follows its exponential moving average.

Source: Tarvainen and Valpola, "Mean teachers are better role models", NeurIPS 2017; momentum
schedule of Grill et al., "Bootstrap your own latent", NeurIPS 2020, section 3.2.
"""

from __future__ import annotations

import copy
import math
from typing import Generic, TypeVar

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

M = TypeVar("M", bound=nn.Module)


class EMATeacher(nn.Module, Generic[M]):
    """Owns a deep copy of a student that shares no tensor and no callable with it.

    The copy never trains: it has no gradient and stays in eval mode. Its BatchNorm layers use the
    statistics of the batch over all processes, as the student's do in training; averages of the
    student's would lag.

    Args:
        student: The model to follow.

    Attributes:
        model: The teacher itself.
    """

    def __init__(self, student: M) -> None:
        super().__init__()
        self.model = copy.deepcopy(student).requires_grad_(False)
        for module in self._batch_norms():
            module.track_running_stats = False
            module.running_mean = module.running_var = module.num_batches_tracked = None
        self.train()

    def train(self, mode: bool = True) -> EMATeacher[M]:
        """Stay in eval mode, whatever the mode of the task."""
        del mode
        super().train(False)
        # SyncBatchNorm gathers over the processes in training mode only.
        for module in self._batch_norms():
            module.train()
        return self

    def _batch_norms(self) -> list[_BatchNorm]:
        return [module for module in self.model.modules() if isinstance(module, _BatchNorm)]

    @torch.no_grad()
    def follow(self, student: M, momentum: float) -> None:
        """Move every parameter: teacher = momentum * teacher + (1 - momentum) * student.

        Buffers are copied.

        Args:
            student: The model the teacher was copied from.
            momentum: In [0, 1].
        """
        pairs = zip(self.model.parameters(), student.parameters(), strict=True)
        mine, theirs = zip(*((own, other.to(own.dtype)) for own, other in pairs), strict=True)
        # All at once: on a GPU, hundreds of launches for small tensors take longer than the sums.
        torch._foreach_lerp_(mine, theirs, 1 - momentum)
        theirs_by_name = dict(student.named_buffers())
        for name, buffer in self.model.named_buffers():
            buffer.copy_(theirs_by_name[name])


def first_momentum(steps: int, largest: float) -> float:
    """Return the momentum that a run of so many steps starts with: min(largest, 1 - 10 / steps).

    A teacher that moves by 0.4 % a step is still mostly its own start after a few hundred steps;
    so the average reaches back over a tenth of a short run.

    Args:
        steps: Optimizer steps of the whole run.
        largest: Momentum at the start of a long run, in [0, 1].
    """
    return max(min(largest, 1 - 10 / max(steps, 1)), 0.0)


def momentum_at(progress: float, start: float) -> float:
    """Return the momentum, rising from ``start`` to 1 along a half cosine.

    Args:
        progress: Share of the training done, in [0, 1].
        start: Momentum at the start, in [0, 1].
    """
    return 1 - (1 - start) * (math.cos(math.pi * progress) + 1) / 2
