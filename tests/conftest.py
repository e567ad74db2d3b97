"""What several tests share."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from medsgssl.config.loading import merge, nest
from medsgssl.config.schema import Config
from medsgssl.data.dataset import ImageMaskDataset
from medsgssl.data.image_cache import open_cache
from medsgssl.data.labels import LabelSet
from medsgssl.data.mask_cache import MaskArray
from medsgssl.data.synthetic.dataset import generate_phantoms
from medsgssl.methods.registry import configure
from medsgssl.pipeline.runner import run_method
from medsgssl.runs.folder import RunFolder
from medsgssl.utils.io import write_json
from tests.images.crashing import python_path

TrainedRun = Callable[[str], RunFolder]

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


LABEL_SET = LabelSet("test", ("Effusion", "Mass of the lung", "Hernia", "Nodule"))


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
        image_seeds=np.arange(count, dtype=np.uint64) + 1000,
        labels=(rng.random((count, len(LABEL_SET))) < 0.3).astype(np.float32),
        domains=np.zeros(count, np.int64),
        splits=np.repeat(["train", "val", "test"], [10, 5, 5]),
        patients=np.array([f"p{i // 2}" for i in range(count)]),
        label_set=LABEL_SET,
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


@pytest.fixture(scope="session")
def phantom_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One hundred phantoms of 64 pixels in the NIH layout; never written to by a test."""
    return generate_phantoms(tmp_path_factory.mktemp("phantoms") / "set", 100, size=64)


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


@pytest.fixture
def crashing_decoder(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In worker processes, and there alone, OpenCV crashes on files that end in CRASH."""
    monkeypatch.setenv("PYTHONPATH", python_path(tmp_path_factory.mktemp("site")))
