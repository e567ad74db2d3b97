"""The leave-one-out table."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from medsgssl.report.study_page import write_study_report
from tests.study.synthetic import write_run

METHOD = "adaptive-pathology"


def test_the_table_says_what_each_part_brings_with_its_correction(tmp_path: Path) -> None:
    less = {"weighting": {"weighted": False}, "pooling": {"lambda_salient": 0.0}}
    runs = []
    for seed in range(3):
        runs.append(write_run(tmp_path / f"full-{seed}", METHOD, 1.5, seed))
        runs.append(write_run(tmp_path / f"c-{seed}", "simclr", 1.0, seed))
        for number, (part, settings) in enumerate(less.items()):
            folder = tmp_path / f"{part}-{seed}"
            skill = 0.9 + 0.3 * number
            runs.append(write_run(folder, METHOD, skill, seed, settings={"method": settings}))
    page = write_study_report([run.path for run in runs], tmp_path / "out")
    table = pd.read_csv(tmp_path / "out" / "parts.csv").set_index("without")
    assert set(table.index) == set(less)
    assert (table["method"] == METHOD).all()
    difference = table["auc_whole"] - table["auc"]
    assert table["difference"].to_numpy() == pytest.approx(difference.to_numpy())
    assert table.loc["weighting", "difference"] > table.loc["pooling", "difference"] > 0
    assert (table["p_holm"] >= table["p"]).all()
    assert "What each component brings" in page.read_text()
    assert (tmp_path / "out" / "parts.tex").is_file()


def test_without_an_ablation_the_page_has_no_such_section(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / "a", METHOD, 1.5), write_run(tmp_path / "c", "simclr", 1.0)]
    page = write_study_report([run.path for run in runs], tmp_path / "out")
    assert "What each component brings" not in page.read_text()
