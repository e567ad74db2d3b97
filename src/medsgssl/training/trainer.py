"""The training loop of both stages, top to bottom, with all of its state in one place."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from lightning.fabric import Fabric

from medsgssl.config.schema import Config, LoopSettings
from medsgssl.data.loader import BatchDataset, load_batches
from medsgssl.errors import MedsgsslError
from medsgssl.models.task import Task, TaskOutput
from medsgssl.training.checkpoint import load_checkpoint, save_checkpoint
from medsgssl.training.csv_logger import EpochLog, Row
from medsgssl.training.display import TrainingDisplay
from medsgssl.training.distributed import device_count, on_cpu, seed_step
from medsgssl.training.lr_schedule import lr_factor
from medsgssl.training.optim import build_optimizer, set_modes
from medsgssl.transforms.batch import ViewBatch
from medsgssl.utils.system import loader_workers

# The loss is looked at this often; more would make the device wait for the host.
_LOOK_EVERY = 20


class EpochCallback(Protocol):
    """What a stage does after each epoch."""

    def __call__(self, task: Task, row: Row) -> bool:
        """Add to the epoch's row; return True to stop here."""
        ...

    def state(self) -> dict[str, Any]:
        """Return plain values for the checkpoint."""
        ...

    def load(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        ...


@dataclass(frozen=True)
class Stage:
    """One training stage.

    Attributes:
        name: ``pretrain`` or ``finetune``; part of every random stream.
        folder: Where checkpoint and log go.
        key: Fingerprint of everything that decides the result.
        seed: The run's seed.
        settings: Schedule and devices.
        workers: Loader processes per device, or ``auto``.
        pin_memory: Page-locked memory where a GPU is used.
        monitor_batches: Batches behind the collapse monitor.
    """

    name: str
    folder: Path
    key: str
    seed: int
    settings: LoopSettings
    workers: int | str
    pin_memory: bool
    monitor_batches: int

    @classmethod
    def of(
        cls, config: Config, name: Literal["pretrain", "finetune"], folder: Path, key: str
    ) -> Stage:
        """Return the stage of that name as the configuration describes it."""
        return cls(
            name=name,
            folder=folder,
            key=key,
            seed=config.seed,
            settings=getattr(config, name),
            workers=config.data.num_workers,
            pin_memory=config.data.pin_memory,
            monitor_batches=config.pretrain.monitor_batches,
        )

    @property
    def checkpoint(self) -> Path:
        """The latest state, removed when the stage is complete."""
        return self.folder / f"{self.name}.checkpoint"

    @property
    def log(self) -> Path:
        """The log, one row per epoch."""
        return self.folder / f"{self.name}_log.csv"


class Trainer:
    """Trains a task step by step; ``run`` is the loop.

    Args:
        fabric: Device, precision and processes.
        stage: Names, seeds and settings.
        task: What is trained.
        steps: The batches.
        epoch_end: Called after each epoch.
    """

    def __init__(
        self,
        fabric: Fabric,
        stage: Stage,
        task: Task,
        steps: BatchDataset,
        epoch_end: EpochCallback,
    ) -> None:
        self.fabric, self.stage, self.task, self.steps = fabric, stage, task, steps
        self.epoch_end = epoch_end
        settings = stage.settings
        self.per_epoch = len(steps)
        self.total = settings.epochs * self.per_epoch
        self.updates_per_epoch = math.ceil(self.per_epoch / settings.accumulate_grad_batches)
        self.log = EpochLog(stage.log, stage.monitor_batches)
        self.step = 0
        self.stopped = False
        if not task.encoder.is_vit:
            task.to(memory_format=torch.channels_last)
        set_modes(task, frozen=False)
        if fabric.world_size > 1 and not on_cpu(fabric):
            torch.nn.SyncBatchNorm.convert_sync_batchnorm(task)  # type: ignore[no-untyped-call]
        self.model, self.optimizer = fabric.setup(task, build_optimizer(task, settings))
        self._resume()

    def run(self) -> EpochLog:
        """Train to the end, or to where the stage stops early; return the log."""
        settings = self.stage.settings
        display = TrainingDisplay(
            self.stage.name, settings.epochs, self.per_epoch, self.step, self.fabric.is_global_zero
        )
        saved = time.monotonic()
        waited, asked = 0.0, time.perf_counter()
        with display:
            for batch in self._batches():
                waited = time.perf_counter() - asked
                self._train_step(batch, waited)
                self.step += 1
                epoch, within = divmod(self.step, self.per_epoch)
                if within % _LOOK_EVERY == 0:
                    self._require_finite()
                    display.update(self.step, self.log.loss(), self.log.images_per_second())
                if within == 0:
                    self._end_epoch(epoch - 1, display)
                    if self.stopped:
                        break
                minutes = (time.monotonic() - saved) / 60
                if within == 0 or (
                    minutes >= settings.checkpoint_minutes
                    and within % settings.accumulate_grad_batches == 0
                ):
                    self._save()
                    saved = time.monotonic()
                asked = time.perf_counter()
        return self.log

    def _batches(self) -> Iterator[ViewBatch]:
        stage = self.stage
        stop = self.step if self.stopped else self.total
        return load_batches(
            self.steps,
            self.step,
            stop,
            workers=loader_workers(stage.workers, device_count(stage.settings)),
            pin_memory=stage.pin_memory and not on_cpu(self.fabric),
        )

    def _train_step(self, batch: ViewBatch, waited: float) -> None:
        stage, settings = self.stage, self.stage.settings
        epoch, within = divmod(self.step, self.per_epoch)
        set_modes(self.task, frozen=epoch < settings.freeze_epochs)
        seed_step(stage.seed, stage.name, self.step, self.fabric.global_rank)
        first = within - within % settings.accumulate_grad_batches
        parts = min(settings.accumulate_grad_batches, self.per_epoch - first)
        last = within == first + parts - 1
        progress = self.step / self.total
        with self.fabric.no_backward_sync(self.model, enabled=not last):
            output: TaskOutput = self.model(batch.to_device(self.fabric.device), progress)
            loss = output.loss
            self.fabric.backward(loss / parts)
        self.floors = output.lower_bounds
        self.log.add(output, loss, batch.size * self.fabric.world_size, waited)
        if last:
            self._update(
                epoch * self.updates_per_epoch + within // settings.accumulate_grad_batches,
                progress,
            )

    def _update(self, update: int, progress: float) -> None:
        settings = self.stage.settings
        warmup = round(settings.warmup_epochs * self.updates_per_epoch)
        total = settings.epochs * self.updates_per_epoch
        self.lr = settings.lr * lr_factor(update, total, min(warmup, total // 2))
        for group in self.optimizer.param_groups:
            group["lr"] = self.lr * group["factor"]
        if settings.clip_grad is not None:
            self.fabric.clip_gradients(
                self.model, self.optimizer, max_norm=settings.clip_grad, error_if_nonfinite=False
            )
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.task.on_step_end(progress)

    def _require_finite(self) -> None:
        if self.step % self.per_epoch and not math.isfinite(self.log.loss()):
            raise MedsgsslError(
                f"the loss of {self.stage.name} is no longer finite in step {self.step}",
                f"lower {self.stage.name}.lr or lengthen {self.stage.name}.warmup_epochs; "
                f"{self.stage.checkpoint} holds the last good state",
            )

    def _end_epoch(self, epoch: int, display: TrainingDisplay) -> None:
        if not math.isfinite(self.log.loss()):
            self.step -= 1
            self._require_finite()
        row = self.log.end_epoch(epoch, self.lr, self.floors)
        self.stopped = self.epoch_end(self.task, row)
        self.log.restart_clock()
        self.log.write() if self.fabric.is_global_zero else None
        self.fabric.log_dict(row, step=self.step)
        display.end_epoch(row)

    def _state(self) -> dict[str, Any]:
        return {
            "key": self.stage.key,
            "step": self.step,
            "stopped": self.stopped,
            "task": self.task.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.fabric.strategy.precision.state_dict(),
            "log": self.log.state(),
            "epoch_end": self.epoch_end.state(),
        }

    def _save(self) -> None:
        if self.fabric.is_global_zero:
            save_checkpoint(self.stage.checkpoint, self._state())

    def _resume(self) -> None:
        self.lr, self.floors = 0.0, dict[str, float]()
        state = load_checkpoint(self.stage.checkpoint, self.stage.key)
        if state is None:
            return
        self.task.load_state_dict(state["task"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.fabric.strategy.precision.load_state_dict(state["scaler"])
        self.log.load(state["log"], self.fabric.device)
        self.epoch_end.load(state["epoch_end"])
        self.step, self.stopped = state["step"], state["stopped"]
