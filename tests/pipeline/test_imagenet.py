"""Real ImageNet weights: the same features as in plain timm, and a better start than scratch.

The weights of ``tf_efficientnet_lite0``: $MEDSGSSL_TEST_WEIGHTS names a file (safetensors with
timm's names), or the tool ``imagenet-lite0`` beside the real data makes it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import load_file
from timm.data import create_transform, resolve_data_config

from medsgssl.config.schema import EncoderSettings
from medsgssl.images.reading import read_image
from medsgssl.methods.registry import configure
from medsgssl.models.encoder import build_encoder
from medsgssl.pipeline.runner import run_method

pytestmark = [pytest.mark.slow, pytest.mark.real]

NAME = "tf_efficientnet_lite0"
IMAGES, SIZE, SEEDS = 7000, 64, (0, 1, 2)


@pytest.fixture(scope="module")
def imagenet(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file with the weights; the test is skipped where it can neither be found nor made."""
    if named := os.environ.get("MEDSGSSL_TEST_WEIGHTS"):
        return Path(named)
    tool = real_data.parent / "tools" / "imagenet-lite0"
    weights = tmp_path_factory.mktemp("imagenet") / "lite0.safetensors"
    done = tool.exists() and subprocess.run([sys.executable, tool, weights], check=False)
    if not done or done.returncode:
        pytest.skip("no ImageNet weights: set MEDSGSSL_TEST_WEIGHTS to a file of timm's weights")
    return weights


@pytest.mark.parametrize("size", [SIZE, 224])
def test_features_of_real_x_rays_equal_plain_timms(
    real_data: Path, imagenet: Path, size: int
) -> None:
    plain = timm.create_model(NAME, num_classes=0).eval()
    named = load_file(imagenet)
    plain.load_state_dict({key: named[key] for key in plain.state_dict()})
    encoder = build_encoder(EncoderSettings(name=NAME, weights=imagenet), size).eval()
    data = resolve_data_config(model=plain) | {"input_size": (3, size, size), "crop_pct": 1.0}
    as_timm = create_transform(**data)
    paths = sorted((real_data / "nih1024").rglob("*.png"))[:6]
    grays = [
        cv2.resize(read_image(path), (size, size), interpolation=cv2.INTER_AREA) for path in paths
    ]
    assert len(grays) == 6
    with torch.no_grad():
        wanted = plain(torch.stack([as_timm(Image.fromarray(g).convert("RGB")) for g in grays]))
        images = torch.from_numpy(np.stack(grays))[:, None].float() / 255
        pooled = encoder(images, torch.ones(6, size, size, dtype=torch.bool)).pooled
    assert wanted.std(dim=0).max() > 0.1  # features that tell images apart
    assert ((pooled - wanted).abs().max() / wanted.abs().max()).item() < 1e-5


def validation_auc(root: Path, out: Path, seed: int, weights: Path | None) -> float:
    """The validation mean AUC after one epoch of fine-tuning."""
    config = configure(
        "direct",
        {
            "seed": seed,
            "data": {
                "root": str(root),
                "img_size": SIZE,
                "batch_size": 32,
                "num_workers": 0,
                "split": "random",
                "val_fraction": 0.4,
                "test_fraction": 0.02,
                "cache_dir": str(root / "cache"),
            },
            "encoder": {
                "name": NAME,
                "pretrained": weights is not None,
                "weights": str(weights) if weights else None,
            },
            "finetune": {"epochs": 1, "lr": 5e-4, "keep": "last", "warmup_epochs": 0},
            "evaluate": {"bootstrap": 0},
        },
    )
    run = run_method(config, out)
    return float(pd.read_csv(run.finetune_log)["val_mean_auc"].iloc[-1])


@pytest.fixture(scope="module")
def nih(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of some of the patients of the real subset, with all of their images."""
    root = tmp_path_factory.mktemp("nih")
    (root / "images").mkdir()
    table = pd.read_csv(real_data / "nih128" / "Data_Entry_2017.csv")
    some = table.sort_values("Patient ID", kind="stable").head(IMAGES)
    some.to_csv(root / "Data_Entry_2017.csv", index=False)
    for name in some["Image Index"]:
        (root / "images" / name).symlink_to(real_data / "nih128" / "images" / name)
    return root


@pytest.mark.parametrize("seed", SEEDS)
def test_one_epoch_from_imagenet_beats_one_epoch_from_scratch(
    nih: Path, imagenet: Path, tmp_path: Path, seed: int
) -> None:
    scratch = validation_auc(nih, tmp_path / "scratch", seed, None)
    warm = validation_auc(nih, tmp_path / "imagenet", seed, imagenet)
    print(f"seed {seed}: ImageNet {warm:.3f}, scratch {scratch:.3f}")
    assert warm > scratch
