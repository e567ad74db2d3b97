"""The patients of the official NIH split, bundled with the package (see README.md beside it)."""

from __future__ import annotations

from functools import cache
from importlib.resources import files


@cache
def nih_test_patients() -> frozenset[str]:
    """Return the 2,797 patients of the official test list.

    Source: Wang et al., "ChestX-ray8", CVPR 2017, ``test_list.txt`` of the release.
    """
    return _read("nih_test_patients.txt")


@cache
def nih_val_patients() -> frozenset[str]:
    """Return the 3,666 training patients that are commonly held out for validation.

    Source: Xiao et al., "Delving into masked autoencoders for multi-label thorax disease
    classification", WACV 2023; the same patients are used by EVA-X and Ark.
    """
    return _read("nih_val_patients.txt")


def _read(name: str) -> frozenset[str]:
    return frozenset((files(__name__) / name).read_text(encoding="utf-8").split())
