"""The NIH release and its quirks."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from medsgssl.config.schema import DataSettings
from medsgssl.data.boxes import read_boxes
from medsgssl.data.labels import DISEASES
from medsgssl.data.readers.registry import find_source
from medsgssl.errors import DataError

HEADER = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]"
)
REST = ",2048,2500,0.171,0.171"
NAME = "Data_Entry_2017.csv"


def _write(root: Path, *lines: str, name: str = NAME, header: str = HEADER) -> Path:
    (root / name).write_text("\n".join([header, *lines]) + "\n")
    return root / name


def _image(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.full((16, 16), 9, np.uint8))


def _table(root: Path, *lines: str, header: str = HEADER) -> pd.DataFrame:
    _write(root, *lines, header=header)
    return find_source(root).rows().table


def test_commas_in_the_bracketed_headers_do_not_shift_columns(tmp_path: Path) -> None:
    row = _table(tmp_path, f"00000017_002.png,Hernia|Mass,2,17,058,F,AP{REST}").iloc[0]
    assert row[["patient_id", "age", "sex", "view_position", "follow_up"]].tolist() == [
        "17",
        58,
        "F",
        "AP",
        2,
    ]
    assert [name for name in DISEASES if row[name]] == ["Mass", "Hernia"]


def test_trailing_empty_column_of_older_copies_is_harmless(tmp_path: Path) -> None:
    row = _table(tmp_path, f"00000017_002.png,Hernia,2,17,58,F,AP{REST},", header=HEADER + ",")
    assert row.iloc[0][["image_id", "patient_id", "age"]].tolist() == ["00000017_002.png", "17", 58]


def test_ages_in_dicom_form_are_read_and_impossible_ones_are_set_missing(tmp_path: Path) -> None:
    # The last two are digits to Python, and no numbers to pandas.
    ages = ["058Y", "009M", "414", "unknown", "", "120", "\u0665\u0668", "5\u00b2"]
    _write(tmp_path, *(f"a{i}.png,Mass,0,{i},{age},M,PA{REST}" for i, age in enumerate(ages)))
    rows = find_source(tmp_path).rows()
    assert rows.table["age"].dtype == "Int16"
    assert rows.table["age"].fillna(-1).tolist() == [58, 0, -1, -1, -1, 120, -1, -1]
    assert rows.summary["ages_set_missing"] == 4


def test_no_finding_is_no_label(tmp_path: Path) -> None:
    table = _table(tmp_path, f"a.png,No Finding,0,1,50,M,PA{REST}")
    assert not table[list(DISEASES)].to_numpy().any()
    assert (table[list(DISEASES)].dtypes == "Int8").all()


@pytest.mark.parametrize("label", ["Infiltrate", "mass", " Mass", "Pleural Thickening", ""])
def test_unknown_label_is_an_error_naming_file_line_and_label(tmp_path: Path, label: str) -> None:
    good = f"a.png,Mass,0,1,50,M,PA{REST}"
    with pytest.raises(DataError, match="line 3") as caught:
        _table(tmp_path, good, f"b.png,Edema|{label},0,2,50,M,PA{REST}")
    assert repr(label) in caught.value.problem
    assert NAME in caught.value.problem


def test_a_finding_beside_no_finding_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="both a finding and none"):
        _table(tmp_path, f"a.png,No Finding|Mass,0,1,50,M,PA{REST}")


@pytest.mark.parametrize("name", ["../a.png", "/etc/a.png", "..", "x\\a.png", ""])
def test_names_may_not_leave_the_data_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match="not a plain file name"):
        _table(tmp_path, f"{name},Mass,0,1,50,M,PA{REST}")
    _write(tmp_path, f"a.png,Mass,0,1,50,M,PA{REST}")
    if name:
        (tmp_path / "test_list.txt").write_text(f"{name}\n")
        if name != "..":
            with pytest.raises(DataError, match=r"test_list\.txt holds the path"):
                find_source(tmp_path).rows()


def test_a_second_line_for_an_image_is_an_error(tmp_path: Path) -> None:
    line = f"a.png,Mass,0,1,50,M,PA{REST}"
    with pytest.raises(DataError, match=r"line 3.*second time"):
        _table(tmp_path, line, line)


def test_a_patient_that_does_not_fit_the_file_name_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not fit image"):
        _table(tmp_path, f"00000017_002.png,Mass,0,18,50,M,PA{REST}")


def test_images_are_found_in_every_layout(tmp_path: Path) -> None:
    places = ["images", "images_001/images", "images_012/images", "images_003", "."]
    names = [f"a{i}.png" for i in range(5)]
    for place, name in zip(places, names, strict=True):
        _image(tmp_path / place / name)
    lines = [f"{name},Mass,0,1,50,M,PA{REST}" for name in [*names, "absent.png"]]
    table = _table(tmp_path, *lines)
    paths = [(Path(place) / name).as_posix() for place, name in zip(places, names, strict=True)]
    assert table["path"].tolist() == [*paths, ""]


def test_label_revision_is_recorded_and_can_be_chosen(tmp_path: Path) -> None:
    for name in ("Data_Entry_2017_v2020.csv", NAME):
        _write(tmp_path, f"a.png,Mass,0,1,50,M,PA{REST}", name=name)
    assert find_source(tmp_path).rows().summary["label_revision"] == "2017"
    chosen = find_source(tmp_path, DataSettings(labels="Data_Entry_2017_v2020.csv"))
    assert chosen.rows().summary["label_revision"] == "v2020"
    with pytest.raises(DataError, match="does not exist"):
        find_source(tmp_path, DataSettings(labels="other.csv"))


def test_broken_tables_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no column 'Patient ID'"):
        _table(tmp_path, "a.png,Mass", header="Image Index,Finding Labels")
    with pytest.raises(DataError, match="no rows"):
        _table(tmp_path)
    (tmp_path / NAME).write_bytes(b"\xff\xfe\x00garbage")
    with pytest.raises(DataError, match="is in UTF-16"):
        find_source(tmp_path).rows()


def test_empty_list_file_is_an_error(tmp_path: Path) -> None:
    _write(tmp_path, f"a.png,Mass,0,1,50,M,PA{REST}")
    (tmp_path / "test_list.txt").write_text("\n \n")
    with pytest.raises(DataError, match=r"test_list\.txt is empty"):
        find_source(tmp_path).rows()


def test_boxes_are_read_past_their_broken_header(tmp_path: Path) -> None:
    path = tmp_path / "BBox_List_2017.csv"
    head = "Image Index,Finding Label,Bbox [x,y,w,h],,,\n"
    path.write_text(head + "a.png,Infiltrate,596.5,505,56,180.25,,,\n")
    box = read_boxes(path).iloc[0]
    assert box.to_dict() == {
        "image_id": "a.png",
        "disease": "Infiltration",
        "x": 596.5,
        "y": 505.0,
        "width": 56.0,
        "height": 180.25,
    }
    for bad in ("a.png,Rib,1,1,5,5", "a.png,Mass,1000,1,50,5", "a.png,Mass,1,1,0,5"):
        path.write_text(head + bad + "\n")
        with pytest.raises(DataError, match="line 2: no valid box"):
            read_boxes(path)
    path.write_text(head + "a.png,Mass,1,x,5,5\n")
    with pytest.raises(DataError, match="cannot be read"):
        read_boxes(path)


@pytest.mark.real
def test_real_tables_are_read(real_data: Path) -> None:
    rows = find_source(real_data / "nih128").rows()
    assert len(rows.table) == 7216
    assert rows.table["patient_id"].nunique() == 1812
    assert (rows.table["path"] != "").all()
    assert rows.table["Hernia"].sum() == 12
    assert rows.lists is not None
    assert {part: len(listed.image_ids) for part, listed in rows.lists.items()} == {
        "trainval": 5313,
        "test": 1903,
    }
    boxes = read_boxes(real_data / "nih128" / "BBox_List_2017.csv")
    assert set(boxes["disease"]) <= set(DISEASES)
