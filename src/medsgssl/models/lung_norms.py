"""What is normal at each place of the lungs, learned from the training images without labels.

Source: comparing each place with the same place of other patients is how an atlas of normal
appearance finds what deviates, e.g. van Ginneken et al., "Automatic detection of abnormalities in
chest radiographs using local texture analysis", IEEE Transactions on Medical Imaging 2002. The
measures here are this package's own.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from medsgssl.losses.collectives import sum_over_ranks
from medsgssl.ops.coordinates import chained, inverse_affine, read_map, view_to_frame
from medsgssl.ops.saliency import (
    OUTLINE_CELLS,
    PLACES,
    LungAppearance,
    local_mean,
    lung_appearance,
    soft_maximum,
)
from medsgssl.transforms.batch import ViewBatch, views_first

# No image counts more than this, e.g. one whose mask is a mistake.
_LARGEST_SCORE = 10.0
# A place that few images show leans on the average place, as if that had been seen so often.
_PRIOR = 10.0
_SMALLEST_SPREAD = 0.02
_DEVIATION_RANGE = (-4.0, 8.0)
# Window of the local mean, in places, and sharpness of the soft maximum over the lungs.
_WINDOW, _SHARPNESS = 3, 2.0
#: What a score is the sum of, each in its own standard deviations.
MEASURES = ("density", "outline", "size")


@dataclass
class LungSaliency:
    """What ``LungNorms`` says of B images.

    Attributes:
        maps: (B, W, W) float, how much denser a place is than normal, in standard deviations, not
            negative; 0 outside the lungs; in coordinates of the box.
        scores: (B,) float, the sum of the measures, in [-10, 10]; 0 for an image without lung.
        measures: (B, 3) float, ``MEASURES`` in standard deviations.
        boxes: (B, 2, 3) float32, from the box to the view, in normalized coordinates.
    """

    maps: Tensor
    scores: Tensor
    measures: Tensor
    boxes: Tensor

    def in_views(self, batch: ViewBatch, count: int) -> Tensor:
        """Return the maps as the first views show them, (V B, S, S), first views first.

        Args:
            batch: Its last views are those that the maps were made of.
            count: Number of views V.
        """
        size = batch.images.shape[-1]
        frames = batch.affines[:, -1].repeat(count, 1, 1)
        to_frame = view_to_frame(views_first(batch.affines[:, :count]), frames, size)
        to_box = chained(inverse_affine(self.boxes).repeat(count, 1, 1), to_frame)
        return read_map(self.maps[:, None].repeat(count, 1, 1, 1), to_box, size, "bilinear")[:, 0]


class LungNorms(nn.Module):
    """Means and spreads over all training images so far: of gray at each place, and of outlines.

    In training mode every call adds its images, over all ranks; before the first, a batch is
    compared with itself. The state is saved with the task.

    The score of an image is the sum, in standard deviations, of

    - density: the soft maximum over the lungs of (gray - mean) / spread at each place,
    - outline: log of the squared distance of its outline from the mean outline, on 7 x 7 cells: an
      opacity hides lung, and a collapsed lung is small,
    - size: minus the share of the frame that the box of both lungs takes.
    """

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("images", torch.zeros(()))
        self.register_buffer("places", torch.zeros(3, PLACES, PLACES))  # count, sum, sum of squares
        self.register_buffer("outlines", torch.zeros(OUTLINE_CELLS, OUTLINE_CELLS))
        self.register_buffer("measures", torch.zeros(2, len(MEASURES)))  # sum, sum of squares
        self.images: Tensor
        self.places: Tensor
        self.outlines: Tensor
        self.measures: Tensor

    @torch.no_grad()
    def forward(self, images_B1SS: Tensor, masks_BSS: Tensor) -> LungSaliency:
        """Return what is salient in upright views of the whole frame.

        Args:
            images_B1SS: (B, 1, S, S) float in [0, 1].
            masks_BSS: Their lung masks, (B, S, S) bool.
        """
        seen = lung_appearance(images_B1SS, masks_BSS)
        there = seen.lung.flatten(1).any(dim=1)
        images, places, outlines = self._add(
            (self.images, self.places, self.outlines), _sums(seen, there)
        )
        deviation = _deviation(seen, places)
        measures = torch.stack(
            [
                soft_maximum(deviation, seen.lung, _SHARPNESS),
                _distance(seen.outline, outlines / images.clamp_min(1)),
                -seen.area,
            ],
            dim=1,
        )
        present = measures * there[:, None]
        (moments,) = self._add(
            (self.measures,), (torch.stack([present.sum(dim=0), present.square().sum(dim=0)]),)
        )
        if self.training:
            self.images.copy_(images)
            self.places.copy_(places)
            self.outlines.copy_(outlines)
            self.measures.copy_(moments)
        mean, square = moments / images.clamp_min(1)
        spread = (square - mean.square()).clamp_min(0).sqrt()
        # A measure that is the same for all images (the size, where the frame is the box) says
        # nothing.
        standard = torch.where(spread > 1e-4, (measures - mean) / spread.clamp_min(1e-4), 0.0)
        standard = standard * there[:, None]
        return LungSaliency(
            maps=deviation.clamp_min(0),
            scores=standard.sum(dim=1).clamp(-_LARGEST_SCORE, _LARGEST_SCORE),
            measures=standard,
            boxes=seen.boxes,
        )

    def _add(self, stored: tuple[Tensor, ...], batch: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Return the stored sums with those of this batch where they are to be learned from."""
        if self.training or not self.images:
            return tuple(old + sum_over_ranks(new) for old, new in zip(stored, batch, strict=True))
        return stored


def _sums(seen: LungAppearance, there: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    lung = seen.lung.float()
    places = torch.stack([lung, seen.gray * lung, seen.gray.square() * lung], dim=1).sum(dim=0)
    outlines = (seen.outline * there[:, None, None]).sum(dim=0)
    return there.float().sum(), places, outlines


def _deviation(seen: LungAppearance, places: Tensor) -> Tensor:
    """Return (gray - mean) / spread at each place, smoothed, (B, W, W); 0 outside the lungs."""
    count, total, square = places
    pooled = places.sum(dim=(1, 2))
    pooled_mean, pooled_square = pooled[1:] / pooled[0].clamp_min(1)
    mean = (total + _PRIOR * pooled_mean) / (count + _PRIOR)
    second = (square + _PRIOR * pooled_square) / (count + _PRIOR)
    spread = (second - mean.square()).clamp_min(0).sqrt().clamp_min(_SMALLEST_SPREAD)
    deviation = ((seen.gray - mean) / spread).clamp(*_DEVIATION_RANGE)
    return local_mean(deviation, seen.lung, _WINDOW)


def _distance(outlines_B77: Tensor, mean_77: Tensor) -> Tensor:
    return ((outlines_B77 - mean_77).square().sum(dim=(1, 2)) + 1e-3).log()
