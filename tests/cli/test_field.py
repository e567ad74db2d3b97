"""docs/field.md shows what its commands print."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from benchmarks.field import KINDS, Kind, place, section

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "field.md").read_text()


def shown(kind: Kind) -> str:
    found = re.search(rf"(?ms)^### {re.escape(kind.name)}\n.*?(?=^### |^<!-- end)", PAGE)
    assert found, kind.name
    return found.group().strip()


def test_every_kind_has_a_section_with_tests_that_exist() -> None:
    for kind in KINDS:
        assert kind.problem in shown(kind)
        assert kind.tests
        for test in kind.tests:
            assert (ROOT / test).is_file(), test


@pytest.mark.slow
def test_the_page_shows_what_the_commands_print() -> None:
    with place():
        for kind in KINDS:
            assert section(kind) == shown(kind), "run benchmarks/field.py docs/field.md"
