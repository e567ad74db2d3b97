"""The registry of mask recipes, and the one call that draws a mask.

A recipe is a function of one gray image. Third parties add theirs by an entry point of the group
``medsgssl.mask_recipes`` that names a `Recipe`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medsgssl.errors import MaskError
from medsgssl.images.intensity import to_gray8
from medsgssl.masks.geometry import resize_mask
from medsgssl.masks.recipes import classic
from medsgssl.masks.recipes.anatomic import recipe as anatomic
from medsgssl.masks.recipes.distilled import recipe as distilled
from medsgssl.masks.recipes.distilled.student_weights import SHIPPED, read_card
from medsgssl.masks.types import Gray, LungMask
from medsgssl.utils.io import file_hash, fingerprint

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

ENTRY_POINTS = "medsgssl.mask_recipes"


@dataclass(frozen=True)
class Recipe:
    """One way to draw lung masks.

    Attributes:
        name: What users choose it by.
        version: Raised whenever the same parameters give other masks.
        parameters: A dataclass instance or a dict of the constants of the recipe; its hash is
            stored beside the masks.
        draw: From a uint8 ``H x W`` image (bright = dense) to a `LungMask` of the same aspect
            ratio; the mask may be smaller than the image.
    """

    name: str
    version: int
    parameters: Any
    draw: Callable[[Gray], LungMask]

    @property
    def parameter_hash(self) -> str:
        """Short hash of the parameters."""
        values = self.parameters
        return fingerprint(values if isinstance(values, dict) else asdict(values))


_BUILT_IN = {
    recipe.name: recipe
    for recipe in (
        Recipe("anatomic", anatomic.VERSION, anatomic.PARAMETERS, anatomic.draw),
        Recipe("classic", classic.VERSION, classic.PARAMETERS, classic.draw),
    )
}


# `auto` is the student where nothing speaks against it; a run decides by what the student saw.
AUTO = "auto"
DISTILLED = "distilled"


def recipe_names() -> list[str]:
    """Names of all recipes, the package's own first."""
    plugins = sorted({entry.name for entry in entry_points(group=ENTRY_POINTS)})
    return [*_BUILT_IN, DISTILLED, AUTO, *plugins]


def find_recipe(name: str, weights: Path | None = None) -> Recipe:
    """Return the recipe of that name.

    Args:
        name: One of `recipe_names`.
        weights: Another student's weights than the shipped ones, for ``distilled`` and ``auto``.

    Raises:
        MaskError: No recipe has the name, its entry point does not give a `Recipe`, or the weights
            are missing.
    """
    if name in _BUILT_IN:
        return _BUILT_IN[name]
    if name in (AUTO, DISTILLED):
        return distilled_recipe(weights or SHIPPED)
    for entry in entry_points(group=ENTRY_POINTS):
        if entry.name == name:
            recipe = entry.load()
            if not isinstance(recipe, Recipe):
                raise MaskError(
                    f"the entry point {entry.value} of the mask recipe {name!r} is not a Recipe",
                    "let it name a medsgssl.masks.recipes.registry.Recipe",
                )
            return recipe
    raise MaskError(f"there is no mask recipe {name!r}", f"use one of {', '.join(recipe_names())}")


def distilled_recipe(weights: Path) -> Recipe:
    """Return the recipe that draws with a student.

    Raises:
        MaskError: The weights are missing.
    """
    read_card(weights)
    parameters = {
        **asdict(distilled.PARAMETERS),
        "student": file_hash(weights),
        "rules": [anatomic.VERSION, asdict(anatomic.PARAMETERS)],
    }
    draw = partial(distilled.draw, weights=weights)
    return Recipe(DISTILLED, distilled.VERSION, parameters, draw)


def segment_lungs(image: NDArray[np.generic], recipe: str = AUTO) -> LungMask:
    """Draw the mask of both lungs of one frontal chest X-ray.

    Args:
        image: ``H x W`` gray or ``H x W x 3 or 4`` color, uint8, uint16 or float.
        recipe: Name of a recipe; `auto` is the student here, where no split can leak.

    Returns:
        The mask at the size of the image, with its quality and status.

    Raises:
        ImageError: The array is no image.
        MaskError: No recipe has the name.
    """
    gray = to_gray8(image)
    drawn = find_recipe(recipe).draw(gray)
    height, width = gray.shape
    full = resize_mask(drawn.mask, (height, width))
    return LungMask(full, drawn.quality, drawn.status, drawn.reason)
