"""What the page shows of looks, decisions and reliability is what the files hold."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from medsgssl.evaluation.calibration import reliability
from medsgssl.report.calibration_section import arm_calibration_table, reliability_charts
from medsgssl.report.pictures import localization_examples
from medsgssl.report.study_tables import means
from medsgssl.study.analysis import Analysis, analyze
from medsgssl.study.run_localization import EXAMPLES_FILE
from medsgssl.study.statistics import PointEstimate
from medsgssl.utils.formatting import number
from medsgssl.utils.io import read_json
from tests.study.synthetic import write_run


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    place = tmp_path_factory.mktemp("shown")
    for seed, name in enumerate(("simclr", "guided-crop", "mask-channel")):
        write_run(place / name, name, 1.0 + 0.3 * seed, seed=0)
    return sorted(path for path in place.iterdir() if (path / "config.yaml").is_file())


@pytest.fixture(scope="module")
def analysis(folders: list[Path]) -> Analysis:
    return analyze(folders)


def looked(run: Path, image_id: str = "a.png", bright: int = 0) -> None:
    lungs, maps = np.zeros((1, 32, 32), bool), np.zeros((1, 32, 32), np.float16)
    lungs[:, 8:24, 8:24], maps[0, bright] = True, 1
    np.savez_compressed(
        run / EXAMPLES_FILE,
        image_ids=np.array([image_id]),
        diseases=np.array(["Pleural_Thickening"]),
        images=np.full((1, 32, 32), 90, np.uint8),
        lungs=lungs,
        boxes=np.array([[0.25, 0.5, 0.25, 0.125]]),
        maps=maps,
    )


def test_arms_are_shown_side_by_side_on_the_same_image(
    analysis: Analysis, folders: list[Path]
) -> None:
    for bright, run in enumerate(folders):
        looked(run, bright=8 * bright)
    (example,) = localization_examples(analysis.arms)
    labels = [arm.label for arm in analysis.arms]
    assert example.image_id == "Pleural Thickening"
    assert [picture.caption for picture in example.pictures] == ["image", *labels]
    assert len({picture.address for picture in example.pictures}) == 1 + len(labels)
    assert example.pictures[0].box == "M8.0 16.0h8.0v4.0h-8.0Z"


def test_an_arm_scored_on_other_images_is_left_out(analysis: Analysis, folders: list[Path]) -> None:
    for run in folders:
        looked(run)
    looked(analysis.arms[1].runs[0].folder.path, image_id="b.png")
    (example,) = localization_examples(analysis.arms)
    assert analysis.arms[1].label not in [picture.caption for picture in example.pictures]


def test_decisions_are_the_means_of_the_metrics_files(analysis: Analysis) -> None:
    rows = {row["arm"]: row for row in means(analysis).rows}
    for arm in analysis.arms:
        found = read_json(arm.runs[0].folder.metrics)["per_disease"].values()
        for key in ("f1", "precision", "recall", "specificity", "ece", "brier_calibrated"):
            assert rows[arm.label][key] == pytest.approx(np.mean([d[key] for d in found]))


def test_reliability_pools_diseases_and_scaling_lowers_the_error(analysis: Analysis) -> None:
    assert analysis.scaled
    charts = {chart.title: chart for chart in reliability_charts(analysis, 1.0)}
    for arm in analysis.arms:
        test = arm.runs[0].test
        bins = min(15, int(test.labels.sum()) // 20)
        error = reliability(test.labels.T.ravel(), test.scores.T.ravel(), bins).error()
        told = re.findall(r"0\.\d{3}", charts[arm.label].label)
        assert told[1] == number(error)
        assert float(told[0]) < error


def test_calibration_of_an_arm_is_the_mean_of_its_runs_files(analysis: Analysis) -> None:
    rows = {row["arm"]: row for row in arm_calibration_table(analysis).rows}
    for arm in analysis.arms:
        diseases = read_json(arm.runs[0].folder.metrics)["per_disease"].values()
        for key in ("brier_skill", "calibration_slope", "calibration_intercept"):
            cell = rows[arm.label][key]
            assert isinstance(cell, PointEstimate)
            assert cell.interval is not None
            wanted = np.mean([one[f"{key}_calibrated"] for one in diseases])
            assert cell.value == pytest.approx(wanted, abs=1e-5)
            ends = [one[f"{key}_calibrated_interval"] for one in diseases]
            widths = [high - low for low, high in ends]
            # Diseases share patients but hardly any noise: their mean is known better than each.
            assert cell.interval[1] - cell.interval[0] < min(widths)
