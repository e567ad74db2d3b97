"""docs/defaults.md is what its command writes from the committed measurements."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from medsgssl.training.lr_schedule import SHORT_RUN_LR
from medsgssl.training.selection import AUTO_KEEP

ROOT = Path(__file__).parents[2]


def test_the_page_is_built_from_the_results(capsys: pytest.CaptureFixture[str]) -> None:
    path = ROOT / "benchmarks" / "defaults_page.py"
    spec = importlib.util.spec_from_file_location("defaults_page", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.main()
    page = (ROOT / "docs" / "defaults.md").read_text()
    assert capsys.readouterr().out == page
    assert f"`finetune.keep=auto` keeps the {AUTO_KEEP} epoch" in page
    assert f"gives {SHORT_RUN_LR[True]:.0e}".replace("e-0", "e-") in page
