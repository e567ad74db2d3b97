"""Paired differences of where two arms look, over patients and seeds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from medsgssl.report.localization_tables import localization, localization_differences
from medsgssl.study.analysis import Analysis, analyze
from medsgssl.study.run_localization import BOXES_FILE, MEASURES
from medsgssl.study.study_localization import arm_localization, difference, estimate
from tests.study.synthetic import cohort, write_run


def _boxes(run: Path, patients: int, level: float, seed: int) -> None:
    """One box on the first test image of each of some patients."""
    table = cohort()
    test = table[table["split"] == "test"].drop_duplicates("patient_id").head(patients)
    rng = np.random.default_rng(seed)
    shared = np.random.default_rng(0).normal(0, 0.1, len(test))
    values = np.clip(level + shared + rng.normal(0, 0.02, len(test)), 0, 1)
    found = pd.DataFrame({"image_id": test["image_id"], "disease": "Mass"})
    for name in MEASURES:
        found[name] = values
    found.to_parquet(run / BOXES_FILE, index=False)


@pytest.fixture(scope="module")
def analysis(tmp_path_factory: pytest.TempPathFactory) -> Analysis:
    place = tmp_path_factory.mktemp("localized")
    folders = []
    for seed in range(3):
        for name, skill in (("simclr", 1.0), ("mask-channel", 1.2)):
            folders.append(place / f"{name}-{seed}")
            write_run(folders[-1], name, skill, seed=seed)
            _boxes(folders[-1], 40, 0.4 if name == "simclr" else 0.5, 10 * seed + len(name))
    return analyze(folders)


def test_paired_differences_are_narrower_than_the_arms(analysis: Analysis) -> None:
    (comparison,) = analysis.with_control()
    gain = difference(comparison, analysis.localized, "energy")
    own = estimate(analysis.localized[comparison.arm.key], "energy", analysis.bench)
    assert gain.interval is not None
    assert own.interval is not None
    assert gain.value == pytest.approx(0.1, abs=0.01)
    assert gain.interval[0] > 0.05
    assert gain.interval[1] - gain.interval[0] < 0.5 * (own.interval[1] - own.interval[0])
    assert gain.repeats == 3


def test_values_are_the_means_over_boxes_and_seeds(analysis: Analysis) -> None:
    row = next(row for row in localization(analysis).rows if row["arm"] == "simclr")
    arm = next(arm for arm in analysis.arms if arm.label == "simclr")
    tables = [pd.read_parquet(run.folder.path / BOXES_FILE) for run in arm.runs]
    wanted = np.mean([table["pointing"].mean() for table in tables])
    assert row["pointing"].value == pytest.approx(wanted)  # type: ignore[union-attr]
    assert (row["boxes"], row["patients"], row["runs"]) == (40, 40, 3)


def test_few_patients_with_boxes_are_described_alone(analysis: Analysis) -> None:
    for run in analysis.collected.runs:
        _boxes(run.folder.path, 19, 0.5, 0)
    localized = {
        arm.key: found
        for arm in analysis.arms
        if (found := arm_localization(arm, analysis.bench)) is not None
    }
    (comparison,) = analysis.with_control()
    gain = difference(comparison, localized, "pointing")
    assert gain.value == pytest.approx(0)
    assert gain.interval is None
    assert gain.p is None
    assert estimate(localized[comparison.arm.key], "pointing", analysis.bench).interval is None


def test_the_table_names_method_and_control(analysis: Analysis) -> None:
    (row,) = localization_differences(analysis).rows
    assert (row["arm"], row["against"]) == ("mask-channel", "simclr")
