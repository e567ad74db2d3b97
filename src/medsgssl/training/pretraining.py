"""Self-supervised pretraining: a method's task in, the encoder's weights out.

They are ``pretrained.safetensors`` (``models/weights.py``); ``inference/export.py`` writes them in
the names of plain timm.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypedDict

from lightning_fabric import Fabric

from medsgssl.config.schema import Config
from medsgssl.config.training_settings import LoopSettings
from medsgssl.data.dataset import BatchSource, ConcatDataset, ImageMaskDataset
from medsgssl.data.loader import BatchDataset
from medsgssl.data.sampler import EpochSampler
from medsgssl.methods.registry import method_of
from medsgssl.models.task import Task
from medsgssl.models.weights import save_weights
from medsgssl.runs.folder import RunFolder
from medsgssl.runs.weights_header import WeightsHeader
from medsgssl.training.csv_logger import Row
from medsgssl.training.distributed import launch
from medsgssl.training.knn import KNNProbe
from medsgssl.training.lr_schedule import auto_pretrain_lr
from medsgssl.training.monitors import chance_warnings, epoch_warnings
from medsgssl.training.stage import StageSpec
from medsgssl.training.trackers import open_trackers
from medsgssl.training.trainer import Trainer
from medsgssl.training.view_gallery import Gallery
from medsgssl.utils.formatting import plural
from medsgssl.utils.io import write_json
from medsgssl.utils.progress import new_console
from medsgssl.utils.rng import seed_step


class PretrainState(TypedDict):
    """What a checkpoint keeps of ``PretrainCallback``."""

    warnings: list[str]


@dataclass
class PretrainCallback:
    """Probes, shows, and collects warnings about collapse, saturation and chance."""

    probe: KNNProbe
    gallery: Gallery
    warnings: list[str] = field(default_factory=list)

    def on_step_end(self, task: Task) -> None:
        """Follow nothing."""

    def __call__(self, task: Task, row: Row) -> bool:
        """Note the warnings of an epoch; never stop."""
        suffix = "_floor"
        floors = {name.removesuffix(suffix): row[name] for name in row if name.endswith(suffix)}
        self.warnings += epoch_warnings(row, floors)
        epoch = int(row["epoch"])
        if self.probe.due(epoch):
            auc = self.probe.mean_auc(task)
            row |= {} if auc is None else {"probe_mean_auc": auc}
            self.gallery.show(task, epoch)
        return False

    def state(self) -> PretrainState:
        """Return what a checkpoint keeps."""
        return {"warnings": self.warnings}

    def load(self, state: PretrainState) -> None:
        """Take up what a checkpoint kept."""
        self.warnings = list(state["warnings"])


def pretrain(
    config: Config,
    source: ImageMaskDataset,
    folder: Path,
    header: WeightsHeader,
    more: Sequence[ImageMaskDataset] = (),
) -> None:
    """Pretrain the encoder of ``config`` on the training split and write its weights.

    Writes ``pretrained.safetensors``, ``pretrain_log.csv`` and ``pretrain_warnings.json`` into
    ``folder``; goes on from ``pretrain.checkpoint`` where there is one. The peak learning rate and
    the number of optimizer steps travel with the weights as ``pretrain_lr`` and
    ``pretrain_steps``.

    Args:
        config: The run's configuration.
        source: Images and masks.
        folder: The run folder.
        header: What travels with the weights; ``header["key"]`` guards the checkpoint.
        more: Further data sets to pretrain on, each batch draws equally from every data set.
    """
    launch(
        config.pretrain,
        open_trackers(config, folder),
        _pretrain,
        config,
        source,
        folder,
        header,
        more,
    )


def _pretrain(
    fabric: Fabric,
    config: Config,
    source: ImageMaskDataset,
    folder: Path,
    header: WeightsHeader,
    more: Sequence[ImageMaskDataset],
) -> None:
    method = method_of(config)
    drawn: BatchSource = ConcatDataset.of([source, *more]) if more else source
    rows = drawn.rows("train")
    order = EpochSampler(
        rows,
        config.data.batch_size,
        config.seed,
        rank=fabric.global_rank,
        world=fabric.world_size,
        domains=drawn.domains[rows] if more else None,
    )
    steps = BatchDataset.configured(
        config, drawn, method.pretrain_views(), order, masks=method.sees_masks, device=fabric.device
    )
    updates = count_updates(config.pretrain, len(steps))
    lr = pretrain_lr(config, updates, fabric.world_size)
    if config.pretrain.lr == "auto" and fabric.is_global_zero:
        new_console().print(
            f"pretrain.lr=auto: {lr:g} for {updates} {plural(updates, 'step')} from "
            f"{'ImageNet weights' if config.encoder.pretrained else 'scratch'}",
            highlight=False,
            soft_wrap=True,
        )
    stage = StageSpec.of(config, "pretrain", folder, header["key"], lr)
    seed_step(config.seed, "initial weights", 0, 0)
    task = method.task(method.encoder())
    watch = PretrainCallback(KNNProbe(fabric, config, source), Gallery(fabric, config, source))
    log = Trainer(fabric, stage, task, steps, watch).run()
    fabric.barrier()
    if fabric.is_global_zero:
        at_the_end = chance_warnings(log.rows[-1])
        for text in at_the_end:
            new_console().print(f"Warning: {text}", style="yellow", highlight=False, soft_wrap=True)
        write_json(RunFolder(folder).pretrain_warnings, watch.warnings + at_the_end)
        header = {**header, "pretrain_lr": lr, "pretrain_steps": updates}
        # The checkpoint stays until the runner has marked the stage complete.
        save_weights(RunFolder(folder).pretrained, task.encoder, header)


def count_updates(settings: LoopSettings, steps_per_epoch: int) -> int:
    """Return the number of optimizer steps of a whole stage."""
    return settings.epochs * math.ceil(steps_per_epoch / settings.accumulate_grad_batches)


def pretrain_lr(config: Config, updates: int, world_size: int) -> float:
    """Return the peak learning rate of pretraining, resolving ``auto``.

    Args:
        config: The run's configuration.
        updates: Optimizer steps of the whole pretraining.
        world_size: Number of processes.
    """
    if config.pretrain.lr != "auto":
        return config.pretrain.lr
    batch = config.data.batch_size * world_size * config.pretrain.accumulate_grad_batches
    return auto_pretrain_lr(updates, batch, imagenet=config.encoder.pretrained)
