"""BatchNorm over the batches of all processes, on GPUs and on CPUs.

Each process normalizing its own share is another network than one process with the whole batch, and
in contrastive learning one that can cheat. torch synchronizes on GPUs; on CPUs its SyncBatchNorm
refuses, so that the same statistics are summed here, with gradient.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from timm.layers.norm_act import BatchNormAct2d, convert_sync_batchnorm
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from medsgssl.losses.collectives import total_over_ranks


def synchronize_batch_norm(module: nn.Module, *, cpu: bool) -> None:
    """Let every BatchNorm of a module use the statistics of all processes, in place.

    Names of parameters and buffers stay. timm's conversion is used because torch's own drops the
    activation that timm's BatchNorm layers hold.

    Args:
        module: Holds the layers; it is none itself.
        cpu: Whether it computes on the CPU.
    """
    if not cpu:
        convert_sync_batchnorm(module)  # type: ignore[no-untyped-call]
        return
    for layer in module.modules():
        if isinstance(layer, BatchNormAct2d):
            layer.__class__ = _BatchNormActOverProcesses
        elif isinstance(layer, _BatchNorm):
            layer.__class__ = _BatchNormOverProcesses


class _BatchNormOverProcesses(_BatchNorm):
    """Synchronized BatchNorm for tensors on the CPU."""

    def _check_input_dim(self, _input: Tensor) -> None:
        pass  # the layer that this one was has its shapes right

    def forward(self, x: Tensor) -> Tensor:
        """Normalize (N, C, ...)."""
        return _normalize(self, x) if self.training else super().forward(x)


class _BatchNormActOverProcesses(BatchNormAct2d):
    """The same with the drop-out and activation that timm's layers hold."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalize (N, C, H, W) and activate."""
        if not self.training:
            return super().forward(x)  # type: ignore[no-any-return, no-untyped-call]
        return self.act(self.drop(_normalize(self, x)))  # type: ignore[no-any-return]


def _normalize(layer: _BatchNorm, x: Tensor) -> Tensor:
    """Normalize (N, C, ...) by the mean and variance of each channel over all processes."""
    axes = [0, *range(2, x.ndim)]
    shape = [1, -1] + [1] * (x.ndim - 2)
    count = torch.tensor(float(x.numel() // x.shape[1]))
    dist.all_reduce(count)
    # Two sums one after the other: the mean of squares minus the square of the mean loses digits.
    mean = total_over_ranks(x.sum(axes)) / count
    centered = x - mean.view(shape)
    variance = total_over_ranks(centered.square().sum(axes)) / count
    if layer.track_running_stats:
        _follow(layer, mean.detach(), variance.detach() * count / (count - 1))
    y: Tensor = centered * (variance + layer.eps).rsqrt().view(shape)
    return y * layer.weight.view(shape) + layer.bias.view(shape) if layer.affine else y


@torch.no_grad()
def _follow(layer: _BatchNorm, mean: Tensor, unbiased_variance: Tensor) -> None:
    assert layer.num_batches_tracked is not None
    assert layer.running_mean is not None
    assert layer.running_var is not None
    layer.num_batches_tracked.add_(1)
    share = 1 / float(layer.num_batches_tracked) if layer.momentum is None else layer.momentum
    layer.running_mean.lerp_(mean, share)
    layer.running_var.lerp_(unbiased_variance, share)
