from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from medsgssl.cli.app import app
from medsgssl.data.synthetic.dataset import generate_phantoms
from medsgssl.study import runner
from medsgssl.study.runner import Outcome
from medsgssl.study.variants import without_controls

TINY = [
    "--set", "data.img_size=32", "--set", "encoder.name=test_efficientnet",
    "--set", "encoder.pretrained=false", "--set", "pretrain.epochs=1",
]  # fmt: skip


def _invoke(*arguments: str | Path) -> Any:
    return CliRunner().invoke(app, ["study", *map(str, arguments)])


def test_help_shows_both_commands_and_imports_nothing_heavy() -> None:
    code = (
        "import sys; from typer.testing import CliRunner; "
        "from medsgssl.cli.study import study_app; "
        "print(CliRunner().invoke(study_app, ['run', '--help']).stdout); "
        "print({'torch', 'pandas', 'matplotlib'} & set(sys.modules))"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert found.stdout.strip().endswith("set()")
    plain = re.sub(r"\x1b\[[\d;]*m", "", found.stdout)
    for option in ("--methods", "--seeds", "--label-fractions", "--controls", "--dry-run"):
        assert option in plain


def test_controls_are_not_questioned_where_a_method_has_them() -> None:
    assert without_controls(["simclr", "guided-crop"], ["shuffled"]) is None
    assert without_controls(["simclr"], []) is None


def test_a_dry_run_shows_the_plan_and_writes_nothing(tmp_path: Path) -> None:
    data = generate_phantoms(tmp_path / "data", 40, 64)
    cache = ["--set", f"data.cache_dir={tmp_path / 'cache'}"]
    found = _invoke(
        "run", "--data", data, "--out", tmp_path / "study", "--methods", "simclr,direct",
        "--seeds", "1", "--label-fractions", "0.5,1", "--controls", "shuffled", "--dry-run",
        *TINY, *cache,
    )  # fmt: skip
    assert found.exit_code == 0, found.output
    assert "--controls shuffled adds no run: simclr, direct look at no mask" in found.stderr
    assert "timing pretrain steps of simclr" in found.stderr
    lines = [line.split() for line in found.stdout.splitlines()]
    head, *runs = lines
    assert head[:5] == ["method", "encoder", "seed", "labels", "control"]
    for method in ("simclr", "direct"):
        for share in ("50", "100"):
            row = [method, "test_efficientnet", "0", share, "%"]
            assert sum(line[:5] == row for line in runs) == 1
    assert "Disk space:" in found.stdout
    assert {path.name for path in tmp_path.iterdir()} == {"data"}


def test_failures_are_named_and_in_the_exit_status(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ends = [Outcome("simclr-s0-f1", "done"), Outcome("direct-s0-f1", "failed", "no room\nmore")]
    monkeypatch.setattr(runner, "run_study", lambda plan, out, on_run_end, launcher: ends)
    found = _invoke(
        "run", "--data", tmp_path, "--out", tmp_path / "study", "--methods", "simclr,direct", *TINY
    )
    assert found.exit_code == 1
    assert "1 of 2 runs are complete" in found.stdout
    assert "failed: direct-s0-f1: no room" in found.stdout


def test_numbers_that_are_none_are_refused(tmp_path: Path) -> None:
    found = _invoke(
        "run",
        "--data",
        tmp_path,
        "--out",
        tmp_path,
        "--methods",
        "simclr",
        "--label-fractions",
        "10%",
    )
    assert found.exit_code == 2
    assert "is not a list of numbers" in found.output


def test_report_of_run_folders(tmp_path: Path) -> None:
    from tests.study.synthetic import write_run

    runs = [
        write_run(tmp_path / "one", "simclr", 1.0).path,
        write_run(tmp_path / "two", "mask-channel", 1.4, 1).path,
    ]
    found = _invoke(
        "report",
        *runs,
        "--out",
        tmp_path / "out",
    )
    assert found.exit_code == 0, found.output
    assert f"Report: {tmp_path / 'out' / 'report.html'}" in found.stdout.replace("\n", "")
    assert (tmp_path / "out" / "comparisons.csv").is_file()
