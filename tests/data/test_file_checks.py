"""Formats, missing decoders, rotation tags and reasons, counted over a folder of files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.uid import JPEGLosslessSV1

from medsgssl.config.schema import DataSettings
from medsgssl.data.audit_table import audit_view
from medsgssl.data.catalog import load_or_build
from tests.images.dicom_files import write_dicom

AVAILABLE = "pydicom.pixels.decoders.base.Decoder.is_available"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two PNGs, a rotated JPEG, a plain and a compressed DICOM, two cut PNGs and an empty one."""
    root = tmp_path / "set"
    root.mkdir()
    grain = np.random.default_rng(0).integers(0, 256, (40, 48)).astype(np.uint8)
    for name in ("p1", "p2", "p3", "p4"):
        Image.fromarray(grain).save(root / f"{name}.png")
    for name, left in (("p3", 500), ("p4", 600)):
        content = (root / f"{name}.png").read_bytes()
        (root / f"{name}.png").write_bytes(content[:left])
    (root / "p5.png").write_bytes(b"")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(grain).save(root / "p6.jpg", exif=exif)
    write_dicom(root / "p7.dcm", grain)
    dataset = pydicom.dcmread(write_dicom(root / "p8.dcm", grain))
    dataset.file_meta.TransferSyntaxUID = JPEGLosslessSV1
    dataset.PixelData = pydicom.encaps.encapsulate([bytes(100)])
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
    dataset.save_as(root / "p8.dcm", enforce_file_format=True)
    return root


def test_formats_decoders_tags_and_reasons_are_counted(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = DataSettings(root=folder, cache_dir=tmp_path / "cache", split="train")
    with monkeypatch.context() as patch:
        patch.setattr(AVAILABLE, property(lambda self: str(self.UID) != str(JPEGLosslessSV1)))
        catalog = load_or_build(settings)
        again = load_or_build(settings)
    files = catalog.summary["files"]
    shown = {row["format"].split(" (")[0]: row for row in files["formats"] if row["readable"]}
    assert {name: row["files"] for name, row in shown.items()} == {"PNG": 2, "JPEG": 1, "DICOM": 1}
    (missing,) = [row for row in files["formats"] if not row["readable"]]
    assert "JPEG Lossless" in missing["format"]
    assert "medsgssl[dicom]" in missing["install"]
    assert files["rotation_tags"] == 1
    reasons = files["set_aside"]
    assert reasons["is a truncated PNG"] == 2
    assert reasons["is empty"] == 1
    assert sum(reasons.values()) == files["unreadable"] == 4
    assert any("medsgssl[dicom]" in line for line in catalog.summary["warnings"])
    assert again.summary == catalog.summary

    from rich.console import Console

    console = Console(record=True, width=300)
    console.print(audit_view(catalog.summary))
    text = console.export_text()
    assert "2: is a truncated PNG" in text
    assert "cannot be decoded here: pip install 'medsgssl[dicom]'" in text


def test_a_catalog_is_built_again_where_a_decoder_has_come(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = DataSettings(root=folder, cache_dir=tmp_path / "cache", split="train")
    with monkeypatch.context() as patch:
        patch.setattr(AVAILABLE, property(lambda self: str(self.UID) != str(JPEGLosslessSV1)))
        before = load_or_build(settings)
    monkeypatch.setattr(AVAILABLE, property(lambda self: True))
    after = load_or_build(settings)
    assert len(after.usable()) == len(before.usable()) + 1


def test_a_file_on_which_a_decoder_crashes_is_set_aside_and_named(
    tmp_path: Path, crashing_decoder: None
) -> None:
    root = tmp_path / "set"
    root.mkdir()
    grain = np.random.default_rng(0).integers(0, 256, (40, 48)).astype(np.uint8)
    for name in ("p1.png", "p2.tif", "p3.tif"):
        Image.fromarray(grain).save(root / name)
    with (root / "p3.tif").open("ab") as stream:
        stream.write(b"CRASH")
    settings = DataSettings(root=root, cache_dir=tmp_path / "cache", split="train")
    catalog = load_or_build(settings, hash_content=True)
    assert catalog.table["status"].tolist() == ["ok", "ok", "unreadable"]
    assert catalog.summary["files"]["set_aside"] == {"ends the process that reads it (SIGSEGV)": 1}
    assert "p3.tif" in catalog.table["problem"][2]
