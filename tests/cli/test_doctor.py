"""`medsgssl doctor` names what is broken, and exits with 0 where there are only warnings."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from medsgssl.cli.app import app
from medsgssl.data.synthetic.dataset import generate_phantoms
from medsgssl.pipeline import health
from medsgssl.pipeline.health import Check


@pytest.fixture(autouse=True)
def _quick_and_offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    answer = '{"version": "9", "cuda": null, "gpus": [], "works": true, "threads": 1}'
    monkeypatch.setattr(health, "_ASK_TORCH", f"print('{answer}')")


def call(*words: str | Path) -> tuple[int, dict[str, dict[str, Any]]]:
    result = CliRunner().invoke(app, ["doctor", *map(str, words), "--json"])
    return result.exit_code, {check["name"]: check for check in json.loads(result.stdout)}


def test_warnings_alone_exit_with_zero_and_say_how_to_fix_them(tmp_path: Path) -> None:
    data = generate_phantoms(tmp_path / "data", 40, size=32)
    status, checks = call(data)
    assert status == 0
    assert checks["devices"]["status"] == checks["model hub"]["status"] == "warning"
    assert "encoder.pretrained=false" in checks["model hub"]["fix"]
    assert "40 images, 40 usable" in checks["data"]["value"]
    assert all(check["fix"] for check in checks.values() if check["status"] != "ok")


def test_a_data_set_that_cannot_be_read_is_broken(tmp_path: Path) -> None:
    status, checks = call(tmp_path / "absent")
    assert status == 1
    assert checks["data"]["status"] == "broken"
    assert "absent" in checks["data"]["value"]


@pytest.mark.parametrize(
    ("question", "seconds", "value"),
    [
        ("import time; time.sleep(60)", 0.2, "did not answer"),
        ("raise OSError('libcuda is gone')", 60, "libcuda is gone"),
    ],
)
def test_a_torch_that_hangs_or_fails_is_broken(
    monkeypatch: pytest.MonkeyPatch, question: str, seconds: float, value: str
) -> None:
    monkeypatch.setattr(health, "_ASK_TORCH", question)
    monkeypatch.setattr(health, "_TORCH_SECONDS", seconds)
    status, checks = call()
    assert status == 1
    assert checks["devices"]["status"] == "broken"
    assert value in checks["devices"]["value"]


def test_little_shared_memory_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "_ENOUGH_SHM", 1 << 60)
    status, checks = call()
    if checks["/dev/shm"]["value"] != "not used on this system":
        assert checks["/dev/shm"]["status"] == "warning"
    assert status == 0


def test_text_names_every_check_with_its_fix(monkeypatch: pytest.MonkeyPatch) -> None:
    checks = [Check("disk", "ok", "large"), Check("hub", "warning", "away", "wait")]
    monkeypatch.setattr(health, "check_health", lambda settings: iter(checks))
    result = CliRunner().invoke(app, ["doctor"])
    assert result.exit_code == 0
    for text in ("disk: large", "hub: away", "Fix: wait"):
        assert text in result.stdout


def test_the_doctor_itself_imports_no_torch() -> None:
    code = "import sys, medsgssl.pipeline.health; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
