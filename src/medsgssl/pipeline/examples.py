"""A few images, masks and views as the network saw them, kept for the report."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from medsgssl.config import Config
from medsgssl.files import atomic_path
from medsgssl.methods import method_of
from medsgssl.pipeline.data import PreparedData
from medsgssl.randomness import generator
from medsgssl.views import EpochOrder, ViewBatch, ViewPlan, ViewSteps

_COUNT = 6


def write_examples(path: Path, config: Config, data: PreparedData) -> None:
    """Write ``examples.npz``: the arrays that docs/architecture.md lists."""
    source = data.source
    train = source.rows("train")
    rng = generator(config.seed, "examples")
    rows = np.sort(rng.choice(train, min(_COUNT, len(train)), replace=False))
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
    if not config.direct:
        batch = _render(config, data, method.pretrain_views(), rows)
        arrays["pretrain_views"] = batch.images[:, :, 0].numpy()
        arrays["pretrain_masks"] = batch.masks.numpy()
        torch.manual_seed(config.seed)
        task = method.task(method.encoder())
        shown = batch.to_device(torch.device("cpu"))
        seen = task.seen(shown)
        if not torch.equal(seen, shown.images):
            arrays["prepared"] = seen[:, :, 0].numpy()
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]


def _render(
    config: Config, data: PreparedData, plan: ViewPlan, rows: NDArray[np.int64]
) -> ViewBatch:
    order = EpochOrder(rows, len(rows), config.seed, shuffle=False)
    return ViewSteps(data.source, plan, order, config.data.img_size, config.seed).render(0, rows)
