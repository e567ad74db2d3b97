"""Pretraining on several data sets: the NIH layout, the CheXpert layout and a plain folder."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from medsgssl.config import Config
from medsgssl.errors import ConfigError, LeakError
from medsgssl.pipeline import run_method
from medsgssl.runs import RunFolder
from medsgssl.sources.phantom import generate_phantoms

Build = Callable[..., Config]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve images without labels."""
    root = tmp_path_factory.mktemp("several") / "plain"
    made = generate_phantoms(root.with_name("made"), 12, size=64, seed=7)
    for number, path in enumerate(sorted((made / "images").iterdir())):
        root.mkdir(exist_ok=True)
        shutil.copy(path, root / f"p{number}.png")
    return root


@pytest.fixture(scope="module")
def chexpert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve images in the CheXpert layout."""
    root = tmp_path_factory.mktemp("several") / "chexpert"
    made = generate_phantoms(root.with_name("other"), 12, size=64, seed=8)
    lines = ["Path,Sex,Age,Frontal/Lateral,AP/PA,No Finding"]
    for number, path in enumerate(sorted((made / "images").iterdir())):
        name = f"train/patient{number:05d}/study1/view1_frontal.png"
        (root / name).parent.mkdir(parents=True)
        shutil.copy(path, root / name)
        lines.append(f"CheXpert-v1.0/{name},Male,50,Frontal,AP,1.0")
    (root / "train.csv").write_text("\n".join(lines))
    return root


def test_all_sets_are_pretrained_on_and_the_domain_term_is_logged(
    tmp_path: Path, small_run: Build, folder: Path, chexpert: Path
) -> None:
    config = small_run(
        "anatomy-masked-attention",
        data={"also": [str(folder), str(chexpert)], "batch_size": 12},
        encoder={"name": "vit_tiny_patch16_224", "patch_size": 8},
    )
    run = run_method(config, tmp_path / "run")
    log = pd.read_csv(run.pretrain_log)
    assert (log["domain"] > 0).all()
    also = json.loads(run.data.read_text())["also"]
    assert [(found["kind"], found["trained_on"]) for found in also.values()] == [
        ("folder", 12),
        ("chexpert", 12),
    ]
    assert "Also pretrained on" in run.report.read_text(encoding="utf-8")


def test_further_sets_change_the_encoder_and_nothing_of_the_direct_twin(
    tmp_path: Path, small_run: Build, folder: Path
) -> None:
    also = {"data": {"also": [str(folder)]}}
    stages = {}
    for name, tree, direct in (
        ("alone", {}, False),
        ("also", also, False),
        ("direct", {}, True),
        ("direct-also", also, True),
    ):
        run = RunFolder(tmp_path / name)
        run_method(small_run("simclr", direct=direct, **tree), run.path, until="finetune")
        stages[name] = (run.key_of("pretrain"), run.key_of("finetune"))
    assert stages["alone"][0] != stages["also"][0]
    assert stages["direct"] == stages["direct-also"]


def test_a_set_may_not_bring_test_images_into_training(
    tmp_path: Path, small_run: Build, phantom_set: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(phantom_set / "images", copy)
    config = small_run("simclr", data={"also": [str(copy)]})
    with pytest.raises(LeakError, match="of the validation and test splits"):
        run_method(config, tmp_path / "run", until="pretrain")


def test_a_set_named_twice_is_refused(tmp_path: Path, small_run: Build, phantom_set: Path) -> None:
    config = small_run("simclr", data={"also": [str(phantom_set)]})
    with pytest.raises(ConfigError, match="again"):
        run_method(config, tmp_path / "run", until="pretrain")


def test_batches_that_cannot_be_balanced_are_refused(
    tmp_path: Path, small_run: Build, folder: Path
) -> None:
    config = small_run("simclr", data={"also": [str(folder)], "batch_size": 15})
    with pytest.raises(ConfigError, match="balanced over 2 data sets"):
        run_method(config, tmp_path / "run", until="pretrain")
