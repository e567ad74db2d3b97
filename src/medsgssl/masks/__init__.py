"""Lung masks: recipes that find them, their quality, and the store that keeps them."""

from medsgssl.masks.recipes.registry import segment_lungs

__all__ = ["segment_lungs"]
