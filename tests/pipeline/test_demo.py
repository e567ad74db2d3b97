"""The demonstration runs a guided method, the control and the baseline."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from medsgssl.config.loading import merge
from medsgssl.pipeline import demo


def test_the_demonstration_runs_each_method_and_says_what_their_means_cannot_show(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    quick: dict[str, Any] = {
        "data": {"img_size": 32, "batch_size": 16},
        "encoder": {"name": "test_efficientnet"},
        "pretrain": {"epochs": 1},
        "finetune": {"epochs": 1},
        "evaluate": {"bootstrap": 20},
    }
    monkeypatch.setattr(demo, "_SETTINGS", merge(demo._SETTINGS, quick))
    runs = demo.run_demo(tmp_path, 120)
    assert set(runs) == {"masked-contrastive", "simclr", "direct"}
    shown = capsys.readouterr().out
    assert all(name in shown for name in runs)
    assert "cannot show" in shown
    for name in ("masked-contrastive", "simclr"):
        log = pd.read_csv(runs[name].pretrain_log)
        assert {"contrast", "contrast_chance", "contrast_start"} <= set(log)
