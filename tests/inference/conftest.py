"""Small fine-tuned runs on phantoms, shared by the tests of this folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from medsgssl.methods.registry import configure
from medsgssl.pipeline.runner import run_method
from medsgssl.runs.folder import RunFolder
from tests.pipeline.conftest import phantom_set

__all__ = ["phantom_set"]

TrainedRun = Callable[[str], RunFolder]


@pytest.fixture(scope="session")
def trained_run(
    phantom_set: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], RunFolder]:
    """Return a maker of runs without pretraining, one epoch, 32 pixels; each is made once."""
    base = tmp_path_factory.mktemp("trained")
    done: dict[str, RunFolder] = {}

    def make(name: str) -> RunFolder:
        if name not in done:
            vit = name == "anatomy-masked-attention"
            tree = {
                "data": {
                    "root": str(phantom_set),
                    "cache_dir": str(base / "cache"),
                    "img_size": 32,
                    "batch_size": 16,
                    "num_workers": 0,
                },
                "encoder": {
                    "name": "test_vit" if vit else "test_efficientnet",
                    "pretrained": False,
                },
                "finetune": {"epochs": 1, "lr": 1e-3, "accelerator": "cpu"},
                "evaluate": {"bootstrap": 20},
            }
            done[name] = run_method(configure(name, tree, no_pretrain=True), base / name)
        return done[name]

    return make
