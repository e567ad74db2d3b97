"""Published layouts, as miniatures in their exact form."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from medsgssl.config.schema import DataSettings
from medsgssl.data.catalog import build_catalog
from medsgssl.data.labels import NIH, label_array
from medsgssl.data.readers.registry import find_source
from medsgssl.errors import DataError
from medsgssl.images.reading import read_image
from tests.data.readers.files import write_images, write_lines


def mimic(root: Path) -> Path:
    studies, images, splits = [], [], []
    for n in range(8):
        subject, study, dicom = 10000032 + n // 2, 50414267 + n, f"{n:08x}-aaaa-bbbb"
        folder = f"files/p{str(subject)[:2]}/p{subject}/s{study}"
        write_images(root, f"{folder}/{dicom}.jpg")
        labels = ["1.0", "-1.0", ""] if n % 2 else ["0.0", "1.0", "1.0"]
        studies.append(",".join([str(subject), str(study), *labels]))
        view = "LATERAL" if n == 7 else ("AP", "PA")[n % 2]
        images.append(f"{dicom},{subject},{study},CHEST (PA AND LAT),{view},3056,2544")
        part = "train" if n < 4 else ("validate" if n < 6 else "test")
        splits.append(f"{dicom},{study},{subject},{part}")
    write_lines(root / "mimic-cxr-2.0.0-metadata.csv", [
        "dicom_id,subject_id,study_id,PerformedProcedureStepDescription,ViewPosition,Rows,Columns",
        *images,
    ])  # fmt: skip
    header = "subject_id,study_id,Atelectasis,Edema,No Finding"
    with gzip.open(root / "mimic-cxr-2.0.0-chexpert.csv.gz", "wt") as stream:
        stream.write("\n".join([header, *studies]) + "\n")
    write_lines(root / "mimic-cxr-2.0.0-split.csv", ["dicom_id,study_id,subject_id,split", *splits])
    return root


def test_mimic_joins_studies_views_and_its_own_split(tmp_path: Path) -> None:
    catalog = build_catalog(DataSettings(root=mimic(tmp_path)))
    table = catalog.table
    assert catalog.summary["source"] == "mimic-cxr-jpg"
    assert catalog.label_set.names == ("No Finding", "Edema", "Atelectasis")
    assert table["patient_id"].nunique() == 4
    assert table["split"].tolist() == ["train"] * 4 + ["val"] * 2 + ["test"] * 2
    assert table["status"].tolist() == ["ok"] * 7 + ["lateral"]
    assert table["Edema"].isna().tolist() == [False, True] * 4
    assert table["No Finding"].tolist() == [1, 0] * 4
    (tmp_path / "mimic-cxr-2.0.0-metadata.csv").unlink()
    with pytest.raises(DataError, match=r"no mimic-cxr-2\.0\.0-metadata\.csv"):
        find_source(tmp_path)


def test_padchest_reads_lists_of_labels_and_its_patients(tmp_path: Path) -> None:
    header = (
        "ImageID,ImageDir,StudyDate_DICOM,PatientID,PatientBirth,PatientSex_DICOM,"
        "ViewPosition_DICOM,Projection,Labels"
    )
    labels = [
        "['normal']",
        "['pleural effusion', 'nodule']",
        "['nodule', 'unchanged']",
        "['exclude']",
    ]
    lines = []
    for n in range(12):
        name = f"{2168401113669640122832938341520 + n}_00-105-{n:03d}.png"
        write_images(tmp_path, f"{n % 2}/{name}")
        lines.append(f"{name},{n % 2},20140915,pat{n // 2},1941.0,M,,{'PA' if n else 'L'},"
                     f'"{labels[n % 4]}"')  # fmt: skip
    write_lines(tmp_path / "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv", [header, *lines])
    rows = find_source(tmp_path).rows()
    assert rows.label_set.names == ("nodule", "pleural effusion")
    assert rows.label_set.negative == "normal"
    assert rows.table["patient_id"].nunique() == 6
    assert rows.table["age"].unique().tolist() == [73]
    assert rows.table["view_position"].tolist()[:2] == ["LATERAL", "PA"]
    assert rows.table["nodule"].isna().tolist() == [False, False, False, True] * 3
    chosen = find_source(tmp_path, DataSettings(classes=("pleural effusion",))).rows()
    assert chosen.label_set.names == ("pleural effusion",)
    with pytest.raises(DataError, match="has no label gout"):
        find_source(tmp_path, DataSettings(classes=("gout",))).rows()


@pytest.mark.parametrize("boxes", [False, True])
def test_vindr_takes_what_most_radiologists_say(tmp_path: Path, boxes: bool) -> None:
    names = [f"{n:032x}" for n in range(3)]
    write_images(tmp_path, *(f"train/{name}.png" for name in names))
    votes = {0: (1, 1, 0), 1: (1, 0, 0), 2: (0, 0, 0)}
    lines = []
    for n, marks in votes.items():
        for reader, mark in enumerate(marks):
            if boxes:
                finding = ("Nodule/Mass", 8) if mark else ("No finding", 14)
                lines.append(f"{names[n]},{finding[0]},{finding[1]},R{reader},1,2,3,4")
            else:
                lines.append(f"{names[n]},R{reader},{mark},{1 - mark}")
    if boxes:
        header = "image_id,class_name,class_id,rad_id,x_min,y_min,x_max,y_max"
        write_lines(tmp_path / "train.csv", [header, *lines])
    else:
        header = "image_id,rad_id,Nodule/Mass,No finding"
        write_lines(tmp_path / "annotations/image_labels_train.csv", [header, *lines])
    rows = find_source(tmp_path).rows()
    assert rows.label_set.names == ("Nodule/Mass",)
    found = dict(zip(rows.table["image_id"], rows.table["Nodule/Mass"], strict=True))
    assert found == {names[0]: 1, names[1]: 0, names[2]: 0}
    assert rows.table["path"].str.startswith("train/").all()


def test_rsna_is_positive_where_any_box_is(tmp_path: Path) -> None:
    write_images(tmp_path, "stage_2_train_images/a.png", "stage_2_train_images/b.png")
    lines = ["patientId,x,y,width,height,Target", "a,1,2,3,4,1", "a,5,6,7,8,1", "b,,,,,0"]
    write_lines(tmp_path / "stage_2_train_labels.csv", lines)
    rows = find_source(tmp_path).rows()
    assert rows.table[["image_id", "patient_id", "Pneumonia"]].to_numpy().tolist() == [
        ["a", "a", 1],
        ["b", "b", 0],
    ]


def test_folders_of_classes_keep_their_own_splits(tmp_path: Path) -> None:
    for split, first in (("train", 0), ("val", 100), ("test", 200)):
        for n in range(6):
            write_images(tmp_path, f"chest_xray/{split}/NORMAL/IM-{first + n:04d}-0001.jpeg")
            write_images(tmp_path, f"chest_xray/{split}/PNEUMONIA/person{first + n}_virus_{n}.jpeg")
    write_images(tmp_path, "chest_xray/train/PNEUMONIA/._person1_virus_1.jpeg")
    catalog = build_catalog(DataSettings(root=tmp_path))
    assert catalog.label_set.names == ("PNEUMONIA",)
    assert catalog.label_set.negative == "NORMAL"
    assert catalog.summary["split"]["kind"] == "own"
    assert catalog.summary["splits"]["test"]["positives"] == {"PNEUMONIA": 6}
    assert catalog.summary["labels"] == {"PNEUMONIA": 18, "NORMAL": 18}


def test_patients_of_own_splits_are_kept_apart_with_a_word(tmp_path: Path) -> None:
    for split in ("train", "val", "test"):
        write_images(tmp_path, f"{split}/NORMAL/1.png", f"{split}/TB/2.png")
    catalog = build_catalog(DataSettings(root=tmp_path))
    assert catalog.table["patient_id"].nunique() == 6
    assert any("2 patients by name are in more than one" in w for w in catalog.summary["warnings"])


def test_folders_are_classes_only_where_that_is_plain_or_asked_for(tmp_path: Path) -> None:
    write_images(tmp_path, *(f"{name}/{n}.png" for name in ("here", "there") for n in range(3)))
    assert find_source(tmp_path).name == "folder"
    rows = find_source(tmp_path, DataSettings(labels="folders")).rows()
    assert rows.label_set.names == ("here", "there")
    assert rows.table["here"].sum() == 3


def test_an_archive_of_medmnist_gives_pixels_and_its_own_split(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    arrays = {}
    for part, count in (("train", 6), ("val", 3), ("test", 4)):
        arrays[f"{part}_images"] = rng.integers(0, 256, (count, 28, 28)).astype(np.uint8)
        arrays[f"{part}_labels"] = rng.integers(0, 2, (count, len(NIH)))
    np.savez_compressed(tmp_path / "chestmnist.npz", **arrays)
    settings = DataSettings(root=tmp_path, cache_dir=tmp_path / "cache")
    catalog = build_catalog(settings)
    table = catalog.table
    assert catalog.summary["source"] == "medmnist"
    assert catalog.label_set.names == NIH.names
    assert (table["status"] == "ok").all()
    assert table["split"].value_counts().to_dict() == {"train": 6, "test": 4, "val": 3}
    row = table[table["image_id"] == "val_000001.png"].iloc[0]
    np.testing.assert_array_equal(read_image(catalog.root / row["path"]), arrays["val_images"][1])
    np.testing.assert_array_equal(
        label_array(table, NIH.names)[6:9], arrays["val_labels"].astype(np.float32)
    )
    np.savez_compressed(tmp_path / "chestmnist_64.npz", **arrays)
    with pytest.raises(DataError, match="several archives: chestmnist"):
        find_source(tmp_path)
    assert find_source(tmp_path, DataSettings(labels="chestmnist.npz")).name == "medmnist"


def test_unknown_labels_are_nan_in_arrays_and_zero_in_no_count(tmp_path: Path) -> None:
    table = pd.DataFrame({"a": pd.array([0, 1, pd.NA], dtype="Int8")})
    assert str(label_array(table, ["a"]).ravel().tolist()) == "[0.0, 1.0, nan]"
