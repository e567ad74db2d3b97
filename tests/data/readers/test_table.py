"""Plain tables with classes of one's own."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from medsgssl.config.schema import DataSettings
from medsgssl.data.catalog import build_catalog
from medsgssl.data.readers.registry import find_source
from medsgssl.errors import ConfigError, DataError
from tests.data.readers.files import write_images, write_lines

HEADER = "image,patient,Pleural effusion,Tube,Opacity"


def rows_of(root: Path, *lines: str, header: str = HEADER, **settings: object) -> pd.DataFrame:
    write_lines(root / "labels.csv", [header, *lines])
    found = find_source(root, DataSettings(labels="labels.csv", **settings))  # type: ignore[arg-type]
    assert found.name == "table"
    return found.rows().table


def test_images_are_found_by_name_anywhere_by_stem_and_by_path(tmp_path: Path) -> None:
    write_images(tmp_path, "deep/er/a.png", "b.png", "x/c.png", "y/c.png", "masks/a.png")
    table = rows_of(
        tmp_path, "a.png,1,0,1,0", "b,Anna,1,0,0", "x/c.png,3,0,0,1", "gone.png,4,0,0,0"
    )
    assert table["path"].tolist() == ["deep/er/a.png", "b.png", "x/c.png", ""]
    assert table["image_id"].tolist()[2:] == ["x_c.png", "gone.png"]
    assert table["patient_id"].tolist() == ["1", "Anna", "3", "4"]
    assert table["Tube"].tolist() == [1, 0, 0, 0]
    with pytest.raises(DataError, match=r"line 3: 'c.png' is the name of 2 files: x/c.png, "):
        rows_of(tmp_path, "a.png,1,0,1,0", "c.png,1,0,0,0")


def test_unknown_labels_are_missing_and_counted(tmp_path: Path) -> None:
    names = [f"{p:02d}_{i}.png" for p in range(12) for i in range(2)]
    write_images(tmp_path, *names)
    values = ["", "-1", "uncertain", "nan"]
    lines = [f"{n},{n[:2]},{k % 2},{(k // 2) % 2},{values[k % 4] if k < 6 else k % 2}"
             for k, n in enumerate(names)]  # fmt: skip
    write_lines(tmp_path / "labels.csv", [HEADER, *lines])
    settings = DataSettings(root=tmp_path, labels="labels.csv", split="random")
    catalog = build_catalog(settings)
    assert catalog.label_set.uncertain
    assert catalog.summary["unknown_labels"] == {"Opacity": 6}
    zeros = build_catalog(settings.model_copy(update={"uncertain": "zeros"}))
    # A blank cell stays unknown: nobody said that it is uncertain.
    assert zeros.summary["unknown_labels"] == {"Opacity": 3}
    assert catalog.fingerprint != zeros.fingerprint


def test_an_absolute_path_of_the_table_is_read_and_shown(tmp_path: Path) -> None:
    write_images(tmp_path / "data", "a.png")
    path = write_lines(tmp_path / "elsewhere/t.csv", [HEADER, "a.png,1,0,1,0"])
    summary = find_source(tmp_path / "data", DataSettings(labels=str(path))).rows().summary
    assert summary["labels_file"] == str(path)


def test_column_settings_and_usual_names(tmp_path: Path) -> None:
    write_images(tmp_path, "a.png", "b.png")
    header = "Image Index,who,Subject_ID,PatientSex,Patient Age,ViewPosition,site,TB"
    lines = ("a.png,p1,s1,F,61,PA,north,1", "b.png,p2,s1,male,x,AP,south,0")
    table = rows_of(tmp_path, *lines, header=header)
    assert table["patient_id"].tolist() == ["s1", "s1"]
    assert table["sex"].tolist() == ["F", "M"]
    assert table["view_position"].tolist() == ["PA", "AP"]
    assert table["age"].tolist() == [61, pd.NA]
    table = rows_of(tmp_path, *lines, header=header, patient_column="who")
    assert table["patient_id"].tolist() == ["p1", "p2"]
    found = find_source(tmp_path, DataSettings(labels="labels.csv")).rows()
    assert found.summary["columns"]["not_understood"] == {"age": 1}
    assert found.summary["columns"]["not_used"] == ["who", "site"]
    assert found.label_set.names == ("TB",)
    for settings in ({"image_column": "file"}, {"patient_column": "me"}, {"classes": ("Cat",)}):
        with pytest.raises(ConfigError, match=r"labels\.csv"):
            rows_of(tmp_path, *lines, header=header, **settings)


def test_without_a_patient_column_the_rule_is_told_and_can_be_set(tmp_path: Path) -> None:
    write_images(tmp_path, "siteA-007-1.png", "siteB-007-2.png")
    lines = ("siteA-007-1.png,1", "siteB-007-2.png,0")
    table = rows_of(tmp_path, *lines, header="image,TB", patient_pattern=r"-(\d+)-")
    assert table["patient_id"].tolist() == ["007", "007"]
    summary = find_source(tmp_path, DataSettings(labels="labels.csv")).rows().summary
    assert "no column of patients" in summary["remarks"][0]
    with pytest.raises(DataError, match="finds no patient in"):
        rows_of(tmp_path, *lines, header="image,TB", patient_pattern="x9")
    with pytest.raises(ConfigError, match="not a regular expression"):
        rows_of(tmp_path, *lines, header="image,TB", patient_pattern="(")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "image,patient,TB\n\n\na.png,1,maybe\n" + "a.png,1,0\n" * 12,
            "line 4: 'maybe'",
        ),
        ("image;patient;TB\na.png;1;1\n", "separates its columns by semicolons"),
        ("image,patient,TB\n\na.png,1,1\n\n\na.png,1,1\n", "line 6: 'a.png' occurs a second time"),
        ("image,patient,TB\na.png,,1\n", "line 2: no patient"),
        ("image,patient,TB\n../a.png,1,1\n", "line 2: '../a.png' is not an image below"),
        ("image,patient,TB\na.png,1,1,7\n", "line 2: 4 cells under 3 columns"),
        ("name,patient,TB\na.png,1,1\n", "no column of images; it has name, patient, TB"),
        ("image,patient,note\na.png,1,fine\n", "no column of labels"),
        ("image,patient,path,split\na.png,1,a,1\n", "no column of labels"),
        ("image,patient,TB,TB\na.png,1,1,0\n", "column 'TB' twice"),
        ("image,patient,TB\n", "has no rows"),
    ],
)
def test_mistakes_name_the_line_with_blank_lines_counted(
    tmp_path: Path, text: str, message: str
) -> None:
    write_images(tmp_path, "a.png")
    (tmp_path / "labels.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        find_source(tmp_path, DataSettings(labels="labels.csv")).rows()


def test_a_class_may_not_take_the_name_of_a_catalog_column(tmp_path: Path) -> None:
    write_images(tmp_path, "1.png", "2.png", "3.png", "4.png")
    lines = [f"{n}.png,{n},{n % 2}" for n in range(1, 5)]
    write_lines(tmp_path / "labels.csv", ["image,patient,status", *lines])
    with pytest.raises(DataError, match="'status', which is the name of another column"):
        build_catalog(DataSettings(root=tmp_path, labels="labels.csv", split="random"))


def test_a_split_column_is_the_data_sets_own_split(tmp_path: Path) -> None:
    names = [f"{p}.png" for p in range(6)]
    write_images(tmp_path, *names)
    parts = ["train", "train", "Valid", "val", "test", "test"]
    lines = [f"{n},{n[0]},{int(n[0]) % 2},{part}" for n, part in zip(names, parts, strict=True)]
    write_lines(tmp_path / "labels.csv", ["image,patient,TB,split", *lines])
    catalog = build_catalog(DataSettings(root=tmp_path, labels="labels.csv"))
    assert catalog.table["split"].tolist() == ["train", "train", "val", "val", "test", "test"]
    assert catalog.summary["split"]["kind"] == "own"


def test_a_table_that_is_there_and_not_known_is_an_error_and_never_passed_over(
    tmp_path: Path,
) -> None:
    write_images(tmp_path, "a.png")
    write_lines(tmp_path / "findings.csv", ["x,y", "1,2"])
    with pytest.raises(DataError, match=r"findings.csv \(its columns: x, y\)"):
        find_source(tmp_path)
    assert find_source(tmp_path, DataSettings(labels="none")).name == "folder"


def test_a_named_table_in_the_columns_of_nih_is_read_as_nih(tmp_path: Path) -> None:
    write_images(tmp_path, "images/00000001_000.png")
    row = "00000001_000.png,Mass|Effusion,0,1,58,M,PA"
    header = (
        "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Sex,View Position"
    )
    write_lines(tmp_path / "mine.csv", [header, row])
    source = find_source(tmp_path, DataSettings(labels="mine.csv"))
    assert source.name == "nih"
    table = source.rows().table
    assert table[["Mass", "Effusion", "Hernia"]].iloc[0].tolist() == [1, 1, 0]
    assert table["sex"].tolist() == ["M"]


def test_patient_columns_are_known_without_a_space_too(tmp_path: Path) -> None:
    write_images(tmp_path, "a.png", "b.png")
    table = rows_of(tmp_path, "a.png,7,1", "b.png,7,0", header="filename,patientid,Effusion")
    assert table["patient_id"].tolist() == ["7", "7"]


def test_a_column_of_names_is_sent_to_what_makes_labels_of_it(tmp_path: Path) -> None:
    write_images(tmp_path, "a.png")
    with pytest.raises(DataError, match="no column of labels") as caught:
        rows_of(tmp_path, "a.png,7,Effusion|Mass", header="image,patient,finding")
    assert "get_dummies" in caught.value.fix


def test_identical_images_of_different_labels_are_named(tmp_path: Path) -> None:
    write_images(tmp_path, *(f"{n}.png" for n in range(6)))
    (tmp_path / "5.png").write_bytes((tmp_path / "4.png").read_bytes())
    lines = [f"{n}.png,{n},{n % 2}" for n in range(6)]
    write_lines(tmp_path / "labels.csv", ["image,patient,Effusion", *lines])
    settings = DataSettings(root=tmp_path, labels="labels.csv", split="train")
    facts = build_catalog(settings, hash_content=True).summary
    assert facts["duplicates"] is not None
    assert facts["duplicates"]["other_labels_first"] == ["4.png = 5.png"]
    assert any("different labels: 4.png = 5.png" in line for line in facts["warnings"])
