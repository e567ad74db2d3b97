"""The student: what it is taught, what it remembers to have seen, and what its mask is worth."""

import subprocess
import sys
from dataclasses import replace

import cv2
import numpy as np
import pandas as pd
import pytest
import torch

from medsgssl.config.schema import DataSettings, MaskSettings
from medsgssl.data.catalog import load_or_build
from medsgssl.data.mask_choice import choose_masks
from medsgssl.data.synthetic.dataset import generate_phantoms
from medsgssl.data.synthetic.render import render_phantom
from medsgssl.errors import MaskError
from medsgssl.masks.agreement import dice
from medsgssl.masks.recipes.anatomic.recipe import analyze
from medsgssl.masks.recipes.distilled import recipe as distilled
from medsgssl.masks.recipes.distilled import train
from medsgssl.masks.recipes.distilled.augment import augment_pair
from medsgssl.masks.recipes.distilled.network import Student, fused
from medsgssl.masks.recipes.distilled.pixels import SIDE, student_input, to_square
from medsgssl.masks.recipes.distilled.student_weights import (
    SHIPPED,
    StudentCard,
    read_card,
    read_seen,
    save_student,
)
from medsgssl.masks.recipes.distilled.train import TrainSettings, train_student
from medsgssl.masks.types import LungMask
from medsgssl.utils.rng import generator

CARD = StudentCard("phantoms", 3, 2, "anything else", "anatomic, version 2", 7, {}, [])


def seen_of(names, patients):
    return pd.DataFrame({"name": names, "patient": patients, "source": "nih"})


@pytest.fixture
def weights(tmp_path):
    torch.manual_seed(0)
    seen = seen_of(["a_1", "b_1"], ["nih 00000001", ""])
    save_student(tmp_path / "w.safetensors", Student().state_dict(), CARD, seen)
    return tmp_path / "w.safetensors"


def test_importing_the_masks_never_imports_torch():
    code = "import sys, medsgssl.masks, medsgssl.data.mask_choice; print('torch' in sys.modules)"
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "False"


def test_the_folded_network_gives_the_same_logits():
    torch.manual_seed(0)
    student = Student()
    student.train()
    student(torch.randn(4, 2, 32, 32) * 3 + 1)
    student.eval()
    images = torch.randn(2, 2, SIDE, SIDE)
    with torch.no_grad():
        assert torch.allclose(student(images), fused(student)(images), atol=1e-4)


def test_augmentation_moves_the_label_with_the_picture_and_repeats_from_its_seed(phantom):
    square, _ = to_square(phantom.image)
    lungs = cv2.resize((phantom.left_lung | phantom.right_lung).astype(np.float32), (SIDE, SIDE))
    darker = []
    for number in range(20):
        pictures = [augment_pair(square, lungs, generator(0, "test", number)) for _ in range(2)]
        assert (pictures[0][0] == pictures[1][0]).all()
        picture, label = pictures[0]
        assert 0.0 <= label.min() <= label.max() <= 1.0
        inside, chest = label > 0.5, cv2.dilate(label, np.ones((9, 9))) > 0.5
        if inside.sum() > 200:
            darker.append(picture[inside].mean() < picture[chest & ~inside].mean())
    assert np.mean(darker) > 0.7


def test_the_input_is_the_same_for_any_exposure(phantom):
    square, _ = to_square(phantom.image)
    dull = (square * 0.5 + 60).astype(np.uint8)
    assert np.abs(student_input(square)[0] - student_input(dull)[0]).mean() < 0.1


def test_weights_keep_their_card_and_what_was_seen(weights):
    assert read_card(weights) == CARD
    assert read_seen(weights)["patient"].tolist() == ["nih 00000001", ""]
    with pytest.raises(MaskError, match="missing") as caught:
        read_card(weights.with_name("none.safetensors"))
    assert "masks train" in caught.value.fix


@pytest.fixture(scope="module")
def split(tmp_path_factory):
    """The catalog of a data set like NIH with a validation and a test split."""
    folder = tmp_path_factory.mktemp("nih")
    generate_phantoms(folder / "data", 40, 48)
    settings = DataSettings(root=folder / "data", split="random", cache_dir=folder / "cache")
    return load_or_build(settings)


