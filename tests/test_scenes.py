"""The page of what users see on several processes and on clusters."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tests.scenes import ORDER, page, record, shown

RESULTS = Path(__file__).parents[1] / "docs" / "results"


def test_the_committed_page_is_made_of_the_committed_runs() -> None:
    made = page(RESULTS / "cluster")
    assert made == (RESULTS / "cluster.md").read_text(encoding="utf-8")
    assert "/tmp/" not in made.replace("/tmp/$USER", "")
    assert "Traceback" not in made.partition("## Ctrl-C")[0]


def test_a_command_is_shown_as_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc-per-node",
        "2",
        "-m",
        "medsgssl",
    ]
    words += ["run", "--data", "/tmp/pytest-1/x/data", "--set", "data.img_size=32"]
    step = shown(
        [*words, "--set", "pretrain.devices=2"], 3, "Warning: few\nError: in /tmp/a/b/run\n"
    )
    assert step["typed"] == (
        "torchrun --nproc-per-node 2 -m medsgssl run --data data --set pretrain.devices=2"
    )
    assert step["output"] == "Error: in run"
    monkeypatch.setenv("MEDSGSSL_SCENES", str(tmp_path))
    record(ORDER[0], "A title", "A text.", step, figures={"steps": "12"})
    assert json.loads((tmp_path / f"{ORDER[0]}.json").read_text())["shown"] == [step]
    text = page(tmp_path)
    for part in ("## A title", "A text.", "[exit 3]", "Error: in run", "| steps | 12 |"):
        assert part in text
