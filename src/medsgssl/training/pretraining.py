"""Self-supervised pretraining: a method's task in, the encoder's weights out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lightning.fabric import Fabric

from medsgssl.config.schema import Config
from medsgssl.data.dataset import BatchSource, ConcatDataset, ImageMaskDataset
from medsgssl.data.loader import BatchDataset
from medsgssl.data.sampler import EpochSampler
from medsgssl.methods.registry import method_of
from medsgssl.models.task import Task
from medsgssl.models.weights import save_weights
from medsgssl.runs.weights_header import WeightsHeader
from medsgssl.training.csv_logger import Row
from medsgssl.training.distributed import launch, seed_step
from medsgssl.training.knn_probe import Probe
from medsgssl.training.monitors import warnings_for
from medsgssl.training.trainer import Stage, Trainer
from medsgssl.training.view_gallery import Gallery
from medsgssl.utils.io import write_json


@dataclass
class PretrainCallback:
    """Probes, shows, and collects warnings about collapse and saturation after each epoch."""

    probe: Probe
    gallery: Gallery
    warnings: list[str] = field(default_factory=list)

    def __call__(self, task: Task, row: Row) -> bool:
        """Note the warnings of an epoch; never stop."""
        suffix = "_floor"
        floors = {name.removesuffix(suffix): row[name] for name in row if name.endswith(suffix)}
        self.warnings += warnings_for(row, floors)
        epoch = int(row["epoch"])
        if self.probe.due(epoch):
            auc = self.probe.mean_auc(task)
            row |= {} if auc is None else {"probe_mean_auc": auc}
            self.gallery.show(task, epoch)
        return False

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint keeps."""
        return {"warnings": self.warnings}

    def load(self, state: dict[str, Any]) -> None:
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
    ``folder``; goes on from ``pretrain.checkpoint`` where there is one.

    Args:
        config: The run's configuration.
        source: Images and masks.
        folder: The run folder.
        header: What travels with the weights; ``header["key"]`` guards the checkpoint.
        more: Further data sets to pretrain on, in batches that hold as many images of each.
    """
    launch(config.pretrain, folder / "logs", _pretrain, config, source, folder, header, more)


def _pretrain(
    fabric: Fabric,
    config: Config,
    source: ImageMaskDataset,
    folder: Path,
    header: WeightsHeader,
    more: Sequence[ImageMaskDataset],
) -> None:
    method = method_of(config)
    stage = Stage.of(config, "pretrain", folder, header["key"])
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
    steps = BatchDataset(drawn, method.pretrain_views(), order, config.data.img_size, config.seed)
    seed_step(config.seed, "initial weights", 0, 0)
    task = method.task(method.encoder())
    watch = PretrainCallback(Probe(fabric, config, source), Gallery(fabric, config, source))
    trainer = Trainer(fabric, stage, task, steps, watch)
    trainer.run()
    fabric.barrier()
    if fabric.is_global_zero:
        write_json(folder / "pretrain_warnings.json", watch.warnings)
        save_weights(folder / "pretrained.safetensors", task.encoder, header)
        stage.checkpoint.unlink(missing_ok=True)
