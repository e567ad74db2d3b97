"""BatchNorm of two processes is that of one with the whole batch, gradients included."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from timm.layers.norm_act import BatchNormAct2d, SyncBatchNormAct
from torch import Tensor, nn

from medsgssl.training.sync_batch_norm import synchronize_batch_norm


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 3, 3), BatchNormAct2d(3), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(108, 4),
        nn.BatchNorm1d(4),
    )  # fmt: skip


def batch() -> Tensor:
    return torch.randn(8, 1, 8, 8, generator=torch.Generator().manual_seed(1))


def learn(model: nn.Module, x: Tensor) -> dict[str, Tensor]:
    model.train()
    model(x).square().mul(torch.arange(4.0)).mean().backward()
    gradients = {f"gradient {name}": p.grad for name, p in model.named_parameters()}
    return gradients | dict(model.named_buffers()) | {"eval": model.eval()(batch()).detach()}


def half(rank: int, init: str, answer: Path) -> None:
    torch.set_num_threads(1)
    # Every process of every run would show it.
    warnings.simplefilter("error", FutureWarning)
    dist.init_process_group("gloo", init_method=init, rank=rank, world_size=2)
    model = network()
    synchronize_batch_norm(model, cpu=True)
    torch.save(learn(model, batch()[4 * rank : 4 * rank + 4]), answer / f"{rank}.pt")
    dist.destroy_process_group()


def test_two_processes_normalize_as_one(tmp_path: Path) -> None:
    mp.spawn(half, (f"file://{tmp_path}/init", tmp_path), nprocs=2)
    one, other = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    whole = learn(network(), batch())
    for name, value in whole.items():
        if name.startswith("gradient"):
            # Distributed training averages the gradients of the processes.
            torch.testing.assert_close((one[name] + other[name]) / 2, value, msg=name)
        else:
            torch.testing.assert_close(one[name], value, msg=name)
            assert torch.equal(one[name], other[name])


def test_the_activation_inside_a_norm_layer_survives_on_gpus() -> None:
    model = network()
    names = list(model.state_dict())
    synchronize_batch_norm(model, cpu=False)
    assert isinstance(model[1], SyncBatchNormAct)
    assert isinstance(model[1].act, nn.ReLU)
    assert isinstance(model[2], nn.SyncBatchNorm)
    assert list(model.state_dict()) == names
