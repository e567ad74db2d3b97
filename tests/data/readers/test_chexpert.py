"""The CheXpert layout: paths, patients, views; labels are not read."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from medsgssl.config.schema import DataSettings
from medsgssl.data.catalog import build_catalog
from medsgssl.data.overlap import image_identity_keys
from medsgssl.data.readers.registry import find_source
from medsgssl.errors import DataError
from tests.data.readers.files import write_images, write_lines

HEADER = "Path,Sex,Age,Frontal/Lateral,AP/PA,No Finding,Cardiomegaly,Support Devices"
ROWS = (
    "CheXpert-v1.0-small/train/patient00001/study1/view1_frontal.jpg,Female,68,Frontal,AP,,1.0,-1.0",
    "CheXpert-v1.0-small/train/patient00002/study2/view1_frontal.jpg,Male,0,Frontal,PA,1.0,,",
    "CheXpert-v1.0-small/train/patient00002/study2/view2_lateral.jpg,Male,0,Lateral,,1.0,,",
)
VALID = "CheXpert-v1.0-small/valid/patient64541/study1/view1_frontal.jpg,Unknown,73,Frontal,AP,,,"


def chexpert(root: Path, rows: tuple[str, ...] = ROWS) -> Path:
    for name, lines in (("train.csv", rows), ("valid.csv", (VALID,))):
        (root / name).write_text("\n".join([HEADER, *lines]) + "\n")
        for line in lines:
            path = root / line.split(",")[0].partition("/")[2]
            path.parent.mkdir(parents=True, exist_ok=True)
            assert cv2.imwrite(str(path), np.full((16, 16), 9, np.uint8))
    return root


def test_tables_give_patients_views_and_paths(tmp_path: Path) -> None:
    source = find_source(chexpert(tmp_path))
    rows = source.rows()
    table = rows.table
    assert source.name == "chexpert"
    assert rows.label_set.names == ("No Finding", "Cardiomegaly", "Support Devices")
    assert rows.own_split is not None
    assert rows.own_split.tolist() == ["train", "train", "train", "test"]
    assert table["image_id"].tolist()[0] == "train_patient00001_study1_view1_frontal.jpg"
    assert table["path"].tolist()[3] == "valid/patient64541/study1/view1_frontal.jpg"
    assert table["patient_id"].tolist() == [
        "patient00001", "patient00002", "patient00002", "patient64541",
    ]  # fmt: skip
    assert table["view_position"].tolist() == ["AP", "PA", "LATERAL", "AP"]
    assert table["sex"].tolist() == ["F", "M", "M", ""]
    assert table["age"].tolist() == [68, 0, 0, 73]


@pytest.mark.parametrize(("uncertain", "value"), [("ignore", None), ("zeros", 0), ("ones", 1)])
def test_uncertain_labels_are_unknown_negative_or_positive_and_blank_ones_negative(
    tmp_path: Path, uncertain: str, value: int | None
) -> None:
    settings = DataSettings(root=chexpert(tmp_path), uncertain=uncertain)
    rows = find_source(tmp_path, settings).rows()
    devices = rows.table["Support Devices"]
    assert (None if pd.isna(devices[0]) else devices[0]) == value
    assert devices[1:].tolist() == [0, 0, 0]
    assert rows.table["Cardiomegaly"].tolist() == [1, 0, 0, 0]
    assert rows.label_set.uncertain == (uncertain == "ignore")


def test_lateral_views_are_set_aside_and_counted(tmp_path: Path) -> None:
    settings = DataSettings(root=chexpert(tmp_path), split="train")
    catalog = build_catalog(settings)
    assert catalog.table["status"].tolist() == ["ok", "ok", "lateral", "ok"]
    assert catalog.summary["files"]["lateral"] == 1
    assert any("lateral" in text for text in catalog.summary["warnings"])
    assert set(catalog.table["split"]) == {"train"}


def test_images_are_told_apart_though_their_files_are_called_alike(tmp_path: Path) -> None:
    table = build_catalog(DataSettings(root=chexpert(tmp_path), split="train")).table
    assert image_identity_keys(table)["name"].is_unique


def test_a_missing_image_stays_in_the_catalog(tmp_path: Path) -> None:
    root = chexpert(tmp_path)
    (root / "train/patient00001/study1/view1_frontal.jpg").unlink()
    catalog = build_catalog(DataSettings(root=root, split="train"))
    assert catalog.table["status"].tolist()[0] == "missing"


@pytest.mark.parametrize(
    "path", ["train/../../secret/study1/view1.jpg", "/etc/passwd", "train/view1.jpg", ""]
)
def test_a_path_outside_the_layout_is_an_error_that_names_the_line(
    tmp_path: Path, path: str
) -> None:
    root = chexpert(tmp_path)
    (root / "train.csv").write_text(f"{HEADER}\n{ROWS[0]}\n{path},Male,3,Frontal,AP,,,\n")
    with pytest.raises(DataError, match=r"train\.csv, line 3"):
        find_source(root).rows()


def test_a_table_without_the_layouts_columns_is_no_chexpert(tmp_path: Path) -> None:
    root = chexpert(tmp_path)
    for name in ("train.csv", "valid.csv"):
        (root / name).write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match=r"holds the table train.csv \(its columns: a, b\)"):
        find_source(root)
    assert find_source(root, DataSettings(labels="none")).name == "folder"


def test_files_called_alike_in_a_plain_folder_are_told_apart(tmp_path: Path) -> None:
    for patient in (1, 2):
        (tmp_path / str(patient)).mkdir()
        assert cv2.imwrite(str(tmp_path / f"{patient}/frontal.png"), np.full((16, 16), 9, np.uint8))
    table = build_catalog(DataSettings(root=tmp_path, split="train")).table
    assert image_identity_keys(table)["name"].tolist() == ["1_frontal", "2_frontal"]


def test_patients_are_known_by_names_of_nih_in_any_folder(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for name in ("00000013_006.png", "00000013_007_small.jpg", "scan-7.png"):
        assert cv2.imwrite(str(tmp_path / "images" / name), np.full((16, 16), 9, np.uint8))
    table = build_catalog(DataSettings(root=tmp_path, split="train")).table
    assert image_identity_keys(table)["patient"].tolist() == ["nih 00000013", "nih 00000013", ""]


def test_a_release_in_a_folder_below_is_pointed_at(tmp_path: Path) -> None:
    below = tmp_path / "CheXpert-v1.0"
    below.mkdir()
    chexpert(below)
    with pytest.raises(DataError, match=r"CheXpert-v1\.0 below it holds the tables") as caught:
        find_source(tmp_path)
    assert str(below) in caught.value.fix
    assert find_source(below).name == "chexpert"
    assert find_source(tmp_path, DataSettings(labels="none")).name == "folder"


def test_unknown_tables_in_folders_below_are_mentioned(tmp_path: Path) -> None:
    write_images(tmp_path, "a.png")
    write_lines(tmp_path / "more" / "notes.csv", ["when,what", "1,2"])
    facts = find_source(tmp_path).rows().summary
    assert "not read" in facts["remarks"][0]
