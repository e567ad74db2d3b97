"""Lung masks: rules that draw them, their quality, and the store that keeps them."""

from medsgssl.masks.build import build_store
from medsgssl.masks.geometry import resize_mask
from medsgssl.masks.makers import FolderMaker, RecipeMaker
from medsgssl.masks.recipes import Recipe, find_recipe, recipe_names, segment_lungs
from medsgssl.masks.shards import merge_shards
from medsgssl.masks.store import MaskStore, StoreHeader
from medsgssl.masks.types import LungMask

__all__ = [
    "FolderMaker",
    "LungMask",
    "MaskStore",
    "Recipe",
    "RecipeMaker",
    "StoreHeader",
    "build_store",
    "find_recipe",
    "merge_shards",
    "recipe_names",
    "resize_mask",
    "segment_lungs",
]
