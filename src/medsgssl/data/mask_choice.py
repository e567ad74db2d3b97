"""Which masks a run draws: the recipe that ``auto`` stands for, and what the student saw."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from medsgssl.config.schema import MAX_PIXELS, MaskSettings
from medsgssl.data.catalog import Catalog
from medsgssl.data.mask_cache import CONTROLS
from medsgssl.data.overlap import held_out_rows
from medsgssl.errors import ConfigError, MaskError
from medsgssl.masks.recipes.distilled.student_weights import SHIPPED, read_seen
from medsgssl.masks.recipes.registry import AUTO, DISTILLED
from medsgssl.masks.sources import FolderMaker, Maker, RecipeMaker
from medsgssl.masks.store import StoreHeader
from medsgssl.utils.formatting import plural

ANATOMIC = "anatomic"


@dataclass(frozen=True)
class MaskChoice:
    """What makes the masks of a run.

    Attributes:
        maker: Recipe or folder.
        reason: Why ``auto`` stands for this recipe; empty where the recipe was named.
    """

    maker: Maker
    reason: str = ""


def choose_masks(
    settings: MaskSettings, catalog: Catalog, max_pixels: int = MAX_PIXELS
) -> MaskChoice | Path:
    """Choose what makes the masks, before any work.

    ``auto`` takes the student unless it saw images or patients of the data set's validation or
    test, and the rules then.

    Args:
        settings: ``config.masks``.
        catalog: The data set with the splits that are to be kept apart.
        max_pixels: ``config.data.max_pixels``.

    Returns:
        The choice, or the folder of a mask store to read.

    Raises:
        ConfigError: The source of the masks is neither known nor a folder.
        MaskError: The recipe is unknown, the student's weights cannot be read, or ``distilled``
            was asked for and its student saw validation or test patients.
    """
    if settings.source in ("rules", *CONTROLS):
        return _choose_recipe(settings, catalog, max_pixels)
    folder = Path(settings.source)
    if (folder / "store.json").is_file():
        _check_store(folder, settings, catalog)
        return folder
    if not folder.is_dir():
        raise ConfigError(
            f"masks.source={settings.source!r} is neither a known source nor a folder",
            f"use rules, {', '.join(CONTROLS)}, or a mask store or folder of PNG masks",
        )
    return MaskChoice(FolderMaker(folder, max_pixels, settings.labels))


def _choose_recipe(settings: MaskSettings, catalog: Catalog, max_pixels: int) -> MaskChoice:
    heart = settings.heart == "include"
    name, weights, reason = settings.recipe, settings.weights, ""
    if name in (AUTO, DISTILLED):
        if name == DISTILLED:
            require_no_leak(catalog, weights or SHIPPED)
        else:
            leaked = count_leaked(catalog, weights or SHIPPED)
            name = ANATOMIC if leaked else DISTILLED
            reason = (
                f"the student saw {leaked} {plural(leaked, 'image')} of validation or test patients"
                if leaked
                else "the student saw no image of validation or test patients"
            )
    maker = RecipeMaker(name, max_pixels, weights if name == DISTILLED else None, heart)
    maker.check([])
    return MaskChoice(maker, reason)


def _check_store(folder: Path, settings: MaskSettings, catalog: Catalog) -> None:
    """Check a store that a student drew as if the student were asked for by name."""
    header = StoreHeader.read(folder)
    if header.recipe != DISTILLED:
        return
    weights = settings.weights or SHIPPED
    known = {RecipeMaker(DISTILLED, MAX_PIXELS, weights, h).parameter_hash for h in (False, True)}
    if header.parameter_hash not in known:
        raise MaskError(
            f"the masks in {folder} were drawn by another student than {weights}: whether it saw "
            "validation or test patients is not known",
            "name its weights with --set masks.weights=WEIGHTS, or build the masks again",
        )
    require_no_leak(catalog, weights)


def require_no_leak(catalog: Catalog, weights: Path, *, any_split: bool = False) -> None:
    """Check that a student saw no image or patient of a data set's validation or test.

    Args:
        catalog: The data set with its splits.
        weights: The student's weights.
        any_split: As for ``count_leaked``.

    Raises:
        MaskError: It did, or the weights cannot be read.
    """
    leaked = count_leaked(catalog, weights, any_split=any_split)
    if leaked:
        raise MaskError(
            f"the student of masks.recipe=distilled saw {leaked} {plural(leaked, 'image')} of this "
            "data set's validation or test patients: scores there would be too good",
            "use --set masks.recipe=anatomic, or teach a student on training images alone: "
            "medsgssl masks train DATA --out WEIGHTS (with the split, e.g. --set "
            "data.split=official), then --set masks.weights=WEIGHTS; where no image of this folder "
            "will be scored, --set data.split=train",
        )


def count_leaked(catalog: Catalog, weights: Path, *, any_split: bool = False) -> int:
    """Count the images that a student saw and whose patient is in validation or test here.

    Args:
        catalog: The data set with its splits.
        weights: The student's weights.
        any_split: Count patients of the training split as well: with folds, all are tested.

    Raises:
        MaskError: The weights cannot be read.
    """
    if any_split:
        table = catalog.table.assign(split="test")
        catalog = replace(catalog, table=table)
    return int(held_out_rows(catalog, read_seen(weights)).sum())
