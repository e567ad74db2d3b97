"""The batch that methods see: views as floats in [0, 1], with their masks and affine maps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Protocol

import torch
from torch import Tensor


class LoadedBatch(Protocol):
    """A batch as a loader gives it: rendered, or to be rendered on the device."""

    rows: Tensor

    @property
    def size(self) -> int:
        """Number of images B."""

    def to_device(self, device: torch.device) -> ViewBatch:
        """Return the views on ``device``, images as floats in [0, 1]."""
        ...


@dataclass
class ViewBatch:
    """A batch of B images with V views of S x S pixels each.

    Attributes:
        images: (B, V, 1, S, S); uint8 when loaded, float in [0, 1] after ``to_device``.
        masks: (B, V, S, S) bool, moved with the views.
        affines: (B, V, 2, 3) float32, view pixels to cached image pixels.
        flipped: (B, V) bool.
        quality: (B,) float32 in [0, 1].
        rows: (B,) int64, positions in the decoded cache.
        labels: (B, D) float32 of 0 and 1, NaN where a label is unknown.
        domains: (B,) int64, number of the data set an image comes from.
    """

    images: Tensor
    masks: Tensor
    affines: Tensor
    flipped: Tensor
    quality: Tensor
    rows: Tensor
    labels: Tensor
    domains: Tensor

    @property
    def size(self) -> int:
        """Number of images B."""
        return self.rows.shape[0]

    def pin_memory(self) -> ViewBatch:
        """Return the batch in page-locked memory; called by the loader."""
        return self._map(lambda tensor: tensor if _is_one_value(tensor) else tensor.pin_memory())

    def to_device(self, device: torch.device) -> ViewBatch:
        """Return the batch on ``device`` with images as floats in [0, 1]."""
        moved = self._map(lambda tensor: _send(tensor, device))
        return replace(moved, images=moved.images.float() / 255)

    def view(self, number: int) -> tuple[Tensor, Tensor]:
        """Return images (B, 1, S, S) and masks (B, S, S) of one view."""
        return self.images[:, number], self.masks[:, number]

    def inputs(self, number: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return what an encoder takes of one view: images, masks and quality (B,)."""
        return *self.view(number), self.quality

    def _map(self, change: Callable[[Tensor], Tensor]) -> ViewBatch:
        return ViewBatch(
            **{field.name: change(getattr(self, field.name)) for field in fields(self)}
        )


def _send(tensor: Tensor, device: torch.device) -> Tensor:
    if _is_one_value(tensor):
        return tensor[(0,) * tensor.ndim].to(device).expand(tensor.shape)
    return tensor.to(device, non_blocking=True)


def _is_one_value(tensor: Tensor) -> bool:
    """Tell whether all elements are one place in memory, which torch cannot lock."""
    return tensor.numel() > 1 and not any(tensor.stride())


def views_first(values: Tensor) -> Tensor:
    """Turn (B, V, ...) into (V B, ...): the first views of all images, then the second, ..."""
    return values.transpose(0, 1).flatten(0, 1)