def choose(catalog, **settings):
    return choose_masks(MaskSettings(**settings), catalog)


@pytest.mark.parametrize("held", ["val", "test"])
def test_a_student_that_saw_held_out_patients_is_refused_by_name_and_avoided_by_auto(
    tmp_path, split, held
):
    row = split.table[split.table["split"] == held].iloc[0]
    patient = f"nih {int(row['patient_id']):08d}"
    path = tmp_path / "student.safetensors"
    save_student(path, Student().state_dict(), CARD, seen_of(["other"], [patient]))
    with pytest.raises(MaskError, match="saw 1 image") as caught:
        choose(split, recipe="distilled", weights=path)
    assert "masks.recipe=anatomic" in caught.value.fix
    assert "masks train" in caught.value.fix
    choice = choose(split, recipe="auto", weights=path)
    assert choice.maker.name == "anatomic"
    assert "saw 1 image" in choice.reason


def test_a_student_that_saw_training_patients_alone_is_taken(tmp_path, split):
    row = split.table[split.table["split"] == "train"].iloc[0]
    path = tmp_path / "student.safetensors"
    seen = seen_of([row["image_id"].removesuffix(".png")], [f"nih {int(row['patient_id']):08d}"])
    save_student(path, Student().state_dict(), CARD, seen)
    choice = choose(split, recipe="auto", weights=path)
    assert choice.maker.name == "distilled"
    assert "no image" in choice.reason
    assert choose(split, recipe="distilled", weights=path).reason == ""


def test_unknown_recipes_are_refused_before_any_work(split):
    with pytest.raises(MaskError, match="no mask recipe 'rules9'"):
        choose(split, recipe="rules9")


def test_the_quality_is_the_agreement_of_rules_and_student(monkeypatch, phantom):
    lungs = phantom.left_lung | phantom.right_lung

    def student(mask):
        value = cv2.resize(mask.astype(np.float32), (256, 256)) * 0.98 + 0.01
        monkeypatch.setattr(distilled, "probability", lambda image, weights: value)
        return distilled.draw(phantom.image, SHIPPED)

    agreed = student(lungs)
    assert agreed.status == "ok"
    assert dice(agreed.mask, lungs) > 0.95
    half = student(phantom.right_lung)
    assert half.quality < 0.5 < agreed.quality
    assert half.status in {"doubtful", "failed"}
    assert "rules and student" in half.reason
    assert student(np.zeros_like(lungs)).status == "failed"


