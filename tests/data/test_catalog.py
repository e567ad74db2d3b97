"""Building, saving, reusing and auditing a catalog."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

from medsgssl.config.schema import DataSettings
from medsgssl.data.audit_table import audit_view, list_problems
from medsgssl.data.catalog import (
    CATALOG_FILE,
    FORMAT,
    Catalog,
    build_catalog,
    catalog_columns,
    dataset_cache,
    load_or_build,
)
from medsgssl.data.labels import NIH
from medsgssl.errors import ConfigError, DataError, LeakError

from .conftest import MakeSet, write_table


def _image(settings: DataSettings, patient: int, number: int = 0) -> Path:
    assert settings.root is not None
    return settings.root / "images" / f"{patient:08d}_{number:03d}.png"


def test_columns_and_types_are_those_of_the_contract(make_set: MakeSet) -> None:
    catalog = build_catalog(make_set())
    assert list(catalog.table.columns) == list(catalog_columns(NIH))
    for name, kind in catalog_columns(NIH).items():
        if kind != "str":
            assert str(catalog.table[name].dtype) == kind
        else:
            assert catalog.table[name].map(type).eq(str).all()
    assert catalog.summary["label_revision"] == "2017"
    assert catalog.summary["intensity"]
    assert catalog.summary["warnings"] == [
        line for line in catalog.summary["warnings"] if line.startswith("no usable")
    ]


def test_damaged_and_missing_images_stay_in_the_table_and_are_counted(make_set: MakeSet) -> None:
    settings = make_set()
    _image(settings, 1).unlink()
    cut = _image(settings, 2)
    cut.write_bytes(cut.read_bytes()[:-20])
    catalog = build_catalog(settings)
    rows = catalog.table.set_index("image_id")
    assert len(catalog.table) == 60
    assert len(catalog.usable()) == 58
    assert rows.loc["00000001_000.png", ["status", "path"]].tolist() == ["missing", ""]
    assert rows.loc["00000002_000.png", "status"] == "unreadable"
    assert "truncated" in rows.loc["00000002_000.png", "problem"]
    files = catalog.summary["files"]
    assert (files["missing"], files["unreadable"], files["usable"]) == (1, 1, 58)
    warnings = "\n".join(catalog.summary["warnings"])
    assert "1 of 60 images is missing: 00000001_000.png" in warnings
    assert "1 of 60 images cannot be read" in warnings


def test_damage_inside_a_png_is_found_when_contents_are_hashed(make_set: MakeSet) -> None:
    settings = make_set()
    path = _image(settings, 3)
    content = bytearray(path.read_bytes())
    content[60] ^= 0xFF
    path.write_bytes(content)
    assert build_catalog(settings).summary["files"]["unreadable"] == 0
    assert build_catalog(settings, hash_content=True).summary["files"]["unreadable"] == 1


def test_image_files_outside_the_table_are_reported(make_set: MakeSet) -> None:
    settings = make_set()
    shutil.copy(_image(settings, 1), _image(settings, 99))
    summary = build_catalog(settings).summary
    assert summary["files"]["not_in_table"] == 1
    assert summary["files"]["not_in_table_first"] == ["images/00000099_000.png"]
    assert any("not in the label table" in line for line in summary["warnings"])


def test_listed_images_outside_the_table_are_reported(make_set: MakeSet) -> None:
    settings = make_set()
    assert settings.root is not None
    with (settings.root / "test_list.txt").open("a") as stream:
        stream.write("\n00000099_000.png\n")
    summary = build_catalog(settings).summary
    assert summary["split"]["listed_without_row"] == 1
    assert any("1 listed image is" in line for line in summary["warnings"])


def test_copies_across_splits_are_found_by_content(make_set: MakeSet) -> None:
    settings = make_set()
    shutil.copy(_image(settings, 1), _image(settings, 30))
    summary = build_catalog(settings, hash_content=True).summary
    assert summary["duplicates"]["groups_across_splits"] == 1
    assert summary["duplicates"]["groups_across_patients"] == 1
    assert summary["duplicates"]["across_splits_first"] == ["00000001_000.png = 00000030_000.png"]
    assert any(line.startswith("LEAK") for line in summary["warnings"])


def test_many_images_of_one_content_are_counted_not_all_named() -> None:
    # Blank images are many in large sets: a list of all in the row of each is quadratic.
    count = 2000
    names = [f"{number:05d}" for number in range(count)]
    table = pd.DataFrame({"image_id": names, "path": names, "status": "ok", "problem": ""})
    table["patient_id"], table["split"] = names, "train"
    table["content_hash"] = "the same"
    catalog = Catalog(Path(), table, {})  # type: ignore[typeddict-item]
    problems = list_problems(catalog)
    assert len(problems) == count
    (reason,) = set(problems["reason"])
    shown = reason.partition(" and ")[0].split(" = ")
    assert reason == f"{' = '.join(names[: len(shown)])} and {count - len(shown):,} more"
    assert len(reason) < 200


def test_saved_catalog_comes_back_equal(make_set: MakeSet, tmp_path: Path) -> None:
    catalog = build_catalog(make_set(), hash_content=True)
    catalog.save(tmp_path / "c.parquet")
    again = Catalog.load(tmp_path / "c.parquet")
    pd.testing.assert_frame_equal(again.table, catalog.table)
    assert (again.root, again.summary) == (catalog.root, catalog.summary)
    assert again.fingerprint == catalog.fingerprint


def test_leak_is_found_on_load_too(make_set: MakeSet, tmp_path: Path) -> None:
    catalog = build_catalog(make_set())
    catalog.table.loc[0, "split"] = "test"
    catalog.save(tmp_path / "c.parquet")
    with pytest.raises(LeakError, match=r"1 patient has.*: 1"):
        Catalog.load(tmp_path / "c.parquet")


def test_damaged_catalog_is_named_on_load_and_replaced_on_build(make_set: MakeSet) -> None:
    settings = make_set()
    path = dataset_cache(settings) / CATALOG_FILE
    path.parent.mkdir(parents=True)
    path.write_bytes(b"PAR1 no more")
    with pytest.raises(DataError, match="is not a catalog") as caught:
        Catalog.load(path)
    assert str(path) in caught.value.problem
    load_or_build(settings)
    assert len(Catalog.load(path).table) == 60
    with pytest.raises(DataError, match="does not exist"):
        Catalog.load(path.with_name("absent.parquet"))


def test_a_catalog_of_an_earlier_version_is_built_again(make_set: MakeSet) -> None:
    settings = make_set()
    path = dataset_cache(settings) / CATALOG_FILE
    load_or_build(settings)
    table = pq.read_table(path)
    key = next(key for key in table.schema.metadata if b"medsgssl" in key)
    described = json.loads(table.schema.metadata[key])
    described |= {"format": FORMAT - 1, "facts": described.pop("summary")}
    metadata = table.schema.metadata | {key: json.dumps(described).encode()}
    pq.write_table(table.replace_schema_metadata(metadata), path)
    with pytest.raises(DataError, match=f"has format {FORMAT - 1}"):
        Catalog.load(path)
    assert load_or_build(settings).summary == described["facts"]


def test_catalog_is_reused_until_something_changes(
    make_set: MakeSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = make_set()
    first = load_or_build(settings)
    built: list[int] = []
    from medsgssl.data import catalog as build

    original = build.check_files

    def counted(*args: object, **kwargs: object) -> pd.DataFrame:
        built.append(1)
        return original(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(build, "check_files", counted)
    assert load_or_build(settings).fingerprint == first.fingerprint
    assert not built
    _image(settings, 4).unlink()
    assert load_or_build(settings).fingerprint != first.fingerprint
    assert len(built) == 1
    load_or_build(settings.model_copy(update={"split_seed": 1}))
    assert len(built) == 2
    load_or_build(settings.model_copy(update={"split_seed": 1, "batch_size": 7}))
    assert len(built) == 2
    load_or_build(settings.model_copy(update={"split_seed": 1}), hash_content=True)
    assert len(built) == 3
    assert settings.root is not None
    write_table(settings.root, [f"{p:08d}_{i:03d}.png" for p in range(1, 31) for i in range(2)])
    load_or_build(settings.model_copy(update={"split_seed": 1}))
    assert len(built) == 4


def test_fingerprint_follows_content_and_not_the_place(make_set: MakeSet, tmp_path: Path) -> None:
    settings = make_set()
    assert settings.root is not None
    here = build_catalog(settings)
    shutil.copytree(settings.root, tmp_path / "moved")
    moved = build_catalog(DataSettings(root=tmp_path / "moved"))
    assert moved.fingerprint == here.fingerprint
    assert moved.root != here.root
    names = [f"{p:08d}_{i:03d}.png" for p in range(1, 31) for i in range(2)]
    write_table(tmp_path / "moved", names)
    table = tmp_path / "moved" / "Data_Entry_2017.csv"
    table.write_text(table.read_text().replace("Effusion", "Edema", 1))
    assert build_catalog(DataSettings(root=tmp_path / "moved")).fingerprint != here.fingerprint


def test_part_of_a_split_without_images_is_an_error(make_set: MakeSet) -> None:
    settings = make_set(images=False)
    catalog = build_catalog(settings)
    assert catalog.summary["files"]["missing"] == 60
    with pytest.raises(DataError, match="none of the 20 images of the test split"):
        catalog.part("test")


def test_audit_can_be_printed(make_set: MakeSet) -> None:
    from rich.console import Console

    console = Console(record=True, width=100)
    console.print(audit_view(build_catalog(make_set(), hash_content=True).summary))
    text = console.export_text()
    assert "60 (60 usable" in text
    assert "Hernia" in text


def test_no_data_folder_is_an_error() -> None:
    with pytest.raises(ConfigError, match="no data folder"):
        build_catalog(DataSettings())


@pytest.mark.real
def test_full_release_without_its_images_is_counted_whole(real_data: Path, tmp_path: Path) -> None:
    packed = real_data / "nih_meta" / "Data_Entry_2017_v2020.csv.gz"
    (tmp_path / "Data_Entry_2017_v2020.csv").write_bytes(gzip.decompress(packed.read_bytes()))
    summary = build_catalog(DataSettings(root=tmp_path)).summary
    assert summary["label_revision"] == "v2020"
    assert summary["files"]["missing"] == summary["files"]["rows"] == 112_120
    assert {name: part["images"] for name, part in summary["splits"].items()} == {
        "train": 75_312,
        "val": 11_212,
        "test": 25_596,
    }
    assert summary["split"]["kind"] == "official"
    assert summary["split"]["validation"] == "bundled"
    assert summary["labels"]["Hernia"] == 227


@pytest.mark.real
def test_real_subset_is_whole(real_data: Path) -> None:
    catalog = build_catalog(DataSettings(root=real_data / "nih128"))
    assert len(catalog.usable()) == 7216
    assert catalog.summary["warnings"] == []
    assert catalog.summary["splits"]["test"]["images"] == 1903


def test_a_set_that_is_all_for_training_is_not_warned_of_rare_diseases(make_set: MakeSet) -> None:
    settings = make_set()
    split = build_catalog(settings).summary["warnings"]
    whole = build_catalog(settings.model_copy(update={"split": "train"}))
    assert any("no usable" in text for text in split)
    assert not any("no usable" in text for text in whole.summary["warnings"])
    assert set(whole.table["split"]) == {"train"}
