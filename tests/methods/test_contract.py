"""What holds for every registered method that pretrains, whichever file it comes from."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import yaml
from torch import Tensor, nn

from medsgssl.config.loading import build, to_yaml
from medsgssl.config.schema import Config
from medsgssl.methods.registry import all_methods, configure, method_of
from medsgssl.models.task import Task
from medsgssl.transforms.batch import ViewBatch

Gradients = dict[str, Tensor]

SIZE = 64
PRETRAINING = [name for name, method in all_methods().items() if method.pretrains]
# Two data sets in every batch, so that terms between data sets are there as well.
DOMAINS = [0, 0, 1, 1]

every_method = pytest.mark.parametrize("name", PRETRAINING)


def config_of(name: str, no_pretrain: bool = False, **own: Any) -> Config:
    """A method with the tiny backbone of the family that its own default belongs to."""
    default = configure(name)
    heads = {"projector_hidden": 32, "projector_out": 16}
    tree = {
        "encoder": {
            "name": "test_vit" if default.encoder.name.startswith("vit") else "test_efficientnet",
            "pretrained": False,
        },
        "data": {"img_size": SIZE},
        "method": {k: v for k, v in heads.items() if hasattr(default.method, k)} | own,
    }
    return configure(name, tree, no_pretrain=no_pretrain)


def task_of(config: Config) -> Task:
    torch.manual_seed(0)
    method = method_of(config)
    return method.task(method.encoder())


@pytest.fixture
def setting(lung_batch):
    """A maker of a method's task and a batch of the views that it asks for."""

    def make(name: str, **batch: Any) -> tuple[Task, ViewBatch]:
        config = config_of(name)
        plan = method_of(config).pretrain_views()
        return task_of(config), lung_batch(**{"domains": DOMAINS, "plan": plan, **batch})

    return make


def run(task: Task, batch: ViewBatch, progress: float = 0.25):
    torch.manual_seed(1)
    return task(batch, progress)


def encoder_gradient(task: Task) -> Tensor:
    parts = [torch.zeros_like(p) if p.grad is None else p.grad for p in task.encoder.parameters()]
    return torch.cat([part.flatten() for part in parts])


@every_method
def test_it_says_what_it_is(name: str) -> None:
    method = all_methods()[name]
    assert method.name == name
    assert method.summary.endswith(".")
    assert method.summary.count(".") == 1
    assert any(str(year) in method.citation for year in range(2000, 2100))


@every_method
def test_its_default_settings_are_valid_printable_and_explained(name: str) -> None:
    config = configure(name)
    own = type(config.method)
    assert build(yaml.safe_load(to_yaml(config)), own) == config
    assert [key for key, field in own.model_fields.items() if not field.description] == []


@every_method
def test_its_loss_is_finite_and_the_weighted_sum_of_its_terms(setting, name: str) -> None:
    task, batch = setting(name)
    output = run(task, batch)
    assert output.losses
    assert output.losses.keys() == output.weights.keys()
    assert all(term.ndim == 0 and term.isfinite() for term in output.losses.values())
    wanted = sum(output.weights[key] * float(term.detach()) for key, term in output.losses.items())
    assert float(output.loss.detach()) == pytest.approx(wanted, rel=1e-5)


@every_method
def test_what_it_logs_is_finite_and_without_gradient(setting, name: str) -> None:
    task, batch = setting(name)
    output = run(task, batch)
    # Features, not projections: the projector's BatchNorm would hide a collapse.
    assert output.embedding.shape == (batch.size, task.encoder.num_features)
    assert not output.embedding.requires_grad
    assert not any(value.requires_grad for value in output.metrics.values())
    assert all(torch.isfinite(value).all() for value in output.metrics.values())
    for term, floor in output.lower_bounds.items():
        assert float(output.losses[term].detach()) >= floor - 1e-5, term


