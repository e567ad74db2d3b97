"""What is found below a data folder, who the patients are, and what other packages can add."""

from __future__ import annotations

import importlib.metadata
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from medsgssl.config.schema import DataSettings
from medsgssl.data.audit_table import audit_view
from medsgssl.data.catalog import build_catalog
from medsgssl.data.readers import registry
from medsgssl.data.readers.patients import patients_of_paths
from medsgssl.data.readers.scan import scan_folder
from medsgssl.errors import DataError
from tests.data.readers.files import write_images, write_lines


def test_links_are_followed_and_loops_are_not(tmp_path: Path) -> None:
    write_images(tmp_path / "store", "a.png", "sub/b.png")
    data = tmp_path / "data"
    write_images(data, "here/c.png")
    (data / "there").symlink_to(tmp_path / "store")
    (tmp_path / "store/back").symlink_to(tmp_path / "store")
    (data / "here/up").symlink_to(data)
    (data / "broken.png").symlink_to(tmp_path / "absent.png")
    found = scan_folder(data)
    assert [file.path for file in found.images] == ["here/c.png", "there/a.png", "there/sub/b.png"]
    assert found.skipped == {
        "a link to a file that does not exist": ["broken.png"],
        "a link to a folder above it": ["here/up", "there/back"],
    }


def test_no_folder_is_read_twice_and_the_catalog_names_the_links(tmp_path: Path) -> None:
    write_images(tmp_path / "store", "a.png", "sub/b.png")
    data = tmp_path / "data"
    write_images(data, "real/c.png")
    # By their names these come before what they lead to.
    (data / "again").symlink_to(data / "real")
    (data / "one").symlink_to(tmp_path / "store" / "sub")
    (data / "three").symlink_to(tmp_path / "store")
    (data / "two").symlink_to(tmp_path / "store")
    found = scan_folder(data)
    assert [file.path for file in found.images] == ["one/b.png", "real/c.png", "three/a.png"]
    assert found.links == ("one", "three")
    assert found.skipped == {
        "a link to a folder that is read already": ["again", "two"],
        "a folder that is read already": ["three/sub"],
    }
    summary = build_catalog(DataSettings(root=data, split="train")).summary
    console = Console(record=True, width=200)
    console.print(audit_view(summary))
    assert re.search(r"Linked folders +one, three\s", console.export_text())
    assert any("read already: again; two" in line for line in summary["warnings"])


def test_links_upon_links_end(tmp_path: Path) -> None:
    write_images(tmp_path, "a.png")
    for level in range(12):
        (tmp_path / f"f{level}").mkdir()
        for side in "lr":
            (tmp_path / f"f{level}" / side).symlink_to(tmp_path / f"f{(level + 1) % 12}")
    assert [file.path for file in scan_folder(tmp_path).images] == ["a.png"]


def test_content_decides_and_what_is_not_read_is_counted(tmp_path: Path) -> None:
    write_images(tmp_path, "a.png", "b.tif", "c.bmp", "d.webp", "IM0001", "e.xyz")
    write_images(tmp_path, "._a.png", "__MACOSX/a.png", ".hidden/a.png")
    write_lines(tmp_path / "notes.doc", ["no image"])
    write_lines(tmp_path / "readme.txt", ["no image"])
    found = scan_folder(tmp_path)
    assert [f.path for f in found.images] == [
        "IM0001",
        "a.png",
        "b.tif",
        "c.bmp",
        "d.webp",
        "e.xyz",
    ]
    assert found.others == {".doc": 1, ".txt": 1}
    warnings = build_catalog(DataSettings(root=tmp_path, split="train")).summary["warnings"]
    assert warnings == ["1 file is of a kind that is not read: 1 .doc"]


@pytest.mark.skipif(sys.platform != "linux", reason="needs names that are not UTF-8")
def test_names_that_are_not_utf8_are_passed_over_and_named(tmp_path: Path) -> None:
    write_images(tmp_path, "a.png")
    os.rename(os.fsencode(tmp_path / "a.png"), os.fsencode(tmp_path) + b"/\xff.png")  # noqa: PTH104
    write_images(tmp_path, "b.png")
    found = scan_folder(tmp_path)
    assert [file.path for file in found.images] == ["b.png"]
    assert found.skipped == {"the name is not UTF-8": ["\\udcff.png"]}


@pytest.mark.parametrize(
    ("path", "patient"),
    [
        ("files/p10/p10000032/s50414267/aaaa-1.jpg", "p10000032"),
        ("CheXpert-v1.0 batch 2 (train 1)/patient00007/study1/view1_frontal.jpg", "patient00007"),
        ("1/216840111366964012283393834152_00-105-023.png", "216840111366964012283393834152"),
        ("images_003/17_a.png", "17"),
        ("train/17/b.png", "17"),
        ("MCUCXR_0001_0.png", "MCUCXR_0001"),
        ("20190101_001.png", "20190101"),
        ("x.png", "x"),
    ],
)
def test_patients_of_published_layouts(path: str, patient: str) -> None:
    found = patients_of_paths([path], None)
    assert found.ids == (patient,)
    assert found.example == (path, patient)


def test_few_patients_are_questioned_and_the_rule_is_shown(tmp_path: Path) -> None:
    write_images(tmp_path, *(f"scan1_{n}.png" for n in range(40)))
    summary = build_catalog(DataSettings(root=tmp_path, split="train")).summary
    assert summary["patients"]["patients"] == 1
    assert summary["patients"]["images"] == 40
    assert "only 1 patient in 40 images" in summary["warnings"][0]
    assert "data.patient_pattern" in summary["warnings"][0]
    settings = DataSettings(root=tmp_path, split="train", patient_pattern=r"_(\d+)\.")
    assert build_catalog(settings).summary["patients"]["patients"] == 40


