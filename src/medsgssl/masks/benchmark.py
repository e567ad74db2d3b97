"""Compares masks with references drawn by people: Dice, Jaccard index, surface distance, AUC."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

import pandas as pd
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

from medsgssl.errors import MaskError
from medsgssl.images.integrity import IMAGE_SUFFIXES
from medsgssl.images.reading import read_image
from medsgssl.masks.agreement import dice, jaccard, surface_distance
from medsgssl.masks.geometry import resize_mask
from medsgssl.masks.mask_files import (
    Labels,
    find_mask,
    mask_index,
    read_mask,
    require_shape_of,
)
from medsgssl.masks.recipes.registry import find_recipe
from medsgssl.masks.regions import behind_heart
from medsgssl.masks.types import LungMask, Mask

GOOD_DICE = 0.8


ScoreSummary = TypedDict(
    "ScoreSummary",
    {
        "recipe": str,
        "heart": bool,
        "images": int,
        "dice_mean": float,
        "dice_median": float,
        "iou_mean": float,
        "surface_distance_mean_px": float | None,
        "share_below_0.5": float,
        "share_below_0.8": float,
        "share_above_0.9": float,
        "quality_auc_dice_below_0.8": float | None,
        "quality_dice_spearman": float | None,
        "status": dict[str, int],
    },
)


class ScoreRow(TypedDict):
    """One row of ``Scores.table``."""

    image_id: str
    dice: float
    iou: float
    surface_distance: float
    quality: float
    status: str
    reason: str


@dataclass(frozen=True)
class Scores:
    """Scores of one recipe on one set.

    Attributes:
        recipe: Name of the recipe.
        table: One row per image: image_id, dice, iou, surface_distance (pixels of the
            reference), quality, status, reason.
        weights: Another student's weights than the shipped ones.
        heart: Whether the lung behind the heart counted as lung.
        labels: What the values of the references stood for.
    """

    recipe: str
    table: pd.DataFrame
    weights: Path | None = None
    heart: bool = False
    labels: Labels | None = None

    def summary(self) -> ScoreSummary:
        """Return the figures of the whole set; undefined ones are None."""
        dice, quality = self.table["dice"], self.table["quality"]
        good = dice >= GOOD_DICE
        mixed = 0 < int(good.sum()) < len(good)
        varies = len(set(dice)) > 1 and len(set(quality)) > 1
        distance = self.table["surface_distance"].mean()
        return {
            "recipe": self.recipe,
            "heart": self.heart,
            "images": len(self.table),
            "dice_mean": float(dice.mean()),
            "dice_median": float(dice.median()),
            "iou_mean": float(self.table["iou"].mean()),
            "surface_distance_mean_px": None if math.isnan(distance) else float(distance),
            "share_below_0.5": float((dice < 0.5).mean()),
            "share_below_0.8": float((dice < GOOD_DICE).mean()),
            "share_above_0.9": float((dice > 0.9).mean()),
            "quality_auc_dice_below_0.8": float(roc_auc_score(good, quality)) if mixed else None,
            "quality_dice_spearman": float(spearmanr(quality, dice)[0]) if varies else None,
            "status": {str(k): int(v) for k, v in self.table["status"].value_counts().items()},
        }


@dataclass(frozen=True)
class ScoredImage:
    """One image beside its reference; masks are bool at the size of the reference."""

    image_id: str
    path: Path
    lungs: LungMask
    mask: Mask
    reference: Mask

    def row(self) -> ScoreRow:
        """Return the row of the table."""
        return {
            "image_id": self.image_id,
            "dice": dice(self.mask, self.reference),
            "iou": jaccard(self.mask, self.reference),
            "surface_distance": surface_distance(self.mask, self.reference),
            "quality": self.lungs.quality,
            "status": self.lungs.status,
            "reason": self.lungs.reason,
        }


def find_pairs(images: Path, references: Path) -> list[tuple[str, Path, Path]]:
    """Pair every reference with its image, by the names that ``mask_files.find_mask`` knows.

    Images without a reference are left out.

    Args:
        images: Folder of images, also in folders below it.
        references: Folder of masks, likewise.

    Returns:
        ``(image_id, image, reference)``, ordered by name; the id is the path without its suffix.

    Raises:
        MaskError: A folder is missing, or no or not every reference has an image.
    """
    for folder in (images, references):
        if not folder.is_dir():
            raise MaskError(f"{folder} is not a folder", "give a folder of images")
    mask_index.cache_clear()
    drawn = set(mask_index(references).values())
    if not drawn:
        raise MaskError(f"{references} holds no masks", "give the folder of reference masks")
    files = sorted(path for path in images.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
    pairs = []
    for path in files:
        image_id = path.relative_to(images).with_suffix("").as_posix()
        reference = find_mask(references, path.relative_to(images).as_posix())
        # References may lie below the images.
        if reference is not None and path not in drawn:
            pairs.append((image_id, path, reference))
    lonely = sorted(path.name for path in drawn - {reference for _, _, reference in pairs})
    if lonely:
        raise MaskError(
            f"{len(lonely)} references have no image in {images}, first {lonely[0]}",
            "name references like their images: NAME.png, NAME_mask.png or NAME-mask.png",
        )
    return pairs


def scored_images(
    pairs: Sequence[tuple[str, Path, Path]],
    recipe: str,
    weights: Path | None = None,
    heart: bool = False,
    labels: Labels | None = None,
) -> Iterator[ScoredImage]:
    """Draw the mask of every image and yield it beside its reference.

    Args:
        pairs: As ``find_pairs`` gives them.
        recipe: Name of the recipe.
        weights: Another student's weights than the shipped ones.
        heart: Whether the lung behind the heart counts as lung.
        labels: What the values of references stand for, where they are label maps.

    Raises:
        MaskError: A reference cannot be understood, or has another shape than its image.
    """
    draw = find_recipe(recipe, weights).draw
    for image_id, path, reference_path in pairs:
        reference = read_mask(reference_path, labels)
        gray = read_image(path)
        height, width = gray.shape
        require_shape_of((height, width), reference, reference_path)
        lungs = draw(gray)
        drawn = lungs.mask | behind_heart(lungs.mask) if heart else lungs.mask
        mask = resize_mask(drawn, (reference.shape[0], reference.shape[1]))
        yield ScoredImage(image_id, path, lungs, mask, reference)


def score_recipe(
    images: Path,
    references: Path,
    recipe: str,
    weights: Path | None = None,
    heart: bool = False,
    labels: Labels | None = None,
) -> Scores:
    """Score a recipe on a folder of images with reference masks.

    Args:
        images: Folder of images.
        references: Folder of their masks, see ``find_pairs``.
        recipe: Name of the recipe.
        weights: Another student's weights than the shipped ones.
        heart: Whether the lung behind the heart counts as lung.
        labels: What the values of references stand for, where they are label maps.
    """
    pairs = find_pairs(images, references)
    scored = scored_images(pairs, recipe, weights, heart, labels)
    table = pd.DataFrame([one.row() for one in scored])
    return Scores(recipe, table, weights, heart, labels)