def test_a_sure_student_alone_is_doubtful_and_never_taken_for_a_view_from_the_side(
    monkeypatch, phantom
):
    lungs = phantom.left_lung | phantom.right_lung
    symmetric = lungs | lungs[:, ::-1]
    analysis = analyze(phantom.image)
    none = LungMask.failed(symmetric.shape, "no dark region looks like a lung")

    def drawn(mask, trace=None, sure=0.98):
        value = cv2.resize(mask.astype(np.float32), (256, 256)) * (sure - 0.01) + 0.01
        monkeypatch.setattr(distilled, "probability", lambda image, weights: value)
        found = replace(analysis, lungs=none, trace=trace)
        monkeypatch.setattr(distilled, "analyze", lambda image: found)
        return distilled.draw(phantom.image, SHIPPED)

    alone = drawn(symmetric)
    assert alone.status == "doubtful"
    assert "no dark region" in alone.reason
    assert dice(alone.mask, cv2.resize(symmetric.astype(np.uint8), (256, 256)) > 0) > 0.95
    left = symmetric.copy()
    left[:, : left.shape[1] // 2] = False
    assert drawn(left).status == "failed"
    # The mirror image of a mask of one's own side is another mask.
    shifted = np.roll(symmetric, 40, axis=1)
    assert drawn(shifted).status == "failed"
    assert drawn(symmetric, sure=0.7).status == "failed"
    assert analysis.trace is not None
    sideways = replace(analysis.trace, appraisal=replace(analysis.trace.appraisal, midline=0.1))
    assert drawn(symmetric, trace=sideways).status == "failed"


def test_a_middle_that_is_hardly_dense_makes_a_mask_doubtful(monkeypatch, phantom):
    lungs = phantom.left_lung | phantom.right_lung
    value = cv2.resize(lungs.astype(np.float32), (256, 256)) * 0.98 + 0.01
    monkeypatch.setattr(distilled, "probability", lambda image, weights: value)
    analysis = analyze(phantom.image)
    appraisal = replace(analysis.trace.appraisal, midline=distilled.PARAMETERS.weak_midline - 0.01)
    weak = replace(analysis, trace=replace(analysis.trace, appraisal=appraisal))
    assert distilled.draw(phantom.image, SHIPPED).status == "ok"
    monkeypatch.setattr(distilled, "analyze", lambda image: weak)
    drawn = distilled.draw(phantom.image, SHIPPED)
    assert drawn.status == "doubtful"
    assert "from the side" in drawn.reason


def test_a_third_part_and_a_white_lung_make_a_mask_doubtful(monkeypatch, phantom):
    lungs = phantom.left_lung | phantom.right_lung

    def drawn(mask, image=phantom.image):
        value = cv2.resize(mask.astype(np.float32), (256, 256)) * 0.98 + 0.01
        monkeypatch.setattr(distilled, "probability", lambda image, weights: value)
        analysis = analyze(phantom.image)
        monkeypatch.setattr(distilled, "analyze", lambda image: analysis)
        return distilled.draw(image, SHIPPED)

    assert drawn(lungs).status == "ok"
    more = lungs.copy()
    more[228:, 80:180] = True
    third = drawn(more)
    assert third.status == "doubtful"
    assert "3 parts" in third.reason
    between = phantom.image[
        ~lungs & (np.cumsum(lungs, 1) > 0) & (np.cumsum(lungs[:, ::-1], 1)[:, ::-1] > 0)
    ]
    white = np.where(phantom.left_lung, np.uint8(between.mean()), phantom.image).astype(np.uint8)
    guessed = drawn(lungs, white)
    assert guessed.status == "doubtful"
    assert "as white as the middle" in guessed.reason
    assert guessed.quality <= distilled.PARAMETERS.alone_quality
    assert dice(guessed.mask, drawn(lungs).mask) == 1.0


@pytest.mark.slow
def test_training_repeats_from_its_seed_continues_when_killed_and_learns(tmp_path, monkeypatch):
    items, groups = [], []
    for number in range(90):
        path = tmp_path / f"{number}.png"
        cv2.imwrite(str(path), render_phantom(0, number, 160, view_position="PA").image)
        items.append((path.name, path))
        groups.append(str(number // 2))
    settings = TrainSettings(epochs=(2, 1), held_out=0.2, least_stability=0.0)
    rounds = {}
    whole, log = train_student(
        items,
        groups,
        tmp_path / "whole",
        settings,
        on_round=lambda number, weights, _: rounds.update({number: weights}),
    )
    assert log[1]["loss"] < log[0]["loss"]
    first, _ = train_student(
        items, groups, tmp_path / "one", replace(settings, epochs=settings.epochs[:1])
    )
    assert all((rounds[1][name] == first[name]).all() for name in first)
    assert all((rounds[2][name] == whole[name]).all() for name in whole)

    monkeypatch.setattr(train, "SAVE_SECONDS", 0.0)
    steps = []
    step = train._step

    def killed(*args):
        steps.append(None)
        if len(steps) in (3, 8):
            raise KeyboardInterrupt
        return step(*args)

    monkeypatch.setattr(train, "_step", killed)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            train_student(items, groups, tmp_path / "killed", settings)
    again, other = train_student(items, groups, tmp_path / "killed", settings)
    assert other == log
    assert all((whole[name] == again[name]).all() for name in whole)


@pytest.mark.real
@pytest.mark.parametrize("name", ["montgomery", "shenzhen"])
def test_the_shipped_student_is_as_good_as_the_rules(real_data, name):
    from medsgssl.masks.benchmark import find_pairs, scored_images

    folder = real_data / "lung_masks" / name
    pairs = find_pairs(folder / "images", folder / "masks")[::8]
    scores = {
        recipe: np.mean([one.row()["dice"] for one in scored_images(pairs, recipe)])
        for recipe in ("anatomic", "distilled")
    }
    assert scores["distilled"] > scores["anatomic"] - 0.002
    assert scores["distilled"] > 0.93
