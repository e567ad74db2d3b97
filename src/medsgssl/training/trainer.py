"""The training loop of both stages, top to bottom, with all of its state in one place."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from typing import Any, Generic, Protocol, TypeVar

import torch
from lightning_fabric import Fabric
from torch import Tensor

from medsgssl.data.loader import BatchDataset, load_batches
from medsgssl.models.compiling import compile_backbone
from medsgssl.models.task import Task, TaskOutput
from medsgssl.runs.recovery import diverged_error, read_diverged
from medsgssl.training.checkpoint import TrainerState, load_checkpoint, save_checkpoint
from medsgssl.training.csv_logger import EpochLog, Row
from medsgssl.training.display import TrainingDisplay
from medsgssl.training.distributed import on_cpu, processes_here
from medsgssl.training.lr_schedule import lr_factor
from medsgssl.training.optim import build_optimizer, set_modes
from medsgssl.training.stage import StageSpec
from medsgssl.training.sync_batch_norm import synchronize_batch_norm
from medsgssl.transforms.batch import LoadedBatch
from medsgssl.utils.formatting import counted
from medsgssl.utils.interrupts import StopRequested, deferred, requested
from medsgssl.utils.rng import seed_step
from medsgssl.utils.system import loader_workers

# Loss and gradients are checked this often; more would make the device wait for the host.
_CHECK_EVERY = 20
# Batches behind the loss of the untrained network.
_START_BATCHES = 4


TaskT = TypeVar("TaskT", bound=Task)
TaskT_contra = TypeVar("TaskT_contra", bound=Task, contravariant=True)


class EpochCallback(Protocol[TaskT_contra]):
    """What a stage does after each epoch, and after each optimizer step."""

    def on_step_end(self, task: TaskT_contra) -> None:
        """Follow the weights."""
        ...

    def __call__(self, task: TaskT_contra, row: Row) -> bool:
        """Add to the epoch's row; return True to stop here."""
        ...

    def state(self) -> Mapping[str, object]:
        """Return plain values and tensors for the checkpoint."""
        ...

    def load(self, state: Any) -> None:
        """Go on from what ``state`` gave."""
        ...


