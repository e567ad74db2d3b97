"""What a training stage is given: its name, files, seeds, rate and settings."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from medsgssl.config.schema import Config
from medsgssl.config.training_settings import LoopSettings
from medsgssl.runs.folder import RunFolder

StageKind = Literal["pretrain", "finetune"]


@dataclass(frozen=True)
class StageSpec:
    """One training stage.

    Attributes:
        name: Part of every random stream and of the names of the stage's files.
        folder: Where checkpoint and log go.
        key: Fingerprint of everything that decides the result.
        seed: The run's seed.
        lr: Peak learning rate.
        settings: Schedule and devices.
        workers: Loader processes per device, or ``auto``.
        pin_memory: Page-locked memory where a GPU is used.
        monitor_batches: Batches behind the collapse monitor.
    """

    name: StageKind
    folder: Path
    key: str
    seed: int
    lr: float
    settings: LoopSettings
    workers: int | str
    pin_memory: bool
    monitor_batches: int

    @classmethod
    def of(cls, config: Config, name: StageKind, folder: Path, key: str, lr: float) -> StageSpec:
        """Return the stage of that name as the configuration describes it."""
        return cls(
            name=name,
            folder=folder,
            key=key,
            seed=config.seed,
            lr=lr,
            settings=config.pretrain if name == "pretrain" else config.finetune,
            workers=config.data.num_workers,
            pin_memory=config.data.pin_memory,
            monitor_batches=config.pretrain.monitor_batches,
        )

    @property
    def checkpoint(self) -> Path:
        """The latest state, removed when the stage is complete."""
        return RunFolder(self.folder).checkpoint(self.name)

    @property
    def log(self) -> Path:
        """The log, one row per epoch."""
        run = RunFolder(self.folder)
        return run.pretrain_log if self.name == "pretrain" else run.finetune_log
