"""The index from which settings are looked up: every default and range that users see."""

from __future__ import annotations

from medsgssl.methods.index import INDEX, current_index, method_index
from medsgssl.utils.io import read_json


def test_the_index_of_methods_says_what_the_classes_say() -> None:
    assert read_json(INDEX) == current_index(), "run: python -m medsgssl.methods.index"
    assert list(method_index()) == sorted(method_index())
