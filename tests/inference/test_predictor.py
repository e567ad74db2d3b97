"""A file scored alone gets the score that the run gave it, and bad files cost only themselves."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

import medsgssl
from medsgssl.errors import CheckpointError, MaskError
from medsgssl.inference.bundle import read_bundle
from medsgssl.inference.predictor import RESEARCH_ONLY, Predictor, check_views, draw_prediction
from tests.conftest import TrainedRun

METHODS = ["simclr", "guided-crop", "mask-channel", "attention-prior", "anatomy-masked-attention"]


def test_files(phantom_set: Path, run_folder: Path, count: int) -> tuple[list[Path], pd.DataFrame]:
    """Return test images of the run's data and their predictions."""
    table = pd.read_parquet(run_folder / "predictions.parquet")
    table = table[table["split"] == "test"].head(count)
    found = {path.name: path for path in phantom_set.rglob("*.png") if "mask" not in str(path)}
    return [found[name] for name in table["image_id"]], table


test_files.__test__ = False  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", METHODS)
def test_a_test_image_gets_the_score_of_the_run(
    name: str, trained_run: TrainedRun, phantom_set: Path
) -> None:
    run = trained_run(name)
    files, wanted = test_files(phantom_set, run.path, 18)
    predictor = Predictor.load(run.path)
    found = predictor.predict(files)
    for disease in predictor.classes:
        np.testing.assert_array_equal(
            found[f"{disease}_score"].astype("float32"),
            wanted[f"score_{disease}"].astype("float32"),
            err_msg=disease,
        )


def test_rows_say_what_was_read_and_nothing_else(
    trained_run: TrainedRun, phantom_set: Path, tmp_path: Path
) -> None:
    run = trained_run("guided-crop")
    (good, *_), _ = test_files(phantom_set, run.path, 1)
    bad = tmp_path / "bad.png"
    bad.write_bytes(good.read_bytes()[:200])
    table = medsgssl.predict(run.path, [good, bad, good])
    assert list(table["status"]) == ["ok", "unreadable", "ok"]
    assert str(bad) in table["problem"][1]
    assert table["Effusion"].isna().tolist() == [False, True, False]
    assert table["Effusion"][0] == table["Effusion"][2]
    assert 0 < table["mask_quality"][0] <= 1
    assert set(table["use"]) == {RESEARCH_ONLY}


def test_a_file_on_which_a_decoder_crashes_costs_only_itself(
    trained_run: TrainedRun, phantom_set: Path, tmp_path: Path, crashing_decoder: None
) -> None:
    run = trained_run("simclr")
    (good, *_), _ = test_files(phantom_set, run.path, 1)
    content = cv2.imencode(".tif", cv2.imread(str(good), cv2.IMREAD_UNCHANGED))[1].tobytes()
    crash, whole = tmp_path / "crash.tif", tmp_path / "whole.tif"
    crash.write_bytes(content + b"CRASH")
    whole.write_bytes(content)
    table = medsgssl.predict(run.path, [good, crash, whole])
    assert list(table["status"]) == ["ok", "unreadable", "ok"]
    assert table["problem"][1] == (
        f"{crash} ends the process that reads it (SIGSEGV); convert it to PNG with another "
        "program, or take it out of the set"
    )
    assert table["Effusion_score"][2] == table["Effusion_score"][0]


def test_thresholds_and_temperatures_come_from_validation(
    trained_run: TrainedRun, phantom_set: Path
) -> None:
    predictor = Predictor.load(trained_run("simclr").path)
    files, _ = test_files(phantom_set, trained_run("simclr").path, 12)
    table = predictor.predict(files)
    for disease in predictor.classes:
        threshold = predictor.bundle.thresholds.get(disease)
        if threshold is None:
            assert table[f"{disease}_positive"].isna().all()
        else:
            reached = table[f"{disease}_score"] >= threshold
            assert (table[f"{disease}_positive"] == reached).all()
        # A temperature changes probabilities, never their order.
        order = np.argsort(table[disease], kind="stable")
        assert (np.diff(table[f"{disease}_score"].to_numpy()[order]) >= -1e-6).all()
    assert predictor.bundle.temperatures


def test_features_are_the_pooled_ones(trained_run: TrainedRun, phantom_set: Path) -> None:
    run = trained_run("multi-region")
    files, _ = test_files(phantom_set, run.path, 3)
    predictor = Predictor.load(run.path)
    features = predictor.embed(files)
    encoder = predictor.bundle.classifier.encoder
    assert features.shape == (3, encoder.num_features)
    (scored,) = predictor.score(files[:1])
    assert len(predictor.feature_names()) == features.shape[1] + len(scored.region_features)
    assert scored.region_features.any()


def test_overlays_show_outline_and_heat(trained_run: TrainedRun, phantom_set: Path) -> None:
    run = trained_run("guided-crop")
    files, _ = test_files(phantom_set, run.path, 1)
    predictor = Predictor.load(run.path)
    (scored,) = predictor.score(files)
    picture = draw_prediction(predictor, scored, side=64)
    assert picture.shape == (64, 128, 3)
    assert (np.ptp(picture.astype(int), axis=2) > 20).any()


def test_a_folder_without_classifier_is_refused(tmp_path: Path, trained_run: TrainedRun) -> None:
    with pytest.raises(CheckpointError, match="holds no trained classifier"):
        Predictor.load(tmp_path)
    with pytest.raises(CheckpointError, match="holds no trained classifier"):
        Predictor.load(tmp_path / "nowhere.safetensors")


def test_the_check_of_an_export_uses_the_images_of_the_run(trained_run: TrainedRun) -> None:
    bundle = Predictor.load(trained_run("simclr").path).bundle
    views, masks, origin = check_views(bundle)
    assert views.dtype.is_floating_point is False
    assert views.shape[1:] == (1, 32, 32)
    assert masks.shape[0] == len(views)
    assert origin == "images of the run"


def test_prediction_draws_masks_as_the_run_did(trained_run: TrainedRun, phantom_set: Path) -> None:
    run = trained_run("guided-crop")
    files, _ = test_files(phantom_set, run.path, 1)
    bundle = read_bundle(run.path)

    def lung(**changes: object) -> int:
        masks = bundle.config.masks.model_copy(update=changes)
        config = bundle.config.model_copy(update={"masks": masks})
        (scored,) = Predictor(replace(bundle, config=config)).score(files)
        assert scored.mask is not None
        return int(scored.mask.mask.sum())

    assert lung(heart="include") > lung() > 0
    weights = run.path / "none.safetensors"
    student = replace(bundle, mask_recipe="distilled")
    masks = bundle.config.masks.model_copy(update={"weights": weights})
    student = replace(student, config=bundle.config.model_copy(update={"masks": masks}))
    with pytest.raises(MaskError, match=r"none\.safetensors are missing"):
        list(Predictor(student).score(files))