@every_method
def test_every_trainable_parameter_has_a_gradient(setting, name: str) -> None:
    task, batch = setting(name)
    run(task, batch).loss.backward()
    trained = {n: p for n, p in task.named_parameters() if p.requires_grad}
    assert trained
    assert [n for n, p in trained.items() if p.grad is None] == []
    assert all(p.grad.isfinite().all() for p in trained.values())
    assert all(
        n.startswith(task.frozen_prefixes)
        for n, p in task.named_parameters()
        if not p.requires_grad
    )


@every_method
def test_every_term_has_a_gradient_on_the_encoder_and_changes_its_step(setting, name: str) -> None:
    task, batch = setting(name)
    steps = {}
    for term in [None, *run(task, batch).losses]:
        copied = copy.deepcopy(task)
        output = run(copied, batch)
        if term is not None:
            alone = torch.autograd.grad(
                output.losses[term],
                list(copied.encoder.backbone.parameters()),
                retain_graph=True,
                allow_unused=True,
            )
            assert sum(float(g.norm()) for g in alone if g is not None) > 0, term
            output.weights[term] = 0.0
        output.loss.backward()
        steps[term] = encoder_gradient(copied)
    whole = steps.pop(None)
    assert all(not torch.equal(without, whole) for without in steps.values())


@every_method
def test_twenty_steps_on_one_batch_lower_its_loss(setting, name: str) -> None:
    task, batch = setting(name)
    task.train()
    optimizer = torch.optim.AdamW([p for p in task.parameters() if p.requires_grad], lr=1e-3)
    losses = []
    for step in range(20):
        loss = run(task, batch, progress=0.0).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        task.on_step_end(step / 20)
        losses.append(float(loss.detach()))
    assert all(math.isfinite(loss) for loss in losses)
    assert sum(losses[-3:]) < 0.9 * sum(losses[:3])


