"""Makers turn one image file into one row of a store; they run in worker processes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from medsgssl.config.schema import MAX_PIXELS
from medsgssl.errors import ImageError, MaskError
from medsgssl.images.reading import read_with_notes
from medsgssl.masks.agreement import dice
from medsgssl.masks.geometry import resize_mask
from medsgssl.masks.recipes.registry import find_recipe
from medsgssl.masks.store import Row, pack_row
from medsgssl.masks.types import LungMask, Mask
from medsgssl.utils.io import fingerprint

DEFAULT_GRID = 256
# Below this Dice with the rules a user's own mask deserves a look.
DOUBTFUL_AGREEMENT = 0.7


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

    def make(self, image_id: str, path: Path, grid: int) -> Row:
        """Return the row of one image; an unreadable image gives the status ``failed``."""


@dataclass(frozen=True)
class RecipeMaker:
    """Draws the masks by a recipe, looked up by name so that it survives pickling."""

    recipe: str
    max_pixels: int = MAX_PIXELS

    @property
    def name(self) -> str:
        """The recipe's name."""
        return find_recipe(self.recipe).name

    @property
    def version(self) -> int:
        """The recipe's version."""
        return find_recipe(self.recipe).version

    @property
    def parameter_hash(self) -> str:
        """The recipe's parameters."""
        return find_recipe(self.recipe).parameter_hash

    def make(self, image_id: str, path: Path, grid: int) -> Row:
        """Read the image and draw its mask."""
        try:
            gray, _ = read_with_notes(path, self.max_pixels)
        except ImageError as error:
            return unreadable_row(image_id, error)
        lungs = find_recipe(self.recipe).draw(gray)
        height, width = gray.shape
        return pack_row(image_id, (height, width), lungs, grid)


@dataclass(frozen=True)
class FolderMaker:
    """Takes masks that the user already has: ``FOLDER/<stem of the image id>.png``.

    Their quality is their Dice with the anatomic recipe: a second opinion, no verdict.

    Attributes:
        folder: Folder of 8-bit or 1-bit images; everything above half of the brightest value
            is inside.
    """

    folder: Path
    max_pixels: int = MAX_PIXELS

    name = "folder"
    version = 1

    @property
    def parameter_hash(self) -> str:
        """Names and sizes of the files: other files are other masks."""
        files = sorted(self.folder.glob("*.png"))
        return fingerprint([(path.name, path.stat().st_size) for path in files])

    def make(self, image_id: str, path: Path, grid: int) -> Row:
        """Read the mask that belongs to the image."""
        try:
            gray, _ = read_with_notes(path, self.max_pixels)
        except ImageError as error:
            return unreadable_row(image_id, error)
        height, width = gray.shape
        source = self.folder / f"{Path(image_id).stem}.png"
        if not source.is_file():
            lungs = LungMask.failed((height, width), f"{source.name} is not in the folder of masks")
            return pack_row(image_id, (height, width), lungs, grid)
        mask = read_mask(source)
        if abs(mask.shape[0] / mask.shape[1] - height / width) > 0.02 * height / width:
            raise MaskError(
                f"{source} is {mask.shape[1]} x {mask.shape[0]} pixels, but its image is "
                f"{width} x {height}: another aspect ratio",
                "give masks of the shape of their images",
            )
        if not mask.any():
            lungs = LungMask.failed(mask.shape, "the given mask is empty")
        else:
            lungs = _compared(mask, find_recipe("anatomic").draw(gray))
        return pack_row(image_id, (height, width), lungs, grid)


def read_mask(source: Path) -> Mask:
    """Read a mask from an image file: bool, True above half of the brightest value.

    Files of 0/1 and of 0/255 are both common; half of the maximum reads both.

    Raises:
        MaskError: The file is no image.
    """
    drawn = cv2.imread(str(source), cv2.IMREAD_GRAYSCALE)
    if drawn is None:
        raise MaskError(f"{source} is not a readable image", "replace or delete this file")
    return np.asarray(drawn > drawn.max() / 2, dtype=bool)


def _compared(mask: Mask, rules: LungMask) -> LungMask:
    """Give a user's mask the quality and status that its agreement with the rules suggests."""
    if rules.status == "failed":
        return LungMask(mask, 0.5, "ok", "the anatomic recipe has no mask to compare with")
    agreement = dice(mask, resize_mask(rules.mask, (mask.shape[0], mask.shape[1])))
    if agreement < DOUBTFUL_AGREEMENT:
        return LungMask(mask, agreement, "doubtful", "disagrees with the anatomic recipe")
    return LungMask(mask, agreement, "ok")


def unreadable_row(image_id: str, error: ImageError) -> Row:
    """Return the row of an image that cannot be read: failed, one empty pixel, size 0 x 0."""
    lungs = LungMask.failed((1, 1), f"unreadable: {error.problem}")
    row = pack_row(image_id, (1, 1), lungs, 1)
    return Row(**{**{name: getattr(row, name) for name in row.__slots__}, "height": 0, "width": 0})
