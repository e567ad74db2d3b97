"""A training step of every method beside the bare network, and SimCLR's beside lightly's.

Bare: plain timm, forward, the mean square of the pooled features, backward and a fused AdamW step,
on as many views. What is added is what the method and its training loop cost.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable

import numpy as np
import timm
import torch
from torch import nn

from benchmarks.speed.figures import Figure, in_turn, median_ratio
from medsgssl.config.schema import Config
from medsgssl.data.loader import BatchDataset
from medsgssl.data.sampler import EpochSampler
from medsgssl.methods.contrastive import ContrastiveSettings
from medsgssl.methods.registry import CONTROL, all_methods, configure, method_of
from medsgssl.models.encoder import build_encoder
from medsgssl.models.task import Task
from medsgssl.models.weights import without_initial_weights
from medsgssl.study.timings import made_up_images
from medsgssl.training.optim import build_optimizer, set_modes
from medsgssl.transforms.batch import ViewBatch
from medsgssl.utils.allocator import keep_freed_memory

NOTE = (
    "One step from views in memory: forward, loss, backward, clipping, AdamW; every method with "
    "its own backbone at 224 pixels, batch 16, from scratch, in turn with the bare network on the "
    "same views. lightly's SimCLR step has the same backbone, projector sizes and views; its "
    "layout of memory is the default one, and `channels_last`, which is its best. All of them keep "
    "freed memory for the next step, as training does here. A forward pass is a "
    "third of a forward and backward pass: the teacher of anatomy-masked-attention, which sees "
    "every view whole, makes 1.33 of 1 by itself."
)
CPU = torch.device("cpu")
SIZE, BATCH, ROUNDS = 224, 16, 5
BARE = "bare forward and backward"


def measure(quick: bool) -> list[Figure]:
    """Return milliseconds per image of every method's step."""
    size, batch, rounds = (64, 4, 1) if quick else (SIZE, BATCH, ROUNDS)
    config = config_of(CONTROL, size, batch)
    task, views = task_and_views(config, CPU)
    own = our_step(task, views, config)
    with keep_freed_memory():
        figures = beside_bare(CPU, size, batch, rounds)
        figures += beside_lightly(own, views, config, rounds)
    return figures


def beside_lightly(
    own: Callable[[], None], views: ViewBatch, config: Config, rounds: int
) -> list[Figure]:
    """Return milliseconds per image of SimCLR's step, in turn with lightly's where it is there."""
    figures = []
    if importlib.util.find_spec("lightly") is not None:
        for layout in (torch.contiguous_format, torch.channels_last):
            times = in_turn([own, _lightly_step(config, views, layout)], rounds)
            label = "lightly" + ("" if layout is torch.contiguous_format else ", channels_last")
            figures.append(_figure(CONTROL, times, len(views.images), label, "at most 1"))
    return figures


def beside_bare(device: torch.device, size: int, batch: int, rounds: int) -> list[Figure]:
    """Return milliseconds per image of every method's step, in turn with the bare network's."""
    figures = []
    for name, method in all_methods().items():
        if not method.pretrains:
            continue
        config = config_of(name, size, batch)
        task, views = task_and_views(config, device)
        wanted = "at most 1.3" if task.encoder.is_vit else "at most 1.25"
        bare = bare_step(config, encoded_views(task, views), device)
        times = in_turn([our_step(task, views, config), bare], rounds)
        figures.append(_figure(name, times, batch, BARE, wanted))
    return figures


def config_of(name: str, size: int, batch: int) -> Config:
    """Return the configuration of a method from scratch at a size and a batch."""
    tree = {"data": {"img_size": size, "batch_size": batch, "cache_size": size}}
    return without_initial_weights(configure(name, tree))


def _figure(name: str, times: list[list[float]], batch: int, beside: str, wanted: str) -> Figure:
    own, other = times
    return Figure(
        name=f"step of {name}",
        value=1000 * float(np.median(own)) / batch,
        unit="ms an image",
        beside=beside,
        other=1000 * float(np.median(other)) / batch,
        ratio=median_ratio(own, other),
        wanted=wanted,
    )


def task_and_views(config: Config, device: torch.device) -> tuple[Task, ViewBatch]:
    """Return the task as the training loop lays it out, and one batch of its views."""
    method, count = method_of(config), config.data.batch_size
    task = method.task(method.encoder()).to(device)
    if not task.encoder.is_vit:
        task.to(memory_format=torch.channels_last)
    order = EpochSampler(np.arange(count), count, 0)
    steps = BatchDataset(
        made_up_images(config, count),
        method.pretrain_views(),
        order,
        config.data.img_size,
        0,
        masks=method.sees_masks,
    )
    return task, steps[0].to_device(device)


def our_step(task: Task, views: ViewBatch, config: Config) -> Callable[[], None]:
    """Return a step of pretraining on views that are on the device of the task."""
    optimizer = build_optimizer(task, config.pretrain)
    task.on_train_start(100)
    set_modes(task, frozen=False)
    parameters = [each for each in task.parameters() if each.requires_grad]
    device = views.images.device

    def step() -> None:
        with _precision(device):
            loss = task(views, 0.5).loss
        loss.backward()
        if config.pretrain.clip_grad is not None:
            nn.utils.clip_grad_norm_(parameters, config.pretrain.clip_grad)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        task.on_step_end(0.5)
        _wait(device)

    return step


def encoded_views(task: Task, views: ViewBatch) -> int:
    """Return how many views the encoder that is trained sees in a step."""
    counts: list[int] = []
    convolutions = (each for each in task.encoder.modules() if isinstance(each, nn.Conv2d))
    hook = next(convolutions).register_forward_pre_hook(
        lambda module, given: counts.append(len(given[0]))
    )
    with hook:
        task(views, 0.5)
    return sum(counts)


def bare_step(config: Config, count: int, device: torch.device) -> Callable[[], None]:
    """Return a step of the backbone alone on so many views."""
    encoder = build_encoder(config.encoder, config.data.img_size).to(device)
    backbone = encoder.backbone.train()
    inputs = torch.rand(count, 3, config.data.img_size, config.data.img_size, device=device)
    if not encoder.is_vit:
        backbone.to(memory_format=torch.channels_last)
        inputs = inputs.contiguous(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(backbone.parameters(), fused=True)

    def step() -> None:
        with _precision(device):
            loss = backbone(inputs).float().square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        _wait(device)

    return step


def _precision(device: torch.device) -> torch.autocast:
    """Return the precision of training: bf16 on a GPU."""
    return torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda")


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def _lightly_step(
    config: Config, views: ViewBatch, layout: torch.memory_format
) -> Callable[[], None]:
    from lightly.loss import NTXentLoss  # a peer, not a dependency
    from lightly.models.modules import SimCLRProjectionHead

    settings = config.method
    assert isinstance(settings, ContrastiveSettings)
    backbone = timm.create_model(config.encoder.name, num_classes=0)
    head = SimCLRProjectionHead(
        backbone.num_features, settings.projector_hidden, settings.projector_out
    )
    network = nn.Sequential(backbone, head).to(memory_format=layout).train()
    loss = NTXentLoss(temperature=settings.temperature)
    optimizer = torch.optim.AdamW(network.parameters(), fused=True)
    pair = [views.view(n)[0].expand(-1, 3, -1, -1) for n in range(2)]
    inputs = [each.contiguous(memory_format=layout) for each in pair]

    def step() -> None:
        loss(*(network(each) for each in inputs)).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step
