"""The package that docs/extending.md writes is found, and everything in it runs."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import medsgssl
from medsgssl.data.synthetic.dataset import generate_phantoms

PAGE = Path(__file__).parents[1] / "docs" / "extending.md"
FILE = re.compile(r"^`([\w./]+)`[^\n]*:\n\n```\w+\n(.*?)```", re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder on the path that holds the package as pip would install it."""
    site = tmp_path_factory.mktemp("site")
    files = dict(FILE.findall(PAGE.read_text()))
    project = tomllib.loads(files.pop("pyproject.toml"))["project"]
    for name, text in files.items():
        path = site / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        (path.parent / "__init__.py").touch()
    info = site / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    )
    lines = []
    for group, entries in project["entry-points"].items():
        lines += [f"[{group}]", *(f"{name} = {value}" for name, value in entries.items())]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
    return site


def cli(package: Path, folder: Path, *words: str) -> str:
    source = str(Path(medsgssl.__file__).parents[1])
    path = os.pathsep.join([str(package), source])
    environment = {**os.environ, "PYTHONPATH": path, "XDG_CACHE_HOME": str(folder / "cache")}
    done = subprocess.run(
        [sys.executable, "-m", "medsgssl", *words],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_method_and_a_mask_recipe_of_another_package_run(package: Path, tmp_path: Path) -> None:
    generate_phantoms(tmp_path / "data", 60, size=32)
    shown = cli(
        package, tmp_path, "pretrain", "dim-lung", "--data", "data", "--out", "run",
        "--set", "method.factor=0.3", "--set", "masks.recipe=middle", "--set", "data.img_size=32",
        "--set", "data.batch_size=8", "--set", "data.num_workers=0", "--set", "pretrain.epochs=1",
        "--set", "encoder.name=test_efficientnet", "--set", "encoder.pretrained=false",
    )  # fmt: skip
    assert "pretrained.safetensors" in shown
    assert (tmp_path / "run" / "pretrained.safetensors").is_file()
    assert '"recipe": "middle"' in (tmp_path / "run" / "data.json").read_text()


def test_an_installed_method_is_listed_and_described(package: Path, tmp_path: Path) -> None:
    shown = cli(package, tmp_path, "config", "dim-lung", "--set", "method.factor=0.25")
    assert "# brightness left inside the lungs [number, at most 1, above 0]" in shown
    assert "factor: 0.25" in shown
    assert "dim-lung" in cli(package, tmp_path, "methods")


def test_masks_are_built_with_an_installed_recipe(package: Path, tmp_path: Path) -> None:
    generate_phantoms(tmp_path / "data", 20, size=32)
    shown = cli(package, tmp_path, "masks", "build", "data", "--recipe", "middle", "--out", "masks")
    assert shown.strip().splitlines()[-1] == "20 masks in masks: 0 ok, 20 doubtful, 0 failed"


def test_a_layout_is_read_by_an_installed_reader(package: Path, tmp_path: Path) -> None:
    films = generate_phantoms(tmp_path / "phantoms", 40, size=32) / "images"
    films.rename(tmp_path / "data")
    names = sorted(path.name for path in (tmp_path / "data").iterdir())
    lines = [
        f"{name}\tperson {number // 2}\t{('present', 'absent', 'unclear')[number // 2 % 3]}"
        for number, name in enumerate(names)
    ]
    (tmp_path / "data" / "reports.tsv").write_text("\n".join(["film\tperson\tfinding", *lines]))
    audited = json.loads(cli(package, tmp_path, "catalog", "data", "--split", "random", "--json"))
    assert audited["source"] == "clinic"
    assert audited["classes"] == ["Finding"]
    assert audited["files"]["usable"] == 40
    assert sum(split["patients"] for split in audited["splits"].values()) == 20


def test_an_installed_metric_and_panel_are_shown(package: Path, tmp_path: Path) -> None:
    generate_phantoms(tmp_path / "data", 120, size=32)
    cli(
        package, tmp_path, "run", "direct", "--data", "data", "--out", "study",
        "--set", "data.img_size=32", "--set", "data.batch_size=16", "--set", "data.num_workers=0",
        "--set", "finetune.epochs=1", "--set", "encoder.name=test_efficientnet",
        "--set", "encoder.pretrained=false", "--set", "evaluate.bootstrap=20",
    )  # fmt: skip
    diseases = json.loads((tmp_path / "study" / "metrics.json").read_text())["per_disease"]
    values = [disease["balanced_accuracy"] for disease in diseases.values()]
    assert any(value is not None for value in values)
    assert all(value is None or 0 <= value <= 1 for value in values)
    assert "Balanced accuracy" in (tmp_path / "study" / "report.html").read_text()
    cli(package, tmp_path, "study", "report", "study", "--out", "page")
    page = (tmp_path / "page" / "report.html").read_text()
    assert "Balance of the classes" in page
    assert "Positive test images" in page
