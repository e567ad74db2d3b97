"""Crops that the lung mask guides: random windows that must show lung, and the box of both lungs.

All windows are squares in the cached image, so that the aspect is kept. A mask that is not trusted,
or that is empty, guides nothing: the full image takes the place of the lung box.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from medsgssl.config.schema import AugmentSettings
from medsgssl.transforms.affine import Crop, UInt8, box_crop, warp_mask, whole
from medsgssl.transforms.crops import CropRule, RandomCrop, draw_pose

# Windows are tried on a lattice of about this many places per side, at a random offset.
_PLACES = 24
# Where no place will do, the next window is this much smaller (or larger, for a share of lungs).
_STEP = 0.85
_MOST_STEPS = 12


@dataclass(frozen=True)
class LungBox(CropRule):
    """The smallest square around both lungs and a margin, upright; deterministic.

    Heart and mediastinum lie between the lungs, and the margin keeps the costophrenic angles, which
    masks tend to cut. The square is moved, and at most shrunk to the full image, to stay inside.

    Attributes:
        margin: Share of the box's longer side added on every side.
        min_quality: Quality below which the full image is shown.
    """

    margin: float = 0.08
    min_quality: float = 0.3

    def draw(self, mask: UInt8, quality: float, rng: np.random.Generator) -> Crop:
        """Return the square; ``rng`` is not used."""
        size = mask.shape[0]
        left, top, width, height = cv2.boundingRect(mask)
        if quality < self.min_quality or width == 0:
            return whole(size)
        side = min(math.ceil(max(width, height) * (1 + 2 * self.margin)), size)
        x0 = _first_pixel(left + (width - 1) / 2, side, size)
        y0 = _first_pixel(top + (height - 1) / 2, side, size)
        return box_crop(x0, y0, x0 + side - 1, y0 + side - 1)


@dataclass(frozen=True)
class InLungBox(CropRule):
    """Another rule, applied to the lung box as if that were the whole image.

    Attributes:
        rule: Draws a crop of an image.
        box: The lung box; where it is the full image, the rule sees all of it.
    """

    rule: CropRule
    box: LungBox = LungBox()

    def draw(self, mask: UInt8, quality: float, rng: np.random.Generator) -> Crop:
        """Return the rule's crop of the box, in pixels of the image."""
        box = self.box.draw(mask, quality, rng)
        left, top = round(box.x - (box.width - 1) / 2), round(box.y - (box.height - 1) / 2)
        part = mask[top : top + round(box.height), left : left + round(box.width)]
        crop = self.rule.draw(np.ascontiguousarray(part), quality, rng)
        return replace(crop, x=crop.x + left, y=crop.y + top)


@dataclass(frozen=True)
class AroundLungBox(CropRule):
    """A mild random square window inside the lung box: the view of fine-tuning.

    Its area is a share of the box's (``views.finetune.scale``, 0.7 to 1 by default), its place is
    uniform in the box. It promises no share of lung: at test the whole box is seen, and a window
    that leans to one lung should look like a part of that, not like a crop of pretraining.

    Attributes:
        augment: ``scale`` is the area share of the box; ``ratio`` is not used.
        box: The lung box.
    """

    augment: AugmentSettings
    box: LungBox

    def draw(self, mask: UInt8, quality: float, rng: np.random.Generator) -> Crop:
        """Return a window that lies inside the box before it is rotated."""
        box = self.box.draw(mask, quality, rng)
        side = math.sqrt(rng.uniform(*self.augment.scale)) * box.width
        position = (rng.random(2) - 0.5) * (box.width - side)
        rotation, flip = draw_pose(self.augment, rng)
        return Crop(box.x + position[0], box.y + position[1], side, side, rotation, flip)


