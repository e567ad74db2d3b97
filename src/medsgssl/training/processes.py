"""Which processes train: settings and launcher are brought together before any work."""

from __future__ import annotations

from typing import Literal, TypeVar

import torch

from medsgssl.config.schema import Config
from medsgssl.config.training_settings import LoopSettings
from medsgssl.errors import ConfigError
from medsgssl.utils.ranks import Processes, launched_processes

Stage = Literal["pretrain", "finetune"]
SettingsT = TypeVar("SettingsT", bound=LoopSettings)


def resolve_processes(config: Config) -> Config:
    """Return the configuration with the number of processes that it leads to here.

    ``devices`` becomes the number of processes over all machines and ``num_nodes`` 1: results
    depend on their product alone, and a run may continue on other machines with as many.

    Raises:
        ConfigError: The settings contradict the launcher, or a device is not there.
    """
    launched = launched_processes()
    if launched is not None and launched.size == 1 and _asked(config, launched) != {1}:
        # Said of both stages at once: the launcher has started too few.
        raise _contradiction("pretrain", config.pretrain, launched)
    return config.model_copy(
        update={
            "pretrain": _resolve("pretrain", config.pretrain, launched),
            "finetune": _resolve("finetune", config.finetune, launched),
        }
    )


def _asked(config: Config, launched: Processes) -> set[int]:
    return {_number(settings, launched) for settings in (config.pretrain, config.finetune)}


def _number(settings: LoopSettings, launched: Processes | None) -> int:
    """Return how many processes the settings ask for, where a launcher may have started some."""
    if launched is None:
        devices = 1 if settings.devices == "auto" else settings.devices
        return devices * (1 if settings.num_nodes == "auto" else settings.num_nodes)
    devices = launched.local_size if settings.devices == "auto" else settings.devices
    return devices * (launched.nodes if settings.num_nodes == "auto" else settings.num_nodes)


def _resolve(stage: Stage, settings: SettingsT, launched: Processes | None) -> SettingsT:
    number = _number(settings, launched)
    if launched is not None and number != launched.size:
        raise _contradiction(stage, settings, launched)
    if launched is None and settings.num_nodes not in ("auto", 1):
        raise ConfigError(
            f"{stage}.num_nodes={settings.num_nodes}, but nothing has started processes on other "
            "machines",
            f"start the command on each machine with `torchrun --nnodes {settings.num_nodes} "
            "--nproc-per-node N --rdzv-backend c10d --rdzv-endpoint HOST:PORT -m medsgssl ...`, or "
            "with srun, and leave num_nodes at auto",
        )
    _check_devices(stage, settings, number if launched is None else launched.local_size)
    return settings.model_copy(update={"devices": number, "num_nodes": 1})


def _contradiction(stage: Stage, settings: LoopSettings, launched: Processes) -> ConfigError:
    asked = f"{stage}.devices={settings.devices}"
    if settings.num_nodes != "auto":
        asked += f", {stage}.num_nodes={settings.num_nodes}"
    torchrun = launched.launcher == "torchrun"
    start = "torchrun --nproc-per-node N" if torchrun else "srun --ntasks-per-node=N"
    return ConfigError(
        f"{asked} asks for {_number(settings, launched)} processes, but {launched}",
        f"leave devices and num_nodes at auto, which takes the processes that are there, or start "
        f"as many with `{start}`",
    )


def _check_devices(stage: Stage, settings: LoopSettings, local: int) -> None:
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if settings.accelerator == "cpu" or (settings.accelerator == "auto" and not gpus):
        return
    if gpus < local:
        raise ConfigError(
            f"{local} processes of {stage} on this machine need a GPU each, and torch sees {gpus}",
            f"start at most {gpus}, or set {stage}.accelerator=cpu"
            if gpus
            else f"set {stage}.accelerator=cpu, or install a torch for this machine's GPUs",
        )
