from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from medsgssl.models.ema_teacher import EMATeacher, first_momentum, momentum_at
from medsgssl.models.projector import Projector


def student() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.Dropout(0.5), nn.Linear(8, 4))


def test_it_shares_no_tensor_and_no_module_with_the_student() -> None:
    model = student()
    teacher = EMATeacher(model)
    own = {tensor.data_ptr() for tensor in teacher.state_dict().values()}
    assert own.isdisjoint(tensor.data_ptr() for tensor in model.state_dict().values())
    assert {id(module) for module in teacher.modules()}.isdisjoint(map(id, model.modules()))


def test_changing_the_student_leaves_its_output_unchanged_until_it_follows() -> None:
    model = student()
    teacher, x = EMATeacher(model), torch.randn(5, 6)
    before = teacher.model(x)
    with torch.no_grad():
        model[0].weight.add_(1.0)
    assert torch.equal(teacher.model(x), before)
    teacher.follow(model, 0.5)
    assert not torch.equal(teacher.model(x), before)


def test_it_follows_by_the_exponential_moving_average() -> None:
    model = student()
    teacher = EMATeacher(model)
    old = model[0].weight.detach().clone()
    with torch.no_grad():
        model[0].weight.add_(2.0)
    teacher.follow(model, 0.9)
    torch.testing.assert_close(teacher.model[0].weight, 0.9 * old + 0.1 * model[0].weight)
    teacher.follow(model, 1.0)
    torch.testing.assert_close(teacher.model[0].weight, 0.9 * old + 0.1 * model[0].weight)


def test_it_has_no_gradient_and_stays_in_eval_mode() -> None:
    task = nn.ModuleDict({"student": student(), "teacher": EMATeacher(student())})
    task.train()
    assert task["student"].training
    assert not any(module.training for module in task["teacher"].modules())
    assert not any(parameter.requires_grad for parameter in task["teacher"].parameters())


def test_its_batch_norm_uses_the_batch_and_keeps_no_state() -> None:
    projector = Projector(6, 8, 4, 2)
    teacher, x = EMATeacher(projector), torch.randn(16, 6)
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    torch.testing.assert_close(teacher.model(x), projector.train()(x))
    assert teacher.state_dict().keys() == before.keys()
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())
    teacher.follow(projector, 0.5)


@pytest.mark.parametrize(("progress", "wanted"), [(0.0, 0.996), (0.5, 0.998), (1.0, 1.0)])
def test_momentum_rises_to_one_along_a_cosine(progress: float, wanted: float) -> None:
    assert momentum_at(progress, 0.996) == pytest.approx(wanted)
    quarter = 1 - 0.004 * (math.cos(math.pi / 4) + 1) / 2
    assert momentum_at(0.25, 0.996) == pytest.approx(quarter)


def test_its_batch_norm_gathers_over_processes_once_it_is_synchronized() -> None:
    task = nn.ModuleDict(
        {"teacher": EMATeacher(nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2)))}
    )
    task = nn.SyncBatchNorm.convert_sync_batchnorm(task).train()
    (norm,) = (m for m in task.modules() if isinstance(m, nn.SyncBatchNorm))
    # What its forward asks before it gathers, beside the process group.
    assert (norm.training, norm.running_mean, norm.running_var) == (True, None, None)


@pytest.mark.parametrize(("steps", "wanted"), [(50_000, 0.996), (2500, 0.996), (100, 0.9), (5, 0)])
def test_the_first_momentum_follows_the_length_of_the_run(steps: int, wanted: float) -> None:
    assert first_momentum(steps, 0.996) == pytest.approx(wanted)
