"""Folders of images without labels, and telling data sets apart."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from medsgssl.data.labels import NO_LABELS
from medsgssl.data.readers.registry import find_source
from medsgssl.errors import DataError


def _images(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(root / name), np.full((16, 16), 9, np.uint8))


def test_patients_are_told_by_the_file_names(tmp_path: Path) -> None:
    _images(tmp_path, "17_a.png", "17_b.png", "17/c.jpg", "MC_0001_0.png", "MC_0002_0.png", "x.png")
    _images(tmp_path, ".thumbnails/17_a.png")
    source = find_source(tmp_path)
    table = source.rows().table.set_index("image_id")
    assert source.name == "folder"
    assert table["patient_id"].to_dict() == {
        "17_a.png": "17",
        "17_b.png": "17",
        "17_c.jpg": "17",
        "MC_0001_0.png": "MC_0001",
        "MC_0002_0.png": "MC_0002",
        "x.png": "x",
    }
    assert table.loc["17_c.jpg", "path"] == "17/c.jpg"


def test_a_folder_says_that_it_has_no_labels(tmp_path: Path) -> None:
    _images(tmp_path, "a.png")
    rows = find_source(tmp_path).rows()
    assert rows.label_set == NO_LABELS
    assert rows.summary["label_revision"] == "none"


def test_two_files_with_one_id_are_an_error(tmp_path: Path) -> None:
    _images(tmp_path, "17/a.png", "17_a.png")
    with pytest.raises(DataError, match="one image id"):
        find_source(tmp_path).rows()


def test_folders_that_hold_no_data_set_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not a folder"):
        find_source(tmp_path / "absent")
    with pytest.raises(DataError, match="holds no images and no known label table"):
        find_source(tmp_path)
    (tmp_path / "test_list.txt").write_text("a.png\n")
    with pytest.raises(DataError, match="no label table"):
        find_source(tmp_path)
