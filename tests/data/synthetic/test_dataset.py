"""A set of phantoms: the NIH layout, the same bytes every time, and no harm to other folders."""

from __future__ import annotations

import csv
from pathlib import Path

import cv2
import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from medsgssl.cli.data import phantom
from medsgssl.data.labels import DISEASES
from medsgssl.data.synthetic.cohort import PREVALENCE, draw_cohort
from medsgssl.data.synthetic.dataset import generate_phantoms
from medsgssl.errors import ConfigError, DataError
from medsgssl.utils.io import read_json


def _bytes(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    return generate_phantoms(tmp_path_factory.mktemp("phantom") / "set", 24, 48, seed=3)


def test_layout(made):
    rows = list(csv.reader((made / "Data_Entry_2017.csv").open()))
    assert ",".join(rows[0]) == (
        "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,"
        "View Position,OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]"
    )
    assert all(len(row) == 11 for row in rows)
    names = [row[0] for row in rows[1:]]
    assert len(set(names)) == 24
    for row in rows[1:]:
        assert row[0] == f"{int(row[3]):08d}_{int(row[2]):03d}.png"
        assert set(row[1].split("|")) <= {*DISEASES, "No Finding"}
        assert row[5] in {"M", "F"}
        assert row[6] in {"PA", "AP"}
        image = cv2.imread(str(made / "images" / row[0]), cv2.IMREAD_UNCHANGED)
        mask = cv2.imread(str(made / "lung_masks" / row[0]), cv2.IMREAD_UNCHANGED)
        assert image.shape == mask.shape == (48, 48)
        assert set(np.unique(mask)) == {0, 255}
    lists = [(made / name).read_text().split() for name in ("train_val_list.txt", "test_list.txt")]
    assert sorted(lists[0] + lists[1]) == sorted(names)
    assert not {n[:8] for n in lists[0]} & {n[:8] for n in lists[1]}
    record = read_json(made / "phantom.json")
    assert (record["seed"], record["size"], record["count"]) == (3, 48, 24)


def test_boxes(made):
    labels = {
        row[0]: set(row[1].split("|")) for row in csv.reader((made / "Data_Entry_2017.csv").open())
    }
    rows = list(csv.reader((made / "BBox_List_2017.csv").open()))
    assert rows[0][:2] == ["Image Index", "Finding Label"]
    boxed: dict[str, set[str]] = {}
    for name, label, *box in rows[1:]:
        x, y, w, h = map(float, box)
        assert min(x, y) >= 0
        assert max(x + w, y + h) <= 1024
        boxed.setdefault(name, set()).add(label.replace("Infiltrate", "Infiltration"))
    assert boxed == {name: found for name, found in labels.items() if found & set(DISEASES)}


def test_same_arguments_give_the_same_bytes(made, tmp_path):
    assert _bytes(generate_phantoms(tmp_path / "again", 24, 48, seed=3)) == _bytes(made)


def test_the_number_of_workers_changes_nothing(made, tmp_path):
    assert _bytes(generate_phantoms(tmp_path / "two", 24, 48, seed=3, workers=2)) == _bytes(made)


def test_an_interrupted_set_is_continued(made, tmp_path):
    class StopError(Exception):
        pass

    def stop(done: int, total: int) -> None:
        if done == 9:
            raise StopError

    out = tmp_path / "set"
    with pytest.raises(StopError):
        generate_phantoms(out, 24, 48, seed=3, progress=stop)
    assert not (out / "BBox_List_2017.csv").exists()
    generate_phantoms(out, 24, 48, seed=3)
    assert _bytes(out) == _bytes(made)


def test_a_complete_set_is_left_alone(made):
    before = {path: path.stat().st_mtime_ns for path in made.rglob("*")}
    generate_phantoms(made, 24, 48, seed=3)
    assert before == {path: path.stat().st_mtime_ns for path in made.rglob("*")}


def test_other_arguments_are_refused(made):
    with pytest.raises(DataError, match="other arguments"):
        generate_phantoms(made, 24, 48, seed=4)


def test_a_foreign_folder_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(DataError, match="not empty"):
        generate_phantoms(tmp_path, 4, 48)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize(
    "arguments",
    [
        {"count": 0},
        {"count": 3, "size": 8},
        {"count": 3, "seed": -1},
        {"count": 3, "patients": 4},
        {"count": 3, "prevalence": {"Gout": 0.1}},
        {"count": 3, "prevalence": {"Mass": 1.5}},
    ],
)
def test_wrong_arguments(tmp_path, arguments):
    with pytest.raises(ConfigError):
        generate_phantoms(tmp_path / "set", **arguments)
    assert not (tmp_path / "set").exists()


@pytest.mark.parametrize("seed", range(5))
def test_every_disease_occurs_in_each_part_of_a_small_set(seed):
    entries = draw_cohort(seed, 300, 150, PREVALENCE)
    assert len({entry.name for entry in entries}) == 300
    for test in (False, True):
        part = [entry for entry in entries if entry.test is test]
        found = {name for entry in part for name in entry.findings}
        assert found == set(DISEASES)
        healthy = sum(not entry.findings for entry in part) / len(part)
        assert 0.4 < healthy < 0.6
    assert 0.15 < sum(entry.test for entry in entries) / 300 < 0.35
    assert any(len(entry.findings) > 1 for entry in entries)
    assert max(entry.follow_up for entry in entries) >= 2


def test_a_set_may_be_healthy(tmp_path):
    out = generate_phantoms(tmp_path / "set", 3, 32, prevalence={})
    assert (out / "Data_Entry_2017.csv").read_text().count("No Finding") == 3


def test_prevalence_is_kept():
    entries = draw_cohort(0, 400, 200, {"Mass": 0.3})
    assert {name for entry in entries for name in entry.findings} == {"Mass"}
    assert sum(bool(entry.findings) for entry in entries) == pytest.approx(120, abs=2)


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_tiny_cohorts(count):
    entries = draw_cohort(0, count, count, PREVALENCE)
    assert len(entries) == count
    assert any(entry.test for entry in entries) is (count > 1)
    assert not all(entry.test for entry in entries)


def test_command(tmp_path):
    app = typer.Typer()
    app.command()(phantom)
    out = tmp_path / "set"
    result = CliRunner().invoke(app, [str(out), "--count", "3", "--size", "32", "--seed", "1"])
    assert result.exit_code == 0, result.output
    assert len(list((out / "images").glob("*.png"))) == 3