@dataclass(frozen=True)
class LungCrop(CropRule):
    """A random square window of which at least ``cover`` is lung, or which holds so much of them.

    The area is drawn as a share of the lung box; a context margin goes around it; then a place is
    drawn among all that satisfy the constraint. What is drawn is checked on the view's own pixels.
    Where it fails, the rotation is left out, then the place with the most lung is taken; where that
    fails too, the window shrinks (or grows, for a share of the lungs). So the constraint holds for
    the whole window, margin included, in every draw. A mask that has nowhere so much lung, in no
    window of a seventh of the drawn side, guides nothing.

    Attributes:
        augment: ``scale`` is the area share of the lung box; ``ratio`` is not used.
        cover: The constraint, tau.
        cover_of: Whether tau is a share of the window's area or of the lungs' area.
        margin: Smallest and largest context on every side, as shares of the window's side.
        box: The lung box; where it is the full image, the window is any ``RandomCrop``.
        view_size: Side of the view in pixels, on which the constraint is counted.
    """

    augment: AugmentSettings
    cover: float = 0.4
    cover_of: Literal["crop", "lungs"] = "crop"
    margin: tuple[float, float] = (0.05, 0.10)
    box: LungBox = LungBox()
    view_size: int = 224

    def draw(self, mask: UInt8, quality: float, rng: np.random.Generator) -> Crop:
        """Return the window; the full image's ``RandomCrop`` where the mask cannot guide."""
        if quality < self.box.min_quality or not cv2.countNonZero(mask):
            return RandomCrop(self.augment).draw(mask, quality, rng)
        # Every number is drawn first, so that what the mask says moves no other number.
        area, context = rng.uniform(*self.augment.scale), rng.uniform(*self.margin)
        offset, choice = rng.random(2), rng.random()
        rotation, flip = draw_pose(self.augment, rng)
        side = math.sqrt(area) * self.box.draw(mask, quality, rng).width * (1 + 2 * context)
        sums = np.asarray(cv2.integral(mask), dtype=np.int32)
        factor = _STEP if self.cover_of == "crop" else 1 / _STEP
        for _ in range(_MOST_STEPS):
            width = min(max(round(side), 1), mask.shape[0])
            for x0, y0 in self._places(sums, width, offset, choice):
                x, y = x0 + (width - 1) / 2, y0 + (width - 1) / 2
                for angle in (rotation, 0.0):
                    crop = Crop(x, y, width, width, angle, flip)
                    if self._fulfilled(mask, crop):
                        return crop
            side = width * factor
        return RandomCrop(self.augment).draw(mask, quality, rng)

    def _places(
        self, sums: NDArray[np.int32], width: int, offset: NDArray[np.float64], choice: float
    ) -> Iterator[tuple[int, int]]:
        """Yield left and top of a drawn window that will do, then of the one with the most lung."""
        size = sums.shape[0] - 1
        needed = self.cover * (width * width if self.cover_of == "crop" else int(sums[-1, -1]))
        step = (size - width) // _PLACES + 1
        x0, y0 = int(offset[0] * step), int(offset[1] * step)
        bands = sums[y0 + width :: step] - sums[y0 : size + 1 - width : step]
        lung = bands[:, x0 + width :: step] - bands[:, x0 : size + 1 - width : step]
        positions = np.flatnonzero(lung >= needed)
        if len(positions):
            for position in (positions[int(choice * len(positions))], lung.argmax()):
                row, column = divmod(int(position), lung.shape[1])
                yield x0 + column * step, y0 + row * step

    def _fulfilled(self, mask: UInt8, crop: Crop) -> bool:
        view = warp_mask(mask, crop.affine(self.view_size), self.view_size)
        inside = cv2.countNonZero(view)
        if self.cover_of == "crop":
            return inside >= self.cover * self.view_size**2
        share = inside / self.view_size**2
        return share * crop.width * crop.height >= self.cover * cv2.countNonZero(mask)


def _first_pixel(center: float, side: int, size: int) -> int:
    """Return where a window about ``center`` begins, moved so that it lies in the image."""
    return min(max(round(center - (side - 1) / 2), 0), size - side)
