"""Devices, precision and processes: everything Lightning Fabric is asked for."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.accelerators.cpu import CPUAccelerator
from lightning_fabric.loggers.tensorboard import TensorBoardLogger
from lightning_fabric.strategies.ddp import DDPStrategy

from medsgssl.config.schema import LoopSettings


def launch(
    settings: LoopSettings, log_folder: Path, train: Callable[..., None], *arguments: Any
) -> None:
    """Run ``train(fabric, *arguments)`` on every process the settings ask for.

    One device runs in this process. Several devices of one machine run in spawned processes.
    Under torchrun or Slurm this process is one of those already started.

    Args:
        settings: Accelerator, devices, machines and precision.
        log_folder: Where TensorBoard's files go.
        train: A module-level function, so that spawned processes can import it.
        *arguments: Picklable.
    """
    fabric = Fabric(
        accelerator=settings.accelerator,
        devices=settings.devices,
        num_nodes=settings.num_nodes,
        precision=_precision(settings),
        strategy=_strategy(settings),
        loggers=TensorBoardLogger(log_folder, name="tensorboard", version=""),
    )
    if isinstance(fabric.strategy, DDPStrategy) and not _started_outside():
        fabric.launch(_Job(train, arguments))
    else:
        fabric.launch()
        train(fabric, *arguments)


class _Job:
    """A call that travels to spawned processes whole: Fabric looks into loose arguments."""

    def __init__(self, train: Callable[..., None], arguments: tuple[Any, ...]) -> None:
        self._train, self._arguments = train, arguments

    def __call__(self, fabric: Fabric) -> None:
        self._train(fabric, *self._arguments)


def _started_outside() -> bool:
    return "LOCAL_RANK" in os.environ or "SLURM_NTASKS" in os.environ


def device_count(settings: LoopSettings) -> int:
    """Return the number of processes per machine that the settings lead to."""
    if settings.devices != "auto":
        return settings.devices
    if settings.accelerator == "cpu" or not torch.cuda.is_available():
        return 1
    return torch.cuda.device_count()


def _strategy(settings: LoopSettings) -> Any:
    if device_count(settings) * settings.num_nodes == 1:
        return "auto"
    # Frozen parts have no gradient for a while; DDP must not wait for it.
    return DDPStrategy(
        start_method="popen" if _started_outside() else "spawn",
        find_unused_parameters=settings.frozen_epochs > 0,
    )


def _precision(settings: LoopSettings) -> Any:
    if settings.precision != "auto":
        return settings.precision
    if settings.accelerator == "cpu" or not torch.cuda.is_available():
        # bf16 on CPUs is slower than fp32 unless they have matrix units for it.
        return "32-true"
    return "bf16-mixed" if torch.cuda.is_bf16_supported() else "16-mixed"


def on_cpu(fabric: Fabric) -> bool:
    """Return whether this process computes on the CPU."""
    return isinstance(fabric.accelerator, CPUAccelerator)
