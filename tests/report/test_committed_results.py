"""Pages of results that are committed: recomputed from the committed files, to the last digit."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from medsgssl.report.results_page import write_results
from medsgssl.study.plan import PLAN_FILE

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "docs" / "results"
# Pages that a script of benchmarks/ writes: the page, and the command's words before it.
WRITTEN = {
    "screen-96px.md": ("benchmarks.screen_page", RESULTS / "screen-96px"),
    "other-hospital.md": ("benchmarks.other_source", "page", RESULTS / "other-hospital"),
    "masks-downstream.md": ("benchmarks.mask_downstream", "page", RESULTS / "masks-downstream"),
}
STUDIES = sorted(path.parent for path in RESULTS.glob(f"*/{PLAN_FILE}"))


@pytest.mark.parametrize("study", STUDIES, ids=lambda path: path.name)
def test_a_page_is_what_its_files_give(study: Path, tmp_path: Path) -> None:
    again = write_results([study], tmp_path / "page.md").read_text(encoding="utf-8")
    assert again == study.with_suffix(".md").read_text(encoding="utf-8")


@pytest.mark.parametrize("page", WRITTEN)
def test_a_page_of_a_script_is_what_its_files_give(page: str, tmp_path: Path) -> None:
    again = tmp_path / "page.md"
    command = [sys.executable, "-m", *map(str, WRITTEN[page]), str(again)]
    subprocess.run(command, check=True, cwd=ROOT)
    assert again.read_text(encoding="utf-8") == (RESULTS / page).read_text(encoding="utf-8")


def test_the_front_page_quotes_the_results_word_by_word() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    answer = readme.split("<!-- answer: begin")[1].split("<!-- answer: end")[0]
    quoted = re.findall(r"^> (.+)$", answer, re.MULTILINE)
    pages = " ".join(path.with_suffix(".md").read_text(encoding="utf-8") for path in STUDIES)
    assert quoted
    for line in quoted:
        assert line in pages