class Trainer(Generic[TaskT]):
    """Trains a task step by step; ``run`` is the loop.

    Args:
        fabric: Device, precision and processes.
        stage: Names, seeds and settings.
        task: What is trained.
        steps: The batches.
        callback: Called after each epoch and each optimizer step.
    """

    def __init__(
        self,
        fabric: Fabric,
        stage: StageSpec,
        task: TaskT,
        steps: BatchDataset,
        callback: EpochCallback[TaskT],
    ) -> None:
        self.fabric, self.stage, self.task, self.steps = fabric, stage, task, steps
        self.callback = callback
        settings = stage.settings
        self.per_epoch = len(steps)
        self.total = settings.epochs * self.per_epoch
        self.updates_per_epoch = math.ceil(self.per_epoch / settings.accumulate_grad_batches)
        self.log = EpochLog(stage.log, stage.monitor_batches)
        self.step = 0
        self.saved_step: int | None = None  # of the last good state on disk
        self.stopped = False
        self._modes_set = False
        task.on_train_start(max(settings.epochs * self.updates_per_epoch, 1))
        if not task.encoder.is_vit:
            task.to(memory_format=torch.channels_last)
        if settings.compile:
            compile_backbone(task.encoder)
        set_modes(task, frozen=False)
        if fabric.world_size > 1:
            synchronize_batch_norm(task, cpu=on_cpu(fabric))
        self._fp16 = fabric.strategy.precision.precision == "16-mixed"
        optimizer = build_optimizer(task, settings, fused=not self._fp16)
        self.model, self.optimizer = fabric.setup(task, optimizer)
        self._resume()

    def run(self) -> EpochLog:
        """Train to the end, or to where the stage stops early; return the log.

        Raises:
            MedsgsslError: Loss, gradients or weights are no longer finite.
        """
        settings = self.stage.settings
        display = TrainingDisplay(
            self.stage.name, settings.epochs, self.per_epoch, self.step, self.fabric.is_global_zero
        )
        if self.step == 0 and self.stage.name == "pretrain":
            self.start = self._untrained_losses()
        saved = time.monotonic()
        waited, asked = 0.0, time.perf_counter()
        self.log.restart_clock()
        with display, deferred():
            if settings.frozen_epochs:
                display.note(
                    f"backbone frozen for the first {counted(settings.frozen_epochs, 'epoch')}"
                )
            for batch in self._batches():
                waited = time.perf_counter() - asked
                self._train_step(batch, waited)
                self.step += 1
                epoch, within = divmod(self.step, self.per_epoch)
                if within == 0:
                    self._end_epoch(epoch - 1, display)
                    if self.stopped:
                        break
                elif within % _CHECK_EVERY == 0:
                    self._require_finite()
                    display.update(self.step, self.log.loss(), self.log.images_per_second())
                minutes = (time.monotonic() - saved) / 60
                if self._save_or_stop(within, display, due=minutes >= settings.checkpoint_minutes):
                    saved = time.monotonic()
                asked = time.perf_counter()
        return self.log

    def _save_or_stop(self, within: int, display: TrainingDisplay, *, due: bool) -> bool:
        """Save where it is time to, and stop after a signal; every process after the same step.

        Args:
            within: Steps done in this epoch; 0 where it has ended.
            display: Shows where the stage stops.
            due: Whether the last checkpoint is old enough, by the clock of this process.

        Returns:
            Whether a checkpoint was written.

        Raises:
            StopRequested: After a signal.
        """
        number = requested() or 0
        if self.fabric.world_size > 1:
            if within % _CHECK_EVERY:
                return False
            # Clocks differ, and signals arrive at different steps.
            wishes = torch.tensor([number, int(due)], device=self.fabric.device)
            torch.distributed.all_reduce(wishes, torch.distributed.ReduceOp.MAX)
            number, due = int(wishes[0]), bool(wishes[1])
        if within % self.stage.settings.accumulate_grad_batches:
            return False
        if within == 0 or due or number:
            self._save()
        if number:
            display.note(f"stopped after step {self.step} of {self.total}, and saved")
            raise StopRequested(number)
        return within == 0 or due

    def _batches(self) -> Iterator[LoadedBatch]:
        stage = self.stage
        stop = self.step if self.stopped else self.total
        return load_batches(
            self.steps,
            self.step,
            stop,
            workers=loader_workers(stage.workers, processes_here(stage.settings)),
            pin_memory=stage.pin_memory and not on_cpu(self.fabric),
        )

    @torch.no_grad()
    def _untrained_losses(self) -> Row:
        """Return the terms that have a chance level on the first batches, before any training.

        ImageNet weights tell images apart before they have learned anything here, so a loss below
        chance is no proof of learning. The network is left as it was.
        """
        batches = min(_START_BATCHES, self.per_epoch)
        before = {name: buffer.clone() for name, buffer in self.task.named_buffers()}
        set_modes(self.task, frozen=self.stage.settings.frozen_epochs > 0)
        sums: Row = {}
        for step in range(batches):
            seed_step(self.stage.seed, self.stage.name, step, self.fabric.global_rank)
            output: TaskOutput = self.model(self.steps[step].to_device(self.fabric.device), 0.0)
            for term in output.chance:
                name = f"{term}_start"
                sums[name] = sums.get(name, 0.0) + float(output.losses[term]) / batches
            if not sums:
                break
        for name, buffer in self.task.named_buffers():
            buffer.copy_(before[name])
        return sums

    def _train_step(self, batch: LoadedBatch, waited: float) -> None:
        stage, settings = self.stage, self.stage.settings
        epoch, within = divmod(self.step, self.per_epoch)
        if not self._modes_set:
            # They change between epochs only: what freezes, and what a probe put into eval mode.
            set_modes(self.task, frozen=epoch < settings.frozen_epochs)
            self._modes_set = True
        seed_step(stage.seed, stage.name, self.step, self.fabric.global_rank)
        first = within - within % settings.accumulate_grad_batches
        parts = min(settings.accumulate_grad_batches, self.per_epoch - first)
        last = within == first + parts - 1
        progress = self.step / self.total
        with self.fabric.no_backward_sync(self.model, enabled=not last):
            output: TaskOutput = self.model(batch.to_device(self.fabric.device), progress)
            loss = output.loss
            self.fabric.backward(loss / parts)
        self.levels = {f"{name}_floor": value for name, value in output.lower_bounds.items()}
        self.levels |= {f"{name}_chance": value for name, value in output.chance.items()}
        self.log.add(output, loss, batch.size * self.fabric.world_size, waited)
        if last:
            self._update(
                epoch * self.updates_per_epoch + within // settings.accumulate_grad_batches,
                progress,
                loss,
            )

    def _update(self, update: int, progress: float, loss: Tensor) -> None:
        settings = self.stage.settings
        warmup = round(settings.warmup_epochs * self.updates_per_epoch)
        total = settings.epochs * self.updates_per_epoch
        self.lr = self.stage.lr * lr_factor(update, total, min(warmup, total // 2))
        for group in self.optimizer.param_groups:
            group["lr"] = self.lr * group["factor"]
        norm = self.fabric.clip_gradients(
            self.model,
            self.optimizer,
            max_norm=math.inf if settings.clip_grad is None else settings.clip_grad,
            error_if_nonfinite=False,
        )
        # fp16 expects overflows: its scaler leaves such a step out and scales the next one less.
        if norm is not None and not self._fp16:
            self._finite_gradients &= norm.isfinite() | ~loss.isfinite()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.task.on_step_end(progress)
        self.callback.on_step_end(self.task)

    def _require_finite(self, *, weights: bool = False) -> None:
        """Check the loss, the gradients and, on request, the weights of this epoch so far."""
        # A gradient counts where its own loss was finite, so that the cause comes first.
        state = {"gradient": bool(self._finite_gradients), "loss": math.isfinite(self.log.loss())}
        if weights:
            values = [value.isfinite().all() for value in self.task.state_dict().values()]
            state["network"] = bool(torch.stack(values).all())
        if self.fabric.world_size > 1:
            finite = torch.tensor([int(good) for good in state.values()], device=self.fabric.device)
            torch.distributed.all_reduce(finite, torch.distributed.ReduceOp.MIN)
            state = dict(zip(state, map(bool, finite.tolist()), strict=True))
        broken = [name for name, good in state.items() if not good]
        if broken:
            stage = self.stage
            raise diverged_error(
                stage.folder, stage.name, stage.key, stage.lr, self.step, broken[0], self.saved_step
            )

    def _end_epoch(self, epoch: int, display: TrainingDisplay) -> None:
        self._require_finite(weights=True)
        row = self.log.end_epoch(epoch, self.lr, self.levels | self.start)
        self.stopped = self.callback(self.task, row)
        self._modes_set = False
        self.log.restart_clock()
        if self.fabric.is_global_zero:
            self.log.write()
        named = {f"{self.stage.name}/{name}": value for name, value in row.items()}
        self.fabric.log_dict(named, step=self.step)
        display.end_epoch(row)

    def _state(self) -> TrainerState:
        """Return the state of all processes; every process must ask for it."""
        logs = [self.log.state()]
        if self.fabric.world_size > 1:
            logs *= self.fabric.world_size
            torch.distributed.all_gather_object(logs, self.log.state())
        return {
            "key": self.stage.key,
            "step": self.step,
            "stopped": self.stopped,
            "start": self.start,
            "task": self.task.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.fabric.strategy.precision.state_dict(),
            "logs": logs,
            "callback": self.callback.state(),
        }

    def _save(self) -> None:
        if self.step % self.per_epoch:
            self._require_finite(weights=True)
        state = self._state()
        if self.fabric.is_global_zero:
            save_checkpoint(self.stage.checkpoint, state)
        self.saved_step = self.step

    def _resume(self) -> None:
        self.lr, self.levels, self.start = 0.0, Row(), Row()
        self._finite_gradients = torch.ones((), dtype=torch.bool, device=self.fabric.device)
        before = read_diverged(self.stage.folder, self.stage.name)
        state = load_checkpoint(
            self.stage.checkpoint, self.stage.key, None if before is None else before["key"]
        )
        if state is None:
            return
        self.saved_step = state["step"]
        self.task.load_state_dict(state["task"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.fabric.strategy.precision.load_state_dict(state["scaler"])
        # Checkpoints of the release before hold the log of the first process alone.
        logs = state["logs"] if "logs" in state else [state["log"]]
        self.log.load(logs[self.fabric.global_rank], self.fabric.device)
        self.callback.load(state["callback"])
        self.step, self.stopped, self.start = state["step"], state["stopped"], state["start"]
