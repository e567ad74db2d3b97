"""Batches of real views of drawn lungs, and small tasks, for the tests of methods."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from medsgssl.config.schema import AugmentSettings
from medsgssl.methods.registry import configure, method_of
from medsgssl.models.task import Task
from medsgssl.transforms.batch import ViewBatch
from medsgssl.transforms.crops import RandomCrop
from medsgssl.transforms.view_spec import ViewPlan, ViewSpec, make_view

MakeBatch = Callable[..., ViewBatch]
MakeTask = Callable[..., Any]


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


def draw_lungs(size: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """An image uint8 (size, size) with two dark, textured lungs, and their mask of 0 and 1."""
    y, x = np.mgrid[:size, :size] / size
    mask = np.zeros((size, size), bool)
    for center in (0.3, 0.7):
        off = center + rng.uniform(-0.03, 0.03)
        mask |= ((x - off) / 0.16) ** 2 + ((y - 0.5) / rng.uniform(0.27, 0.33)) ** 2 < 1
    image = np.where(mask, 60, 170) + rng.normal(0, 12, (size, size)) + 20 * np.sin(9 * y)
    return np.clip(image, 0, 255).astype(np.uint8), mask.astype(np.uint8)


@pytest.fixture
def lung_batch() -> MakeBatch:
    """Return a maker of batches of two random views, or a plan's, on the CPU as floats."""

    def make(
        count: int = 4,
        size: int = 64,
        quality: float | list[float] = 1.0,
        domains: list[int] | None = None,
        seed: int = 0,
        whole_mask: bool = False,
        plan: ViewPlan | None = None,
    ) -> ViewBatch:
        rng = np.random.default_rng(seed)
        augment = AugmentSettings()
        plan = plan or (ViewSpec(RandomCrop(augment), augment),) * 2
        trust = torch.as_tensor(quality, dtype=torch.float32).expand(count).clone()
        views = []
        for number in range(count):
            image, mask = draw_lungs(72, rng)
            mask = np.ones_like(mask) if whole_mask else mask
            key = (seed, 0, number)
            q = float(trust[number])
            views.append(
                [make_view(image, mask, q, spec, size, (*key, v)) for v, spec in enumerate(plan)]
            )
        return ViewBatch(
            images=torch.from_numpy(np.array([[[v.image] for v in pair] for pair in views])),
            masks=torch.from_numpy(np.array([[v.mask for v in pair] for pair in views]) > 0),
            affines=torch.from_numpy(
                np.array([[v.affine for v in pair] for pair in views], np.float32)
            ),
            flipped=torch.tensor([[v.flipped for v in pair] for pair in views]),
            quality=trust,
            rows=torch.arange(count),
            labels=torch.zeros(count, 14),
            domains=torch.tensor(domains or [0] * count),
        ).to_device(torch.device("cpu"))

    return make


@pytest.fixture
def make_task() -> MakeTask:
    """Return a maker of a method's task with a small encoder without pretrained weights."""

    def make(name: str, encoder: str, size: int = 64, **own: Any) -> Task:
        own = {"projector_hidden": 32, "projector_out": 16, **own}
        tree = {
            "encoder": {"name": encoder, "pretrained": False},
            "data": {"img_size": size},
            "method": own,
        }
        torch.manual_seed(0)
        method = method_of(configure(name, tree))
        return method.task(method.encoder())

    return make


@dataclass
class TermChecks:
    """What must hold for every term of every method."""

    def gradient(self, task: Task, batch: ViewBatch, term: str, progress: float = 0.5) -> float:
        """The norm of the gradient of one term alone on the encoder's backbone."""
        task.zero_grad(set_to_none=True)
        torch.manual_seed(1)
        task(batch, progress).losses[term].backward()
        parameters = task.encoder.backbone.parameters()
        return sum(float(p.grad.norm()) for p in parameters if p.grad is not None)

    def step(self, task: Task, batch: ViewBatch, progress: float = 0.5) -> Tensor:
        """The backbone's parameters, in one vector, after one SGD step of a copy of the task."""
        task = copy.deepcopy(task)
        torch.manual_seed(1)
        task(batch, progress).loss.backward()
        torch.optim.SGD([p for p in task.parameters() if p.requires_grad], lr=0.1).step()
        return torch.cat([p.detach().flatten() for p in task.encoder.backbone.parameters()])

    def changes_step(self, task: Task, without: Task, batch: ViewBatch) -> bool:
        """Whether a task and its twin without a term differ after one step from equal weights."""
        without.load_state_dict(task.state_dict(), strict=False)
        return not torch.equal(self.step(task, batch), self.step(without, batch))


@pytest.fixture
def term_checks() -> TermChecks:
    return TermChecks()
