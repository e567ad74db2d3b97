"""What several tests share."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from medsgssl.config.loading import Config, merge, nest
from medsgssl.data.dataset import ImageMaskDataset
from medsgssl.data.image_cache import open_cache
from medsgssl.data.mask_cache import MaskArray
from medsgssl.methods.registry import configure
from medsgssl.utils.io import write_json

# Sums depend on the number of threads, and the test processes share the cores: one each.
torch.set_num_threads(1)


def _shared_data() -> Path | None:
    """The folder of real X-rays: $MEDSGSSL_TEST_DATA, or ../shared/data beside the checkout."""
    named = os.environ.get("MEDSGSSL_TEST_DATA")
    folder = Path(named) if named else Path(__file__).parents[2] / "shared" / "data"
    return folder if folder.is_dir() else None


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of real chest X-rays; the test is skipped where it is absent."""
    folder = _shared_data()
    if folder is None:
        pytest.skip("no real chest X-rays: set MEDSGSSL_TEST_DATA to a folder that holds them")
    return folder


@pytest.fixture(scope="session")
def view_source(tmp_path_factory: pytest.TempPathFactory) -> ImageMaskDataset:
    """Twenty random images of 48 x 48 pixels with random masks, labels and qualities."""
    rng = np.random.default_rng(0)
    count, size = 20, 48
    folder = tmp_path_factory.mktemp("cache")
    np.save(folder / "images.npy", rng.integers(0, 256, (count, size, size), dtype=np.uint8))
    np.save(folder / "state.npy", np.ones(count, np.uint8))
    write_json(folder / "cache.json", {"images": count, "size": size, "problems": {}})
    bits = np.packbits(rng.random((count, size * size)) < 0.5, axis=1)
    return ImageMaskDataset(
        cache=open_cache(folder),
        masks=MaskArray(bits, rng.random(count, np.float32), np.ones(count, bool), size),
        keys=np.arange(count, dtype=np.uint64) + 1000,
        labels=(rng.random((count, 14)) < 0.3).astype(np.float32),
        domains=np.zeros(count, np.int64),
        splits=np.repeat(["train", "val", "test"], [10, 5, 5]),
        patients=np.array([f"p{i // 2}" for i in range(count)]),
    )


@pytest.fixture(scope="session")
def tiny_config() -> Callable[..., Config]:
    """Build the configuration of a method with a tiny backbone, from scratch, in seconds."""

    def build(name: str, **changes: Any) -> Config:
        tree: dict[str, Any] = {
            "data": {"img_size": 32, "batch_size": 2, "num_workers": 0},
            "encoder": {"name": "test_efficientnet", "pretrained": False},
            "pretrain": {"epochs": 2, "lr": 1e-3, "accelerator": "cpu", "freeze_epochs": 0},
            "finetune": {"epochs": 2, "lr": 1e-3, "accelerator": "cpu"},
            "evaluate": {"bootstrap": 50},
        }
        no_pretrain = changes.pop("no_pretrain", False)
        for key, value in changes.items():
            tree = merge(tree, nest(key.replace("__", "."), value))
        return configure(name, tree, no_pretrain=no_pretrain)

    return build
