"""The command `catalog`."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import typer
from typer.testing import CliRunner

from medsgssl.cli.data import catalog
from medsgssl.data.catalog import CATALOG_FILE, Catalog
from medsgssl.errors import ConfigError, DataError

app = typer.Typer()
app.command()(catalog)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    for number in range(10):
        pixels = np.full((16, 16), number, np.uint8)
        assert cv2.imwrite(str(folder / f"{number}_a.png"), pixels)
    return folder


def test_audit_is_printed_and_the_catalog_is_left_in_the_cache(data: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    result = CliRunner().invoke(app, [str(data), "--set", f"data.cache_dir={cache}"])
    assert result.exit_code == 0, result.output
    assert "10 (10 usable" in result.output
    assert len(list(cache.rglob(CATALOG_FILE))) == 1


def test_catalog_is_written_where_asked(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "c.parquet"
    arguments = [str(data), "--out", str(out), "--hash", "--split", "random"]
    result = CliRunner().invoke(app, [*arguments, "--set", "data.split_seed=3"])
    assert result.exit_code == 0, result.output
    made = Catalog.load(out)
    assert made.summary["split"]["seed"] == 3
    assert (made.table["content_hash"] != "").all()


def test_all_images_with_a_problem_are_listed_in_a_file(data: Path, tmp_path: Path) -> None:
    broken = sorted(data.glob("*.png"))[:7]
    for path in broken:
        path.write_bytes(path.read_bytes()[:40])
    (data / "twin.png").write_bytes((data / "9_a.png").read_bytes())
    result = CliRunner().invoke(app, [str(data), "--set", f"data.cache_dir={tmp_path / 'cache'}"])
    assert result.exit_code == 0, result.output
    (written,) = (tmp_path / "cache").rglob("*problems.csv")
    assert f"9 images with a problem, listed in {written}" in result.output.replace("\n", "")
    rows = pd.read_csv(written)
    assert rows.loc[rows["what"] == "unreadable", "image_id"].tolist() == [p.name for p in broken]
    assert rows.loc[rows["what"] != "unreadable", "reason"].tolist() == ["9_a.png = twin.png"] * 2
    for path in [*broken[1:], data / "twin.png"]:
        path.unlink()
    result = CliRunner().invoke(app, [str(data), "--set", f"data.cache_dir={tmp_path / 'cache'}"])
    assert f"1 image with a problem, listed in {written}" in result.output.replace("\n", "")
    broken[0].unlink()
    CliRunner().invoke(app, [str(data), "--set", f"data.cache_dir={tmp_path / 'cache'}"])
    assert not written.exists(), "the list of an earlier state is gone"


def test_mistakes_are_named(data: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, [str(data), "--split", "half"])
    assert isinstance(result.exception, ConfigError)
    assert "data.split" in str(result.exception)
    result = CliRunner().invoke(app, [str(tmp_path / "absent")])
    assert isinstance(result.exception, DataError)


def test_a_set_without_a_usable_image_is_not_a_success(data: Path) -> None:
    for path in data.rglob("*.png"):
        path.write_bytes(path.read_bytes()[:40])
    result = CliRunner().invoke(app, [str(data), "--split", "random", "--json"])
    assert result.exit_code == 1
    summary = json.loads(result.stdout)
    assert summary["files"]["unreadable"] == summary["files"]["rows"] > 0
    assert summary["patients"]["example"] == "9_a.png -> 9"


def test_the_label_table_is_a_setting_of_the_catalog_too(data: Path) -> None:
    lines = ["image,patient,TB", *(f"{n}_a.png,{n},{n % 2}" for n in range(10))]
    (data / "mine.csv").write_text("\n".join(lines))
    arguments = [str(data), "--split", "random", "--set", "data.labels=mine.csv", "--json"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["classes"] == ["TB"]
