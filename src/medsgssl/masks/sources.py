"""Where the masks of a store come from: a recipe, or mask files; one image gives one row."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import numpy as np

from medsgssl.config.schema import MAX_PIXELS
from medsgssl.errors import ImageError, MaskError
from medsgssl.images.reading import read_with_notes
from medsgssl.masks.agreement import dice
from medsgssl.masks.geometry import resize_mask
from medsgssl.masks.mask_files import (
    Labels,
    check_mask_folder,
    find_mask,
    label_sides,
    mask_index,
    read_mask,
    require_shape_of,
)
from medsgssl.masks.recipes.registry import Recipe, find_recipe
from medsgssl.masks.regions import behind_heart
from medsgssl.masks.store import Row, pack_row
from medsgssl.masks.types import Gray, LungMask, Mask
from medsgssl.utils.io import fingerprint

DEFAULT_GRID = 256
# Below this Dice with the rules a user's own mask deserves a look.
DOUBTFUL_AGREEMENT = 0.7
# Above this Dice of its complement with the rules, and more than its own, a mask is inverted.
INVERTED_AGREEMENT = 0.35
INVERTED = "the background is marked, not the lungs"
POLARITY_SAMPLE = 12


class Maker(Protocol):
    """What `build_store` needs to know of the way the masks are made."""

    @property
    def name(self) -> str:
        """Name in the header of the store."""

    @property
    def version(self) -> int:
        """Version in the header of the store."""

    @property
    def parameter_hash(self) -> str:
        """Hash of everything else that decides about the masks."""

    def check(self, items: Sequence[tuple[str, Path]]) -> None:
        """Check before any work whether masks of these images can be made, or raise MaskError."""

    def make(self, image_id: str, path: Path, grid: int) -> Row:
        """Return the row of one image; an unreadable image gives the status ``failed``."""


class ImageMaker(ABC):
    """A maker that looks at the pixels; who has decoded the image already calls ``draw_row``."""

    max_pixels: int

    @abstractmethod
    def draw_row(self, image_id: str, gray: Gray, grid: int) -> Row:
        """Return the row of one decoded image, uint8 (H, W)."""

    def make(self, image_id: str, path: Path, grid: int) -> Row:
        """Read the image and draw its row."""
        try:
            gray, _ = read_with_notes(path, self.max_pixels)
        except ImageError as error:
            return unreadable_row(image_id, error)
        return self.draw_row(image_id, gray, grid)


@dataclass(frozen=True)
class RecipeMaker(ImageMaker):
    """Draws the masks by a recipe, looked up by name so that it survives pickling.

    Attributes:
        recipe: Name of the recipe.
        weights: Another student's weights than the shipped ones, for ``distilled``.
        heart: Whether the lung behind the heart belongs to the mask.
    """

    recipe: str
    max_pixels: int = MAX_PIXELS
    weights: Path | None = None
    heart: bool = False

    @property
    def name(self) -> str:
        """The recipe's name."""
        return self._recipe.name

    @property
    def version(self) -> int:
        """The recipe's version."""
        return self._recipe.version

    @property
    def parameter_hash(self) -> str:
        """The recipe's parameters."""
        known = self._recipe.parameter_hash
        return fingerprint([known, "with the lung behind the heart"]) if self.heart else known

    @property
    def _recipe(self) -> Recipe:
        return _known_recipe(self.recipe, self.weights)

    def check(self, items: Sequence[tuple[str, Path]]) -> None:
        """Check that the recipe is known and its weights can be read."""
        del items
        _known_recipe.cache_clear()
        find_recipe(self.recipe, self.weights)

    def draw_row(self, image_id: str, gray: Gray, grid: int) -> Row:
        """Draw the mask of a decoded image, uint8 ``H x W``."""
        lungs = self.draw(gray)
        height, width = gray.shape
        return pack_row(image_id, (height, width), lungs, grid)

    def draw(self, gray: Gray) -> LungMask:
        """Draw the mask of a uint8 ``H x W`` image, at the scale of the recipe's grid."""
        lungs = self._recipe.draw(gray)
        if self.heart and lungs.status != "failed":
            lungs = replace(lungs, mask=lungs.mask | behind_heart(lungs.mask))
        return lungs


@lru_cache(maxsize=8)
def _known_recipe(name: str, weights: Path | None) -> Recipe:
    """Look a recipe up once per process."""
    return find_recipe(name, weights)


