"""Pages of results that are committed: recomputed from the committed files, to the last digit."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from medsgssl.report.results_page import write_results
from medsgssl.study.plan import PLAN_FILE

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "docs" / "results"
STUDIES = sorted(path.parent for path in RESULTS.glob(f"*/{PLAN_FILE}"))


@pytest.mark.parametrize("study", STUDIES, ids=lambda path: path.name)
def test_a_page_is_what_its_files_give(study: Path, tmp_path: Path) -> None:
    again = write_results([study], tmp_path / "page.md").read_text(encoding="utf-8")
    assert again == study.with_suffix(".md").read_text(encoding="utf-8")


def test_the_front_page_quotes_the_results_word_by_word() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    answer = readme.split("<!-- answer: begin")[1].split("<!-- answer: end")[0]
    quoted = re.findall(r"^> (.+)$", answer, re.MULTILINE)
    pages = " ".join(path.with_suffix(".md").read_text(encoding="utf-8") for path in STUDIES)
    assert quoted
    for line in quoted:
        assert line in pages
