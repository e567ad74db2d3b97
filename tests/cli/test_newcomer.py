"""Mistakes of the first hour get what the page says, before any work."""

from __future__ import annotations

from pathlib import Path

from benchmarks.newcomer import MISTAKES, cells, place

PAGE = Path(__file__).parents[2] / "docs" / "newcomer.md"
TYPED, ANSWER, STATUS = 1, 2, 3


def test_every_mistake_gets_what_the_page_says_and_writes_nothing() -> None:
    lines = [line.strip("| ").split(" | ") for line in PAGE.read_text().splitlines()]
    page = {line[TYPED]: line for line in lines if len(line) == 4}
    assert len(MISTAKES) >= 25
    with place():
        before = _files()
        for mistake in MISTAKES:
            found = cells(mistake)
            written = page[found[TYPED]]
            # What an error advises lists methods and options, which come and go.
            problem, fix, _ = (found[ANSWER] + "<br>Fix:").split("<br>Fix:", 2)
            assert problem == written[ANSWER].split("<br>Fix:")[0], "run benchmarks/newcomer.py"
            assert fix.strip(), mistake
            assert found[STATUS] == written[STATUS] == "2"
        assert _files() == before


def _files() -> set[Path]:
    """Every file and folder but caches."""
    return {path for path in Path().rglob("*") if "cache" not in path.parts}
