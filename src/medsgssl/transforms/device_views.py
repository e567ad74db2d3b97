"""Views rendered where the network is: batches travel as cached images and drawn numbers.

The numbers are those of the CPU path (``view_spec.draw_view``), and so is the picture: before tone
noise no pixel differs by more than one gray level. A loader process then only draws, which is a
fraction of the work, so few processor cores feed a fast GPU.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from medsgssl.transforms.affine import shrink_kernels
from medsgssl.transforms.batch import ViewBatch
from medsgssl.transforms.photometric import GRAIN_ZERO, blur_kernel, grain_table
from medsgssl.transforms.view_spec import DrawnView


@dataclass
class DrawnBatch:
    """B cached images and V drawn views of each; ``to_device`` renders them there.

    Attributes:
        images: (B, H, H) uint8.
        masks: (B, H, H) uint8 of 0 and 1; (B, 0, 0) where nobody looks at masks.
        affines: (B, V, 2, 3) float32, view pixels to cached image pixels.
        flipped: (B, V) bool.
        shrink: (B, V, 2, K) float32, weights along columns and rows that filter the cached image
            before it is shrunk; K is 0 where no view of the batch shrinks.
        tables: (B, V, 256) uint8, new value of each gray level.
        blur: (B, V, L) float32, weights of the blur along either axis; L is 0 where no view has
            one.
        grain: (B, V, 2) int64, row and column in the table of grain.
        grain_share: (B, V) float32.
        quality: (B,) float32 in [0, 1].
        rows: (B,) int64.
        labels: (B, D) float32.
        domains: (B,) int64.
        view_size: (0, S) uint8: its width is the side of the views.
    """

    images: Tensor
    masks: Tensor
    affines: Tensor
    flipped: Tensor
    shrink: Tensor
    tables: Tensor
    blur: Tensor
    grain: Tensor
    grain_share: Tensor
    quality: Tensor
    rows: Tensor
    labels: Tensor
    domains: Tensor
    view_size: Tensor

    @property
    def size(self) -> int:
        """Number of images B."""
        return self.rows.shape[0]

    def pin_memory(self) -> DrawnBatch:
        """Return the batch in page-locked memory; called by the loader."""
        return self._map(lambda tensor: tensor.pin_memory())

    def to_device(self, device: torch.device) -> ViewBatch:
        """Return the rendered views on ``device``, images as floats in [0, 1]."""
        return _render(self._map(lambda tensor: tensor.to(device, non_blocking=True)))

    def _map(self, change: Callable[[Tensor], Tensor]) -> DrawnBatch:
        return DrawnBatch(
            **{field.name: change(getattr(self, field.name)) for field in fields(self)}
        )


@dataclass(frozen=True)
class DrawnTensors:
    """The drawn numbers of a batch, as the attributes of ``DrawnBatch``."""

    affines: Tensor
    flipped: Tensor
    shrink: Tensor
    tables: Tensor
    blur: Tensor
    grain: Tensor
    grain_share: Tensor

    @classmethod
    def of(cls, drawn: Sequence[Sequence[DrawnView]]) -> DrawnTensors:
        """Collect the views of B images, V of each."""
        shape = (len(drawn), len(drawn[0]))
        affines = np.empty((*shape, 2, 3), np.float32)
        flipped = np.zeros(shape, np.bool_)
        tables = np.empty((*shape, 256), np.uint8)
        tables[:] = np.arange(256, dtype=np.uint8)
        grain, share = np.zeros((*shape, 2), np.int64), np.zeros(shape, np.float32)
        shrink: list[NDArray[np.float64]] = []
        blur: list[NDArray[np.float64]] = []
        for i, views in enumerate(drawn):
            for v, view in enumerate(views):
                affines[i, v], flipped[i, v] = view.affine, view.flipped
                shrink += shrink_kernels(view.affine) or [np.ones(1), np.ones(1)]
                tone = view.tone
                blur.append(blur_kernel(tone.blur) if tone and tone.blur > 0 else np.ones(1))
                if tone is not None:
                    tables[i, v], share[i, v] = tone.table, tone.grain_share
                    grain[i, v] = tone.grain_row, tone.grain_column
        return cls(
            affines=torch.from_numpy(affines),
            flipped=torch.from_numpy(flipped),
            shrink=_padded(shrink, (*shape, 2)),
            tables=torch.from_numpy(tables),
            blur=_padded(blur, shape),
            grain=torch.from_numpy(grain),
            grain_share=torch.from_numpy(share),
        )


def _padded(kernels: list[NDArray[np.float64]], shape: tuple[int, ...]) -> Tensor:
    """Return centered kernels of odd lengths as one float32 tensor; of width 0 if all are [1]."""
    longest = max(map(len, kernels))
    if longest == 1:
        return torch.empty((*shape, 0))
    padded = np.zeros((len(kernels), longest), np.float32)
    for row, kernel in zip(padded, kernels, strict=True):
        start = (longest - len(kernel)) // 2
        row[start : start + len(kernel)] = kernel
    return torch.from_numpy(padded.reshape(*shape, longest))


def _render(batch: DrawnBatch) -> ViewBatch:
    (count, views), size = batch.flipped.shape, batch.view_size.shape[1]
    x, y = _source_points(batch.affines.flatten(0, 1), size)
    images = batch.images.repeat_interleave(views, 0)[:, None].float()
    if batch.shrink.shape[-1]:
        across, down = batch.shrink.flatten(0, 1).unbind(1)
        images = _filter(images, across, down).round()
    # Tone changes look levels up, as in OpenCV: so the levels are whole numbers between the steps.
    sampled = _bilinear(images, x, y).round().clamp(0, 255)
    levels = batch.tables.flatten(0, 1).gather(1, sampled.flatten(1).long())
    toned = levels.view(sampled.shape).float()
    if batch.blur.shape[-1]:
        weights = batch.blur.flatten(0, 1)
        toned = _filter(toned, weights, weights).round()
    toned = _add_grain(toned, batch.grain.flatten(0, 1), batch.grain_share.flatten())
    if batch.masks.numel():
        masks = _nearest(batch.masks, x, y, views)
    else:
        masks = torch.ones((), dtype=torch.bool, device=x.device).expand(count * views, size, size)
    return ViewBatch(
        images=(toned / 255).view(count, views, 1, size, size),
        masks=masks.reshape(count, views, size, size),
        affines=batch.affines,
        flipped=batch.flipped,
        quality=batch.quality,
        rows=batch.rows,
        labels=batch.labels,
        domains=batch.domains,
    )


def _source_points(affines_N23: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Return column and row of each view pixel in the cached image, (N, S, S) each."""
    steps = torch.arange(size, device=affines_N23.device, dtype=torch.float32)
    a, b, shift = affines_N23[..., None].unbind(2)
    points = a[:, :, None, :] * steps + b[:, :, :, None] * steps[:, None] + shift[:, :, :, None]
    return points[:, 0], points[:, 1]