@dataclass(frozen=True)
class FolderMaker(ImageMaker):
    """Takes masks that the user already has, found by the names of their images.

    Their quality is their Dice with the anatomic recipe: a second opinion, no verdict.

    Attributes:
        folder: Folder of mask files (see `mask_files.read_mask` for their values and
            `mask_files.find_mask` for their names).
        labels: What the values of label maps stand for.
    """

    folder: Path
    max_pixels: int = MAX_PIXELS
    labels: Labels | None = None

    name = "folder"
    version = 2

    @property
    def parameter_hash(self) -> str:
        """Names and sizes of the files, and the labels: other files are other masks."""
        files = sorted((key, path.stat().st_size) for key, path in mask_index(self.folder).items())
        return fingerprint([files, sorted((self.labels or {}).items())])

    def check(self, items: Sequence[tuple[str, Path]]) -> None:
        """Check before any work that the folder holds masks of these images that make sense.

        Raises:
            MaskError: No image has a mask; the values of a mask cannot be understood; or bright
                and dark are swapped in most of a sample.
        """
        ids = [image_id for image_id, _ in items]
        check_mask_folder(self.folder, ids, self.labels)
        masked = [item for item in items if find_mask(self.folder, item[0]) is not None]
        rows = [
            self.make(image_id, path, DEFAULT_GRID)
            for image_id, path in masked[:: max(1, len(masked) // POLARITY_SAMPLE)]
        ]
        swapped = [row for row in rows if INVERTED in row.reason]
        if len(swapped) > len(rows) / 2:
            example = find_mask(self.folder, swapped[0].image_id)
            raise MaskError(
                f"{example} marks the background, not the lungs, as do {len(swapped)} of "
                f"{len(rows)} masks compared with the anatomic recipe",
                "name the value of the lungs: masks.labels={0: both} in a run, --labels 0=both in "
                "masks build; or invert the files",
            )

    def draw_row(self, image_id: str, gray: Gray, grid: int) -> Row:
        """Read the mask that belongs to a decoded image, uint8 (H, W)."""
        height, width = gray.shape
        source = find_mask(self.folder, image_id)
        if source is None:
            reason = f"{self.folder.name} holds no mask of {Path(image_id).name}"
            return pack_row(image_id, (height, width), LungMask.failed(gray.shape, reason), grid)
        try:
            mask = read_mask(source, self.labels)
        except MaskError as error:
            lungs = LungMask.failed(gray.shape, error.problem)
            return pack_row(image_id, (height, width), lungs, grid)
        require_shape_of((height, width), mask, source)
        if not mask.any():
            lungs = LungMask.failed(mask.shape, "the given mask is empty")
        elif mask.all():
            lungs = LungMask.failed(mask.shape, "the given mask covers the whole image")
        else:
            lungs = _compared(mask, find_recipe("anatomic").draw(gray))
            if self.labels is not None and _mirrored(label_sides(source, self.labels)):
                reason = "the label of the right lung lies on the right of the image: mirrored?"
                lungs = LungMask(lungs.mask, lungs.quality, "doubtful", reason)
        return pack_row(image_id, (height, width), lungs, grid)


def _compared(mask: Mask, rules: LungMask) -> LungMask:
    """Give a user's mask the quality and status that its agreement with the rules suggests."""
    if rules.status == "failed":
        return LungMask(mask, 0.5, "ok", "the anatomic recipe has no mask to compare with")
    wanted = resize_mask(rules.mask, (mask.shape[0], mask.shape[1]))
    agreement = dice(mask, wanted)
    if dice(~mask, wanted) > max(agreement, INVERTED_AGREEMENT):
        return LungMask(mask, agreement, "doubtful", INVERTED)
    if agreement < DOUBTFUL_AGREEMENT:
        return LungMask(mask, agreement, "doubtful", "disagrees with the anatomic recipe")
    return LungMask(mask, agreement, "ok")


def _mirrored(sides: tuple[Mask, Mask] | None) -> bool:
    """Whether the patient's right lung lies on the right of the image."""
    if sides is None:
        return False
    right, left = (float(np.nonzero(side)[1].mean()) for side in sides)
    return right > left


def unreadable_row(image_id: str, error: ImageError) -> Row:
    """Return the row of an image that cannot be read: failed, one empty pixel, size 0 x 0."""
    lungs = LungMask.failed((1, 1), f"unreadable: {error.problem}")
    row = pack_row(image_id, (1, 1), lungs, 1)
    return Row(**{**{name: getattr(row, name) for name in row.__slots__}, "height": 0, "width": 0})
