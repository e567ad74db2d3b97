"""The index from which settings are looked up: every default and range that users see."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest

from medsgssl.methods.index import INDEX, MethodEntry, current_index, method_index
from medsgssl.methods.registry import all_methods
from medsgssl.utils.io import read_json

STORED = read_json(INDEX)


@pytest.mark.parametrize("name", STORED["methods"])
def test_the_index_says_of_a_method_what_its_class_says(name: str) -> None:
    entry = json.loads(json.dumps(asdict(MethodEntry.of(all_methods()[name]))))
    assert STORED["methods"][name] == entry, "run: python -m medsgssl.methods.index"


def test_the_index_holds_every_method_and_file_of_the_package() -> None:
    current = current_index()
    assert STORED["files"] == current["files"]
    assert STORED["methods"].keys() == current["methods"].keys()
    assert list(method_index()) == sorted(method_index())
