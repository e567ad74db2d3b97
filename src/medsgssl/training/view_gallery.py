"""Pictures of pretraining for TensorBoard: the views as encoded, and where the method looks.

The images and their views stay the same from epoch to epoch, so that only what is learned moves.
Nothing depends on the pictures: a run without them ends with the same weights.
"""

from __future__ import annotations

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray

from medsgssl.config.schema import Config
from medsgssl.data.dataset import ImageMaskDataset
from medsgssl.data.loader import BatchDataset
from medsgssl.data.sampler import EpochSampler
from medsgssl.masks.overlay import draw_overlay, overlay_heatmap
from medsgssl.methods.registry import method_of
from medsgssl.models.task import Task
from medsgssl.training.trackers import log_picture
from medsgssl.utils.rng import seed_step

_SIDE = 160


class Gallery:
    """Shows a task on a few training images.

    Args:
        fabric: Device and loggers; the first process writes.
        config: The run's configuration.
        source: Images and masks.
    """

    def __init__(self, fabric: Fabric, config: Config, source: ImageMaskDataset) -> None:
        self._fabric, self._seed = fabric, config.seed
        rows = source.examples(config.seed)
        order = EpochSampler(rows, len(rows), config.seed, shuffle=False)
        plan = method_of(config).pretrain_views()
        steps = BatchDataset(source, plan, order, config.data.img_size, config.seed)
        self._batch = steps.render(0, rows)

    @torch.inference_mode()
    def show(self, task: Task, epoch: int) -> None:
        """Write the views with their lungs, and the method's maps, for this epoch."""
        if not self._fabric.is_global_zero:
            return
        task.eval()
        seed_step(self._seed, "gallery", 0, 0)  # what a method hides is hidden there every time
        batch = self._batch.to_device(self._fabric.device)
        with self._fabric.autocast():
            inputs = task.encoder_input(batch).float().cpu().numpy()
            maps = {
                name: values.float().cpu().numpy()
                for name, values in task.attention_maps(batch).items()
            }
        views, masks = (255 * inputs.clip(0, 1)).astype(np.uint8), self._batch.masks.numpy()
        self._add("pretrain/views", [_row(views[i], masks[i]) for i in range(len(views))], epoch)
        first = self._batch.images[:, 0, 0].numpy()
        for name, values in maps.items():
            pictures = [overlay_heatmap(first[i], values[i], _SIDE) for i in range(len(values))]
            self._add(f"pretrain/maps/{name}", pictures, epoch)

    def _add(self, name: str, pictures: list[NDArray[np.uint8]], epoch: int) -> None:
        log_picture(self._fabric, name, np.concatenate(pictures), epoch)


def _row(views: NDArray[np.uint8], masks: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Return the views of one image side by side, with the outlines of their lungs."""
    pairs = zip(views[:, 0], masks, strict=True)
    return np.concatenate([draw_overlay(view, mask, long_side=_SIDE) for view, mask in pairs], 1)
