"""A few images, masks and views as the network saw them, kept for the report."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from medsgssl.config.schema import Config
from medsgssl.data.loader import BatchDataset
from medsgssl.data.prepare import PreparedData
from medsgssl.data.sampler import EpochSampler
from medsgssl.methods.registry import method_of
from medsgssl.models.task import Task
from medsgssl.models.weights import load_weights, weights_identity, without_initial_weights
from medsgssl.transforms.batch import ViewBatch
from medsgssl.transforms.view_spec import ViewPlan
from medsgssl.utils.io import atomic_path
from medsgssl.utils.rng import seed_step


def write_examples(path: Path, config: Config, data: PreparedData) -> None:
    """Write ``examples.npz``: the arrays that docs/architecture.md lists."""
    source, rows = data.source, data.source.examples(config.seed)
    method = method_of(config)
    arrays: dict[str, NDArray[np.generic]] = {
        "image_ids": data.catalog.table["image_id"].to_numpy(dtype=str)[rows],
        "images": source.cache.images[rows],
        "masks": np.stack([source.masks.mask(int(row)) for row in rows]).astype(bool),
        "quality": source.masks.quality[rows],
        "finetune_views": _render(config, data, method.finetune_views(), rows)
        .images[:, 0, 0]
        .numpy(),
        "test_views": _render(config, data, method.test_views(), rows).images[:, 0, 0].numpy(),
    }
    if not config.no_pretrain:
        batch = _render(config, data, method.pretrain_views(), rows)
        arrays["pretrain_views"] = batch.images[:, :, 0].numpy()
        arrays["pretrain_masks"] = batch.masks.numpy()
        torch.manual_seed(config.seed)
        # What an encoder is shown does not depend on its weights.
        task = method.task(method_of(without_initial_weights(config)).encoder())
        batch_on_cpu = batch.to_device(torch.device("cpu"))
        seen = task.encoder_input(batch_on_cpu)
        if not torch.equal(seen, batch_on_cpu.images):
            arrays["prepared"] = seen[:, :, 0].numpy()
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]


def write_maps(path: Path, config: Config, data: PreparedData, weights: Path) -> None:
    """Write ``maps.npz``: the method's maps on the example images before and after pretraining.

    Args:
        path: The file; not written for a method without maps.
        config: The run's configuration.
        data: Images and masks.
        weights: The pretrained encoder.
    """
    method = method_of(config)
    rows = data.source.examples(config.seed)
    rendered = _render(config, data, method.pretrain_views(), rows)
    batch = rendered.to_device(torch.device("cpu"))
    # The very weights that pretraining began with.
    seed_step(config.seed, "initial weights", 0, 0)
    task = method.task(method.encoder()).eval()
    before = _maps(task, batch)
    if not before:
        return
    load_weights(weights, task.encoder, weights_identity(config))
    arrays: dict[str, NDArray[np.generic]] = {
        "image_ids": data.catalog.table["image_id"].to_numpy(dtype=str)[rows],
        "views": rendered.images[:, 0, 0].numpy(),
        "masks": rendered.masks[:, 0].numpy(),
    }
    for when, maps in (("before", before), ("after", _maps(task, batch))):
        arrays |= {f"{name}_{when}": values for name, values in maps.items()}
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]


@torch.inference_mode()
def _maps(task: Task, batch: ViewBatch) -> dict[str, NDArray[np.float32]]:
    return {name: values.float().numpy() for name, values in task.attention_maps(batch).items()}


def _render(
    config: Config, data: PreparedData, plan: ViewPlan, rows: NDArray[np.int64]
) -> ViewBatch:
    order = EpochSampler(rows, len(rows), config.seed, shuffle=False)
    return BatchDataset(data.source, plan, order, config.data.img_size, config.seed).render(0, rows)