def _bilinear(images_N1HH: Tensor, x_NSS: Tensor, y_NSS: Tensor) -> Tensor:
    """Sample bilinearly, black outside, (N, 1, S, S); pixel centers lie at whole numbers."""
    last = images_N1HH.shape[-1] - 1
    grid = torch.stack([x_NSS, y_NSS], dim=3) * (2 / last) - 1
    return F.grid_sample(images_N1HH, grid, padding_mode="zeros", align_corners=True)


def _nearest(masks_BHH: Tensor, x_NSS: Tensor, y_NSS: Tensor, views: int) -> Tensor:
    """Sample the nearest pixel of the mask of each view's image, False outside, (N, S, S)."""
    side = masks_BHH.shape[-1]
    columns, rows = x_NSS.round().long(), y_NSS.round().long()
    inside = (columns >= 0) & (columns < side) & (rows >= 0) & (rows < side)
    place = rows.clamp(0, side - 1) * side + columns.clamp(0, side - 1)
    flat = place.reshape(len(masks_BHH), -1)
    covered = masks_BHH.flatten(1).gather(1, flat).view(place.shape)
    return inside & covered.bool()


def _filter(images_N1HH: Tensor, across_NK: Tensor, down_NK: Tensor) -> Tensor:
    """Filter each image along columns and rows with weights of its own; edges are mirrored.

    Tap by tap rather than as a convolution, which GPUs compute with fewer bits.
    """
    for weights, axis in ((across_NK, 3), (down_NK, 2)):
        taps, length = weights.shape[1], images_N1HH.shape[axis]
        # A kernel longer than the image would reach beyond its mirror image.
        reach = min(taps // 2, length - 1)
        inner = weights[:, taps // 2 - reach : taps // 2 + reach + 1, None, None, None]
        pad = (reach, reach, 0, 0) if axis == 3 else (0, 0, reach, reach)
        padded = F.pad(images_N1HH, pad, mode="reflect")
        total = inner[:, 0] * padded.narrow(axis, 0, length)
        for tap in range(1, 2 * reach + 1):
            total = torch.addcmul(total, inner[:, tap], padded.narrow(axis, tap, length))
        images_N1HH = total
    return images_N1HH


@functools.cache
def _grain_on(device: torch.device) -> Tensor:
    return torch.from_numpy(grain_table()).to(device)


def _add_grain(images_N1SS: Tensor, places_N2: Tensor, share_N: Tensor) -> Tensor:
    steps = torch.arange(images_N1SS.shape[-1], device=images_N1SS.device)
    rows, columns = (places_N2[:, :, None] + steps).unbind(1)
    table = _grain_on(images_N1SS.device)
    grain = table[rows[:, :, None], columns[:, None, :]].float() - GRAIN_ZERO
    return (images_N1SS + share_N[:, None, None, None] * grain[:, None]).round().clamp(0, 255)
