"""Runs the notebooks and keeps what they print: ``python -m docsite.notebooks docs/notebooks``.

``one-method`` runs as it stands, then once more for the control, whose output is not kept, so that
``two-runs`` finds both runs.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

CONTROL = "simclr"


def executed(path: Path, folder: Path, change: str = "") -> Any:
    """Return a notebook with what its cells print in a folder.

    Args:
        path: The notebook.
        folder: Where it runs.
        change: Python code for a cell below its parameters; such a notebook is for its files alone.
    """
    notebook = nbformat.read(path, as_version=4)
    if change:
        notebook.cells.insert(2, nbformat.v4.new_code_cell(change))
    source = str(Path(__file__).parents[1] / "src")
    client = NotebookClient(
        notebook, timeout=1200, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    )
    # Nobody wants to read how often a bar of progress moved.
    client.execute(env={**os.environ, "PYTHONPATH": source, "PYTHONWARNINGS": "ignore"})
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # when each cell ran
        if cell.cell_type == "code":
            cell.outputs = [one for one in cell.outputs if one.get("name") != "stderr"]
    notebook.metadata["language_info"] = {"name": "python"}  # no versions of this machine
    return notebook


def main(notebooks: Path) -> None:
    """Run both notebooks and write them with their outputs.

    Args:
        notebooks: Their folder.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        one, two = notebooks / "one-method.ipynb", notebooks / "two-runs.ipynb"
        nbformat.write(executed(one, folder), one)
        executed(one, folder, f"METHOD = {CONTROL!r}")
        nbformat.write(executed(two, folder), two)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
