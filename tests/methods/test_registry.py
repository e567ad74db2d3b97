"""A method is one file: found by name, configured, trained; names are unique."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch

from medsgssl.errors import ConfigError
from medsgssl.methods.base import Method
from medsgssl.methods.registry import (
    _METHODS,
    all_methods,
    configure,
    find_method,
    measured_costs,
    method_of,
    register,
)
from medsgssl.training.pretraining import pretrain

TOY = '''
"""A method of one file: the second view is to be told from the first."""

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import nn

from medsgssl.config.method_settings import MethodSettings
from medsgssl.methods.base import Method
from medsgssl.methods.registry import register
from medsgssl.models.task import Task, TaskOutput


class ToySettings(MethodSettings):
    """Settings of ``toy``."""

    scale: float = Field(2.0, gt=0, description="weight of the loss")


class ToyTask(Task):
    def __init__(self, encoder, settings):
        super().__init__(encoder)
        self.scale, self.head = settings.scale, nn.Linear(encoder.num_features, 1)

    def forward(self, batch, progress):
        pooled = [self.encoder(*batch.view(number)).pooled for number in (0, 1)]
        logits = torch.cat([self.head(features)[:, 0] for features in pooled])
        wanted = torch.arange(2).repeat_interleave(batch.size).float()
        loss = F.binary_cross_entropy_with_logits(logits, wanted)
        return TaskOutput({"order": loss}, {"order": self.scale}, pooled[0].detach(), {}, {})


@register
class Toy(Method):
    name = "toy"
    summary = "Tells the second view from the first."
    citation = "Nobody, 2024"
    settings = ToySettings
    defaults = {"pretrain.lr": 3e-3, "views.pretrain.blur": 0.0}

    def task(self, encoder):
        return ToyTask(encoder, self.config.method)
'''


def load(path: Path, name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def toy(tmp_path: Path) -> Iterator[type[Method]]:
    """A method in a file outside the package; forgotten again after the test."""
    all_methods()
    before = dict(_METHODS)
    path = tmp_path / "toy_method.py"
    path.write_text(TOY)
    yield load(path, "toy_method").Toy
    _METHODS.clear()
    _METHODS.update(before)
    del sys.modules["toy_method"]


def test_the_options_and_their_controls_are_found() -> None:
    wanted = {
        "simclr",
        "direct",
        "masked-contrastive",
        "multi-region",
        "attention-prior",
        "mask-channel",
        "anatomy-masked-attention",
    }
    assert wanted <= set(all_methods())
    assert list(all_methods()) == sorted(all_methods())
    assert all(find_method(name).name == name for name in all_methods())


def test_a_method_of_one_file_is_configured_with_its_own_settings(toy: type[Method]) -> None:
    config = configure("toy", {"method": {"scale": 5.0}})
    assert find_method("toy") is toy
    assert toy.pretrains
    assert not config.no_pretrain
    assert config.method.scale == 5.0
    assert config.pretrain.lr == 3e-3
    assert config.views.pretrain.blur == 0
    assert configure("toy", {"pretrain": {"lr": 1e-2}}).pretrain.lr == 1e-2
    with pytest.raises(ConfigError, match=r"method\.scal: no such setting"):
        configure("toy", {"method": {"scal": 5.0}})


def test_a_method_of_one_file_takes_one_training_step(
    toy: type[Method], lung_batch, make_task
) -> None:
    tree = {"encoder": {"name": "test_efficientnet", "pretrained": False}}
    method = method_of(configure("toy", tree))
    task = method.task(method.encoder())
    before = [p.detach().clone() for p in task.parameters()]
    optimizer = torch.optim.SGD(task.parameters(), lr=0.1)
    task(lung_batch(plan=method.pretrain_views()), 0.0).loss.backward()
    optimizer.step()
    assert all(not torch.equal(a, b) for a, b in zip(before, task.parameters(), strict=True))


def test_a_method_of_one_file_runs_through_the_training_loop(
    toy: type[Method], tmp_path: Path, view_source, tiny_config
) -> None:
    config = tiny_config("toy", pretrain__epochs=1)
    pretrain(config, view_source, tmp_path, {"key": "k", "method": "toy"})
    assert (tmp_path / "pretrained.safetensors").is_file()
    assert "order" in (tmp_path / "pretrain_log.csv").read_text().splitlines()[0].split(",")


def test_two_methods_of_one_name_are_refused(toy: type[Method]) -> None:
    class Other(toy):  # type: ignore[misc, valid-type]
        name = "toy"

    with pytest.raises(ValueError, match="two methods are called 'toy'"):
        register(Other)
    assert find_method("toy") is toy


def test_a_file_may_be_read_twice(toy: type[Method], tmp_path: Path) -> None:
    again = load(tmp_path / "toy_method.py", "toy_method").Toy
    assert find_method("toy") is again


def test_an_unknown_method_is_refused_with_the_list_of_the_known() -> None:
    with pytest.raises(ConfigError, match="there is no method 'simclrr'") as caught:
        configure("simclrr")
    assert all(name in caught.value.fix for name in all_methods())


def test_a_method_without_pretext_task_is_always_direct() -> None:
    assert configure("direct").no_pretrain
    assert not configure("simclr").no_pretrain
    assert configure("simclr", no_pretrain=True).no_pretrain


def test_every_pretraining_method_of_the_package_has_a_measured_cost() -> None:
    costs, basis = measured_costs()
    own = {
        name
        for name, method in all_methods().items()
        if method.pretrains and method.__module__.startswith("medsgssl.")
    }
    assert costs.keys() == own
    assert costs["simclr"] == 1
    assert min(costs.values()) > 0.5
    assert "benchmarks/methods.py" in basis
