"""The notebooks run from the first cell to the last, for every method.

The default test runs their cells in its own process; the slow ones start a kernel.
"""

from __future__ import annotations

import os
import re
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


def notebook_with(name: str, parameters: dict[str, Any]) -> Any:
    """Return a notebook with a cell of other parameters below its own."""
    notebook = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
    (place,) = (
        n for n, c in enumerate(notebook.cells) if "parameters" in c.metadata.get("tags", [])
    )
    lines = "\n".join(f"{key} = {value!r}" for key, value in parameters.items())
    notebook.cells.insert(place + 1, nbformat.v4.new_code_cell(lines))
    return notebook


def run_cells(name: str, parameters: dict[str, Any]) -> dict[str, Any]:
    """Run the code cells in this process and folder; return their names."""
    scope: dict[str, Any] = {}
    for cell in notebook_with(name, parameters).cells:
        if cell.cell_type == "code":
            exec(compile(cell.source, name, "exec"), scope)
    return scope


def execute(name: str, folder: Path, parameters: dict[str, Any]) -> list[Any]:
    """Run a notebook in a folder with other parameters; return its code cells."""
    notebook = notebook_with(name, parameters)
    source = str(Path(medsgssl.__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": source, "MPLBACKEND": "agg"}
    client = NotebookClient(
        notebook, timeout=300, resources={"metadata": {"path": str(folder)}}, kernel_name="python3"
    )
    client.execute(env=environment)
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def shown(cell: Any) -> str:
    return "".join(str(output.get("text", "")) for output in cell.outputs)


def test_the_cells_of_both_notebooks_run(
    phantom_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "agg")
    settings = {**SETTINGS, "encoder.name": backbone("simclr")}
    for method in ("direct", "simclr"):
        parameters = {"METHOD": method, "DATA": str(phantom_set), "SETTINGS": settings}
        scope = run_cells("one-method", {**parameters, "OUT": "runs"})
        assert scope["run"].report.is_file()
    scope = run_cells("two-runs", {"RUNS": ["runs/direct", "runs/simclr"]})
    assert len(scope["tables"]) > 0
    assert scope["page"].is_file()


@pytest.mark.parametrize("name", ["one-method", "two-runs"])
def test_notebooks_are_committed_with_what_they_print(name: str) -> None:
    notebook = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell.outputs]
    assert outputs, "run: python -m docsite.notebooks docs/notebooks"
    assert not [output for output in outputs if output.output_type == "error"]
    # What is printed describes no machine.
    assert not re.search(r"/(?:tmp|home|root|work)/", str(outputs))


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
