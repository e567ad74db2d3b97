"""The page in a real browser, where one is there."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest

from medsgssl.data.labels import DISEASES
from medsgssl.runs.folder import RunFolder

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-component-update",
    "--disable-background-networking",
    "--disable-sync",
    "--hide-scrollbars",
)

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on PATH")


def _browse(tmp_path: Path, address: str, *flags: str) -> str:
    assert CHROMIUM is not None
    profile = f"--user-data-dir={tmp_path / 'profile'}"
    found = subprocess.run(
        [CHROMIUM, *FLAGS, profile, *flags, address],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    return found.stdout


@pytest.mark.parametrize(("theme", "low", "high"), [("dark", 0, 60), ("light", 200, 255)])
def test_both_themes_are_drawn(
    finished: RunFolder, tmp_path: Path, theme: str, low: int, high: int
) -> None:
    shot = tmp_path / "shot.png"
    address = f"{finished.report.as_uri()}#{theme}"
    _browse(tmp_path, address, f"--screenshot={shot}", "--window-size=1000,1600")
    picture = cv2.imread(str(shot))
    assert picture is not None
    assert low <= np.median(picture) <= high
    # The network is out of reach and the script allowed: the page is not blank.
    assert picture.std() > 10


def test_script_runs_under_the_policy(finished: RunFolder, tmp_path: Path) -> None:
    tree = _browse(tmp_path, f"{finished.report.as_uri()}#dark", "--dump-dom")
    assert 'data-theme="dark"' in tree
    assert ">Light theme</button>" in tree


@pytest.mark.parametrize(("clicks", "order"), [(1, "descending"), (2, "ascending")])
def test_table_sorts_by_a_click(
    finished: RunFolder, tmp_path: Path, clicks: int, order: str
) -> None:
    # The policy admits the page's own script alone, so the copy that clicks goes without it.
    page = finished.report.read_text()
    start = page.index("<meta http-equiv")
    page = page[:start] + page[page.index(">", start) + 1 :]
    # The AUC has a text, not a number, where a disease is not defined.
    headings = re.findall(r"<th [^>]*><button[^>]*>([^<]*)</button>", page)
    column = next(n for n, heading in enumerate(headings) if heading.startswith("AUC"))
    click = f"document.querySelectorAll('th button')[{column}].click();" * clicks
    copy = tmp_path / "clicked.html"
    copy.write_text(page.replace("</body>", f"<script>{click}</script></body>"))
    tree = _browse(tmp_path, copy.as_uri(), "--dump-dom")
    body = tree[tree.index(f'aria-sort="{order}"') :].split("<tbody>")[1].split("</tbody>")[0]
    values = [row.split('data-value="')[column + 1].split('"')[0] for row in body.split("<tr>")[1:]]
    defined = [float(value) for value in values if value]
    assert len(defined) == len(DISEASES) - 1
    assert defined == sorted(defined, reverse=order == "descending")
    assert values[-1] == "", "an undefined disease stays last"
