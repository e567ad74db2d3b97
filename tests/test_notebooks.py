"""The notebooks run from the first cell to the last, for every method."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

import medsgssl
from medsgssl.data.synthetic.dataset import generate_phantoms
from medsgssl.methods.index import method_index

NOTEBOOKS = Path(__file__).parents[1] / "docs" / "notebooks"
SETTINGS = {
    "data.img_size": 32,
    "data.batch_size": 8,
    "data.num_workers": 0,
    "encoder.pretrained": False,
    "pretrain.epochs": 1,
    "finetune.epochs": 1,
    "evaluate.bootstrap": 20,
}


def backbone(method: str) -> str:
    return "test_vit" if method == "anatomy-masked-attention" else "test_efficientnet"


def execute(name: str, folder: Path, parameters: dict[str, Any]) -> list[Any]:
    """Run a notebook in a folder with other parameters; return its code cells."""
    notebook = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells), "committed with outputs"
    (place,) = (
        n for n, c in enumerate(notebook.cells) if "parameters" in c.metadata.get("tags", [])
    )
    lines = "\n".join(f"{key} = {value!r}" for key, value in parameters.items())
    notebook.cells.insert(place + 1, nbformat.v4.new_code_cell(lines))
    source = str(Path(medsgssl.__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": source, "MPLBACKEND": "agg"}
    client = NotebookClient(
        notebook, timeout=300, resources={"metadata": {"path": str(folder)}}, kernel_name="python3"
    )
    client.execute(env=environment)
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def shown(cell: Any) -> str:
    return "".join(str(output.get("text", "")) for output in cell.outputs)


@pytest.mark.slow
@pytest.mark.parametrize("method", sorted(method_index()))
def test_the_notebook_of_one_method_runs(method: str, tmp_path: Path) -> None:
    settings = {**SETTINGS, "encoder.name": backbone(method)}
    cells = execute(
        "one-method", tmp_path, {"METHOD": method, "SETTINGS": settings, "IMAGES": 80, "OUT": "out"}
    )
    assert "report.html" in shown(cells[-1])
    assert (tmp_path / "out" / method / "report.html").is_file()


@pytest.mark.slow
def test_the_notebook_of_two_runs_compares_them(tmp_path: Path) -> None:
    data = generate_phantoms(tmp_path / "data", 80, size=64)
    settings = {
        **SETTINGS,
        "encoder.name": backbone("simclr"),
        "data.cache_dir": str(tmp_path / "c"),
    }
    for method in ("masked-contrastive", "simclr"):
        config = medsgssl.load_config(method, data=data, settings=settings)
        medsgssl.run(config, tmp_path / "runs" / method, quiet=True)
    cells = execute("two-runs", tmp_path, {"RUNS": ["runs/masked-contrastive", "runs/simclr"]})
    assert "report.html" in shown(cells[-1])
    assert (tmp_path / "comparison" / "report.html").is_file()
