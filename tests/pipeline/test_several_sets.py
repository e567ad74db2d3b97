"""Pretraining on several data sets: the NIH layout, the CheXpert layout and a plain folder."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console

from medsgssl.api import run as run_method
from medsgssl.config.schema import Config
from medsgssl.data.prepare import prepare_data
from medsgssl.data.synthetic.dataset import generate_phantoms
from medsgssl.errors import ConfigError, DataError, LeakError
from medsgssl.runs.folder import RunFolder
from medsgssl.study.collect import collect_runs

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
        data={"extra_roots": [str(folder), str(chexpert)], "batch_size": 12},
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
    also = {"data": {"extra_roots": [str(folder)]}}
    stages = {}
    for name, tree, no_pretrain in (
        ("alone", {}, False),
        ("also", also, False),
        ("direct", {}, True),
        ("direct-also", also, True),
    ):
        run = RunFolder(tmp_path / name)
        run_method(small_run("simclr", no_pretrain=no_pretrain, **tree), run.path, until="finetune")
        stages[name] = (run.key_of("pretrain"), run.key_of("finetune"))
    assert stages["alone"][0] != stages["also"][0]
    assert stages["direct"] == stages["direct-also"]


@pytest.mark.parametrize("place", ["copy", "images_001", "above/images_001"])
def test_images_of_the_first_set_are_set_aside_wherever_they_lie(
    tmp_path: Path, small_run: Build, phantom_set: Path, folder: Path, place: str
) -> None:
    root = tmp_path / "more"
    shutil.copytree(folder, root)
    shutil.copytree(phantom_set / "images", root / place)
    config = small_run("simclr", data={"extra_roots": [str(root)]})
    data = prepare_data(config, Console(quiet=True), needs_masks=True)
    found = data.summary["also"]["1: more"]
    held = (data.catalog.table["split"] != "train").sum()
    assert found["images"] == 12 + len(data.catalog.table)
    assert found["trained_on"] == 12
    assert found["set_aside_as_held_out"] == held
    assert found["already_in_the_first"] == len(data.catalog.table) - held
    assert any("set aside" in text for text in data.summary["warnings"])


def test_patients_held_out_are_set_aside_in_another_part_of_nih(
    tmp_path: Path, small_run: Build, phantom_set: Path
) -> None:
    # The same patients under other image names, in the NIH layout.
    root = tmp_path / "part"
    (root / "images").mkdir(parents=True)
    table = (phantom_set / "Data_Entry_2017.csv").read_text().splitlines()
    for path in (phantom_set / "images").iterdir():
        shutil.copy(path, root / "images" / path.name.replace(".png", "_later.png"))
    lines = [table[0], *(line.replace(".png", "_later.png", 1) for line in table[1:])]
    (root / "Data_Entry_2017.csv").write_text("\n".join(lines))
    config = small_run("simclr", data={"extra_roots": [str(root)]})
    data = prepare_data(config, Console(quiet=True), needs_masks=True)
    patients = data.catalog.table.groupby("split")["patient_id"].agg(set)
    seen = {name.removeprefix("nih ").lstrip("0") for name in data.pretrained_on["patient"]}
    assert seen == patients["train"]
    assert data.summary["also"]["1: part"]["set_aside_as_held_out"] > 0


def test_a_set_of_which_nothing_is_left_is_an_error(
    tmp_path: Path, small_run: Build, phantom_set: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(phantom_set / "images", copy)
    config = small_run("simclr", data={"extra_roots": [str(copy)]})
    with pytest.raises(DataError, match="can be pretrained on beside"):
        run_method(config, tmp_path / "run", until="pretrain")


def test_weights_that_saw_test_images_are_refused(tmp_path: Path, small_run: Build) -> None:
    everything = small_run("simclr", data={"split": "train"}, pretrain={"probe_every": 0})
    origin = run_method(everything, tmp_path / "origin", until="pretrain")
    with pytest.raises(LeakError, match="was pretrained on"):
        run_method(small_run("simclr"), tmp_path / "run", pretrained=origin.pretrained)
    lost = tmp_path / "lost.safetensors"
    shutil.copy(origin.pretrained, lost)
    run = run_method(small_run("simclr"), tmp_path / "unsure", until="data", pretrained=lost)
    assert any("pretrained_on.parquet" in w for w in json.loads(run.data.read_text())["warnings"])


def test_a_users_own_masks_are_those_of_the_first_set_alone(
    tmp_path: Path, small_run: Build, phantom_set: Path, folder: Path
) -> None:
    masks = phantom_set / "lung_masks"
    config = small_run(
        "mask-channel", data={"extra_roots": [str(folder)]}, masks={"source": str(masks)}
    )
    data = prepare_data(config, Console(quiet=True), needs_masks=True)
    assert data.summary["masks"]["source"] == str(masks)
    assert data.summary["also"]["1: plain"]["mask_source"] == "rules"


def test_a_set_named_twice_is_refused(tmp_path: Path, small_run: Build, phantom_set: Path) -> None:
    config = small_run("simclr", data={"extra_roots": [str(phantom_set)]})
    with pytest.raises(ConfigError, match="again"):
        run_method(config, tmp_path / "run", until="pretrain")


def test_batches_that_cannot_be_balanced_are_refused(
    tmp_path: Path, small_run: Build, folder: Path
) -> None:
    config = small_run("simclr", data={"extra_roots": [str(folder)], "batch_size": 15})
    with pytest.raises(ConfigError, match="balanced over 2 data sets"):
        run_method(config, tmp_path / "run", until="pretrain")


def test_a_set_smaller_than_its_part_of_a_batch_is_refused(
    tmp_path: Path, small_run: Build, folder: Path
) -> None:
    config = small_run("simclr", data={"extra_roots": [str(folder)], "batch_size": 32})
    with pytest.raises(ConfigError, match="12 training images, fewer than its 16"):
        run_method(config, tmp_path / "run", until="pretrain")


def test_patient_ids_of_another_hospital_mean_nothing_here(
    tmp_path: Path, small_run: Build, phantom_set: Path
) -> None:
    root = tmp_path / "hospital"
    (root / "images").mkdir(parents=True)
    table = (phantom_set / "Data_Entry_2017.csv").read_text().splitlines()
    lines = [table[0]]
    for line in table[1:]:
        name, _, rest = line.partition(",")
        scan = f"scan{name.replace('_', '-')}"
        shutil.copy(phantom_set / "images" / name, root / "images" / scan)
        lines.append(f"{scan},{rest}")
    (root / "Data_Entry_2017.csv").write_text("\n".join(lines))
    data = prepare_data(
        small_run("simclr", data={"extra_roots": [str(root)]}),
        Console(quiet=True),
        needs_masks=True,
    )
    found = data.summary["also"]["1: hospital"]
    assert found["trained_on"] == found["images"]


def test_folders_of_one_name_that_hold_other_images_are_no_seeds_of_one_arm(
    tmp_path: Path, small_run: Build, folder: Path
) -> None:
    identities = []
    for place in ("one", "two"):
        more = tmp_path / place / "more"
        shutil.copytree(folder, more)
        if place == "two":
            (more / "p0.png").unlink()
        config = small_run("simclr", data={"extra_roots": [str(more)]}, seed=len(identities))
        run = run_method(config, tmp_path / f"run-{place}")
        identities.append(collect_runs([run.path]).runs[0].identity())
    assert identities[0] != identities[1]
