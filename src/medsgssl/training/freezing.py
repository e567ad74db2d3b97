"""Freezing that really freezes: no gradient, and BatchNorm in eval mode."""

from __future__ import annotations

from medsgssl.methods import Task


def set_modes(task: Task, frozen: bool) -> None:
    """Put the task into training mode, with its frozen modules at rest or not.

    Args:
        task: The task.
        frozen: Whether ``task.frozen()`` rests.
    """
    task.train()
    for module in task.frozen():
        module.requires_grad_(not frozen)
        if frozen:
            module.eval()
    for name, parameter in task.named_parameters():
        if name.startswith(task.fixed):
            parameter.requires_grad_(False)
