"""Makers turn one image file into one row of a store; they run in worker processes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from medsgssl import sources
from medsgssl.errors import ImageError, MaskError
from medsgssl.masks.parts import Row, pack_row
from medsgssl.masks.recipes import find_recipe
from medsgssl.masks.types import LungMask

DEFAULT_GRID = 256


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
            grey = sources.read_image(path)
        except ImageError as error:
            return unreadable_row(image_id, error)
        lungs = find_recipe(self.recipe).draw(grey)
        height, width = grey.shape
        return pack_row(image_id, (height, width), lungs, grid)


@dataclass(frozen=True)
class FolderMaker:
    """Takes masks that the user already has: ``FOLDER/<stem of the image id>.png``.

    Attributes:
        folder: Folder of 8-bit or 1-bit images; everything above half of the brightest value
            is inside.
    """

    folder: Path

    name = "folder"
    version = 1

    @property
    def parameter_hash(self) -> str:
        """No constants: the masks themselves are the parameters."""
        return "folder"

    def make(self, image_id: str, path: Path, grid: int) -> Row:
        """Read the mask that belongs to the image."""
        try:
            height, width = sources.read_image(path).shape
        except ImageError as error:
            return unreadable_row(image_id, error)
        source = self.folder / f"{Path(image_id).stem}.png"
        if not source.is_file():
            lungs = LungMask.failed((height, width), f"{source.name} is not in the folder of masks")
            return pack_row(image_id, (height, width), lungs, grid)
        drawn = cv2.imread(str(source), cv2.IMREAD_GRAYSCALE)
        if drawn is None:
            raise MaskError(f"{source} is not a readable image", "replace or delete this file")
        # 0/1 and 0/255 files are both common; half of the maximum reads both.
        mask = np.asarray(drawn > drawn.max() / 2, dtype=bool)
        if abs(mask.shape[0] / mask.shape[1] - height / width) > 0.02 * height / width:
            raise MaskError(
                f"{source} is {mask.shape[1]} x {mask.shape[0]} pixels, but its image is "
                f"{width} x {height}: another aspect ratio",
                "give masks of the shape of their images",
            )
        if not mask.any():
            lungs = LungMask.failed(mask.shape, "the given mask is empty")
        else:
            lungs = LungMask(mask, 1.0, "ok")
        return pack_row(image_id, (height, width), lungs, grid)


def unreadable_row(image_id: str, error: ImageError) -> Row:
    """Return the row of an image that cannot be read: failed, one empty pixel, size 0 x 0."""
    lungs = LungMask.failed((1, 1), f"unreadable: {error.problem}")
    row = pack_row(image_id, (1, 1), lungs, 1)
    return Row(**{**{name: getattr(row, name) for name in row.__slots__}, "height": 0, "width": 0})
