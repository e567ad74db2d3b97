"""Lung masks: recipes that find them, their quality, and the store that keeps them.

``recipes/registry.py`` draws a mask (``segment_lungs``), ``build.py`` those of a data set into a
``store.py``; ``benchmark.py`` scores them against references.
"""

from medsgssl.masks.recipes.registry import segment_lungs

__all__ = ["segment_lungs"]
