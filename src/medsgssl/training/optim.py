"""The optimizer, and what is frozen: AdamW, and BatchNorm of a frozen backbone in eval mode.

The optimizer holds every parameter from the first step on, frozen or not. The learning rate of a
step is ``lr_schedule.py``'s.

Source: Loshchilov and Hutter, "Decoupled weight decay regularization", ICLR 2019.
"""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.optim import AdamW

from medsgssl.config.training_settings import LoopSettings
from medsgssl.models.task import Task


def build_optimizer(task: Task, settings: LoopSettings, *, fused: bool = True) -> AdamW:
    """Return one optimizer whose groups hold every parameter of the task exactly once.

    Each group carries ``factor``, its learning rate relative to the schedule's. Vectors and
    scalars (norms, biases, gates) and whatever the task names in ``no_decay`` (tokens) have no
    weight decay. Parameters that rest at first are members from the start: without a gradient
    AdamW leaves them alone, and unfreezing needs no second optimizer.

    Args:
        task: What is trained.
        settings: Weight decay and the backbone's factor.
        fused: Update all parameters in one kernel, on CPUs as on GPUs. Not with fp16: the fused
            optimizer then unscales the gradients by itself, after they should be clipped.
    """
    backbone = {id(parameter) for parameter in task.encoder.backbone.parameters()}
    skip = _no_decay_names(task)
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in task.named_parameters():
        if name.startswith(task.frozen_prefixes):
            continue
        decays = parameter.ndim > 1 and name not in skip
        groups.setdefault((id(parameter) in backbone, decays), []).append(parameter)
    return AdamW(
        [
            {
                "params": parameters,
                "weight_decay": settings.weight_decay if decays else 0.0,
                "factor": settings.backbone_lr_factor if old else 1.0,
            }
            for (old, decays), parameters in sorted(groups.items(), key=lambda item: item[0])
        ],
        lr=0.0,  # the schedule sets it before each step
        fused=fused or None,
    )


def _no_decay_names(task: Task) -> set[str]:
    # timm models name their tokens and position embeddings.
    named: Any = getattr(task.encoder.backbone, "no_weight_decay", set)
    names = {f"encoder.backbone.{name}" for name in named()}
    return names | {name for name, _ in task.named_parameters() if name.endswith("token")}


def set_modes(task: Task, frozen: bool) -> None:
    """Put the task into training mode, with its frozen modules at rest or not.

    Args:
        task: The task.
        frozen: Whether ``task.freezable_modules()`` rests, but for ``trains_while_frozen()``.
    """
    task.train()
    for module in task.freezable_modules():
        module.requires_grad_(not frozen)
        if frozen:
            module.eval()
    for module in task.trains_while_frozen():
        module.requires_grad_(True).train()
    for name, parameter in task.named_parameters():
        if name.startswith(task.frozen_prefixes):
            parameter.requires_grad_(False)