@every_method
def test_bfloat16_is_close_to_float32(setting, name: str) -> None:
    task, batch = setting(name)
    exact = run(task, batch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = run(task, batch)
    assert rough.loss.dtype == torch.float32
    for term, value in exact.losses.items():
        assert float(rough.losses[term].detach()) == pytest.approx(
            float(value.detach()), rel=0.1, abs=0.02
        ), term


@every_method
def test_its_encoder_takes_gray_images_and_repeats_them_to_the_backbones_channels(
    setting, name: str
) -> None:
    task, batch = setting(name)
    assert batch.images.shape[2] == 1
    features = task.encoder.eval()(*batch.view(0))
    assert features.pooled.shape == (batch.size, task.encoder.num_features)
    assert features.spatial.ndim == 4
    first = next(m for m in task.encoder.backbone.modules() if isinstance(m, nn.Conv2d))
    # Timm's own three, and one more where the mask is an input.
    assert first.in_channels == 3 + (name == "mask-channel")


@every_method
def test_what_it_shows_of_its_views_has_their_shape(setting, name: str) -> None:
    task, batch = setting(name)
    seen = task.encoder_input(batch)
    assert seen.shape[0] == batch.size
    assert seen.shape[2:] == batch.images.shape[2:]


@every_method
def test_the_direct_twin_has_the_same_encoder_and_loads_it_strictly(
    tmp_path: Path, name: str
) -> None:
    # Not at the top: the second process of the last test would wait for it.
    from medsgssl.models.weights import load_weights, save_weights, weights_identity

    pretrained = task_of(config_of(name)).encoder
    twin_config = config_of(name, no_pretrain=True)
    assert twin_config.no_pretrain
    torch.manual_seed(7)
    twin = method_of(twin_config).encoder()
    assert list(twin.state_dict()) == list(pretrained.state_dict())
    save_weights(tmp_path / "encoder.safetensors", pretrained, weights_identity(twin_config))
    load_weights(tmp_path / "encoder.safetensors", twin, weights_identity(twin_config))
    theirs = pretrained.state_dict()
    assert all(torch.equal(value, theirs[key]) for key, value in twin.state_dict().items())


@every_method
def test_the_control_without_masks_trains_the_encoder(setting, name: str) -> None:
    task, batch = setting(name, whole_mask=True, quality=0.0)
    assert (batch.quality == 0).all()
    output = run(task, batch)
    output.loss.backward()
    gradient = encoder_gradient(task)
    assert output.loss.isfinite()
    assert gradient.isfinite().all()
    assert gradient.norm() > 0


@every_method
def test_views_without_any_lung_train_the_encoder(setting, name: str) -> None:
    task, batch = setting(name)
    empty = replace(batch, masks=torch.zeros_like(batch.masks))
    output = run(task, empty)
    output.loss.backward()
    assert output.loss.isfinite()
    assert encoder_gradient(task).isfinite().all()


@every_method
def test_masks_move_the_gradient_of_methods_with_masks_and_of_no_other(setting, name: str) -> None:
    gradients = []
    # Rendered anew, because a mask may act through the views alone.
    for changes in ({}, {"whole_mask": True, "quality": [0.3, 0.5, 0.8, 1.0]}):
        task, batch = setting(name, **changes)
        run(task, batch).loss.backward()
        gradients.append(encoder_gradient(task))
    assert torch.equal(*gradients) == (not all_methods()[name].uses_masks)


# What leaves nothing to chance, so that two halves of a batch can be compared with the whole, for
# methods that draw numbers. Terms that are ratios within a rank (e.g. means over its hidden
# patches) are left out.
CERTAIN: dict[str, dict[str, Any]] = {
    "masked-contrastive": {"mask_ratio": (1.0, 1.0), "fill_noise": 0.0},
    "anatomy-masked-attention": {
        "mask_ratio": 1.0,
        "curriculum": False,
        "lambda_recon": 0.0,
        "lambda_dom": 0.0,
    },
}


def gradients_of(name: str, batch: ViewBatch, wrap: Callable[[Task], nn.Module]) -> Gradients:
    task = task_of(config_of(name, **CERTAIN.get(name, {})))
    # BatchNorm at rest: in training it is each rank's own, and SyncBatchNorm needs GPUs.
    for module in task.eval().modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) and module.running_mean is None:
            module.running_mean = torch.zeros(module.num_features)
            module.running_var = torch.ones(module.num_features)
            module.eval()  # a teacher keeps its own in training mode
    model = wrap(task)
    model(batch, 0.25).loss.backward()
    return {key: p.grad for key, p in task.named_parameters() if p.requires_grad}


def half_of_each(rank: int, init: str, batches: dict[str, ViewBatch]) -> dict[str, Gradients]:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=init, rank=rank, world_size=2)
    try:
        return {
            name: gradients_of(name, half(batch, rank), nn.parallel.DistributedDataParallel)
            for name, batch in batches.items()
        }
    finally:
        dist.destroy_process_group()


def half(batch: ViewBatch, rank: int) -> ViewBatch:
    return ViewBatch(**{key: value.chunk(2)[rank] for key, value in vars(batch).items()})


def second_process(_: int, init: str, batches: dict[str, ViewBatch]) -> None:
    half_of_each(1, init, batches)


def test_two_processes_have_the_gradients_of_the_global_batch(lung_batch, tmp_path: Path) -> None:
    batches = {}
    for name in PRETRAINING:
        plan = method_of(config_of(name)).pretrain_views()
        batches[name] = lung_batch(quality=[1.0, 0.2, 0.7, 0.4], plan=plan)
    init = f"file://{tmp_path}/init"
    other = mp.spawn(second_process, (init, batches), nprocs=1, join=False)
    halves = half_of_each(0, init, batches)
    assert other.join()
    for name, batch in batches.items():
        whole = gradients_of(name, batch, lambda task: task)
        largest = max(float(value.abs().max()) for value in whole.values())
        assert halves[name].keys() == whole.keys()
        for key, value in whole.items():
            error = float((halves[name][key] - value).abs().max())
            assert error < 1e-4 * largest, (name, key)