def test_an_absent_column_is_reported_with_its_count(tmp_path: Path) -> None:
    names = [f"{p:08d}_000.png" for p in range(1, 9)]
    write_images(tmp_path, *(f"a/b/{name}" for name in names))
    lines = [f"{name},Effusion,0,{int(name[:8])},058Y,PA" for name in names]
    header = "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,View Position"
    write_lines(tmp_path / "Data_Entry_2017.csv", [header, *lines])
    catalog = build_catalog(DataSettings(root=tmp_path, split="random"))
    assert catalog.summary["files"]["usable"] == 8
    assert "no column for sex: 8 values are missing" in catalog.summary["warnings"]


@pytest.mark.parametrize("archive", ["images_001.tar.gz", "images.zip"])
def test_images_that_are_still_packed_are_said_to_be(tmp_path: Path, archive: str) -> None:
    write_images(tmp_path, "a.png")
    (tmp_path / archive).write_bytes(b"packed")
    lines = [f"b{n}.png,{n},{n % 2}" for n in range(8)]
    write_lines(tmp_path / "labels.csv", ["image,patient,Tube", *lines])
    settings = DataSettings(root=tmp_path, labels="labels.csv", split="random")
    (missing,) = [
        w for w in build_catalog(settings).summary["warnings"] if "images are missing" in w
    ]
    suffix = archive.removeprefix("images").removeprefix("_001")
    assert f"archives lie there (1 {suffix}): unpack them" in missing
    (tmp_path / "a.png").unlink()
    (tmp_path / "labels.csv").unlink()
    with pytest.raises(DataError, match="holds no images") as caught:
        build_catalog(DataSettings(root=tmp_path))
    assert caught.value.fix == "unpack its archives"


def test_names_that_have_lost_their_leading_zeros_are_recognized(tmp_path: Path) -> None:
    write_images(tmp_path, *(f"films/{n:04d}.png" for n in range(1, 9)))
    lines = [f"{n},{n},{n % 2}" for n in range(1, 9)]
    write_lines(tmp_path / "labels.csv", ["image,patient,Tube", *lines])
    settings = DataSettings(root=tmp_path, labels="labels.csv", split="random")
    (missing,) = [
        w for w in build_catalog(settings).summary["warnings"] if "images are missing" in w
    ]
    assert "films/0001.png is there: the table's names may have lost their leading" in missing


PLUGIN = """
import pandas as pd
from medsgssl.data.labels import LabelSet
from medsgssl.data.readers.base import Reader, SourceRows
from medsgssl.data.readers.scan import image_frame

class LettersReader(Reader):
    name = "letters"
    rank = 5

    @classmethod
    def detect(cls, folder):
        return cls(folder) if folder.file("letters.toml") else None

    @property
    def images(self):
        files = self.folder.scan.images
        return image_frame(files, [file.path for file in files])

    def rows(self):
        names = list(self.images.index)
        table = pd.DataFrame({"image_id": names, "path": names, "patient_id": names})
        table = table.assign(age=pd.NA, sex="", view_position="", follow_up=pd.NA)
        table["vowel"] = [int(name[0] in "aeiou") for name in names]
        return SourceRows(table, {"label_revision": "letters"}, LabelSet("letters", ("vowel",)))
"""


def test_another_package_adds_a_layout_in_one_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "letters_plugin.py").write_text(PLUGIN)
    monkeypatch.syspath_prepend(tmp_path)
    entry = importlib.metadata.EntryPoint("letters", "letters_plugin:LettersReader", registry.GROUP)
    real = importlib.metadata.entry_points
    monkeypatch.setattr(
        importlib.metadata, "entry_points",
        lambda **key: [entry] if key == {"group": registry.GROUP} else real(**key),
    )  # fmt: skip
    registry.readers.cache_clear()
    try:
        data = tmp_path / "data"
        write_images(data, *(f"{letter}.png" for letter in "abcdefgh"))
        write_lines(data / "letters.toml", ["x = 1"])
        catalog = build_catalog(DataSettings(root=data))
    finally:
        registry.readers.cache_clear()
    assert catalog.summary["source"] == "letters"
    assert catalog.summary["labels"] == {"vowel": 2, "No Finding": 6}


def test_catalog_and_readers_never_import_torch() -> None:
    code = (
        "import sys, medsgssl.data.catalog, medsgssl.data.readers.registry as r; r.readers(); "
        "sys.exit(any(name in sys.modules for name in ('torch', 'timm', 'lightning_fabric')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_only_their_own_modules_name_or_count_the_diseases_of_nih() -> None:
    allowed = ("data/labels.py", "data/readers/nih.py", "data/boxes.py")
    source = Path(registry.__file__).parents[2]
    words = ("DISEASES", "fourteen", "14 diseases", "(N, 14)", "(B, 14)", "Infiltration",
             "Pleural_Thickening", "Hernia")  # fmt: skip
    named = [
        path.relative_to(source).as_posix()
        for path in source.rglob("*.py")
        if any(word in path.read_text(encoding="utf-8") for word in words)
    ]
    assert [n for n in named if n not in allowed and not n.startswith("data/synthetic/")] == []
