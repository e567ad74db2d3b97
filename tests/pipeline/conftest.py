"""A tiny phantom set and a configuration that runs on it within seconds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from medsgssl.config.loading import merge
from medsgssl.config.schema import Config
from medsgssl.methods.registry import configure


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Catalog, masks and decoded images, shared between the tests of a session."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def small_run(phantom_set: Path, cache_dir: Path) -> Callable[..., Config]:
    """Build the configuration of a method for the phantom set: 32 pixels, two epochs each."""

    def build(name: str, *, no_pretrain: bool = False, **tree: Any) -> Config:
        small: dict[str, Any] = {
            "data": {
                "root": str(phantom_set),
                "cache_dir": str(cache_dir),
                "img_size": 32,
                "batch_size": 16,
                "num_workers": 0,
            },
            "encoder": {"name": "test_efficientnet", "pretrained": False},
            "pretrain": {"epochs": 2, "lr": 1e-3, "accelerator": "cpu"},
            "finetune": {"epochs": 2, "lr": 1e-3, "accelerator": "cpu"},
            "evaluate": {"bootstrap": 50},
        }
        return configure(name, merge(small, tree), no_pretrain=no_pretrain)

    return build
