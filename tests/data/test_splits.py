"""Splits are by patient, reproducible, stratified and never leak."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from medsgssl.config.schema import DataSettings
from medsgssl.data.catalog import build_catalog
from medsgssl.data.labels import DISEASES, NIH
from medsgssl.data.official import nih_test_patients, nih_val_patients
from medsgssl.data.splits import assign_splits, check_leaks
from medsgssl.data.stratify import draw_label_fraction, stratified_parts
from medsgssl.errors import DataError, LeakError

from .conftest import MakeSet


def _table(patients: int = 400, seed: int = 0) -> pd.DataFrame:
    """Patients with one to five images; the diseases grow rarer from 20 % down to 1.5 %."""
    rng = np.random.default_rng(seed)
    ids = np.repeat(np.arange(patients), rng.integers(1, 6, patients))
    labels = rng.random((len(ids), 14)) < np.linspace(0.2, 0.015, 14)
    table = pd.DataFrame(labels.astype(np.uint8), columns=list(DISEASES))
    table["patient_id"] = ids.astype(str)
    table["image_id"] = [f"{row}.png" for row in range(len(ids))]
    return table


def test_bundled_patients_are_the_published_ones() -> None:
    assert len(nih_test_patients()) == 2797
    assert len(nih_val_patients()) == 3666
    assert not nih_test_patients() & nih_val_patients()


def test_random_split_is_by_patient_and_spreads_rare_diseases() -> None:
    table = _table()
    settings = DataSettings(split="random")
    split, summary = assign_splits(table, settings, None, "folder", NIH)
    assert summary["kind"] == "random"
    assert table.groupby(split)["patient_id"].nunique().to_dict() == pytest.approx(
        {"train": 288, "val": 32, "test": 80}, abs=3
    )
    positive = table.groupby(split)[list(DISEASES)].sum()
    assert (positive > 0).all(axis=None)
    patients = table.groupby("patient_id")[list(DISEASES)].max()
    where = split.groupby(table["patient_id"]).first()
    share = patients[where == "test"].sum() / patients.sum()
    assert (share - 0.2).abs().max() < 0.08


def test_random_split_depends_on_its_seed_alone() -> None:
    table = _table()
    draws = [
        assign_splits(table, DataSettings(split="random", split_seed=seed), None, "nih", NIH)[0]
        for seed in (0, 0, 1)
    ]
    assert draws[0].equals(draws[1])
    assert not draws[0].equals(draws[2])
    shuffled = table.sample(frac=1, random_state=3)
    again, _ = assign_splits(shuffled, DataSettings(split="random"), None, "nih", NIH)
    assert again.sort_index().equals(draws[0])


@pytest.mark.parametrize("patients", [3, 4, 5, 10])
def test_few_patients_still_fill_every_split(patients: int) -> None:
    split, _ = assign_splits(_table(patients), DataSettings(split="random"), None, "folder", NIH)
    assert set(split) == {"train", "val", "test"}


def test_too_few_patients_are_an_error() -> None:
    with pytest.raises(DataError, match="empty"):
        assign_splits(_table(2), DataSettings(split="random"), None, "folder", NIH)


def test_a_label_of_as_many_patients_as_parts_reaches_each_part() -> None:
    labels = np.zeros((1000, 14), bool)
    labels[[3, 500, 900], 13] = True
    part = stratified_parts(labels, (0.72, 0.08, 0.2), 0, "test")
    assert sorted(part[[3, 500, 900]]) == [0, 1, 2]
    assert np.bincount(part).tolist() == pytest.approx([720, 80, 200], abs=1)


def test_leak_names_the_first_ten_patients_and_their_count() -> None:
    patients = pd.Series([str(i) for i in range(12)] * 2)
    with pytest.raises(LeakError, match="12 patients") as caught:
        check_leaks(patients, pd.Series(["train"] * 12 + ["test"] * 12))
    assert caught.value.problem.count(",") == 9


def test_lists_decide_and_validation_is_drawn_from_training_patients(make_set: MakeSet) -> None:
    catalog = build_catalog(make_set())
    rows = catalog.table.set_index("image_id")["split"]
    assert catalog.summary["split"]["kind"] == "lists"
    assert (rows.loc["00000021_000.png":] == "test").all()
    assert catalog.summary["splits"]["val"]["patients"] in {2, 3}
    assert catalog.summary["splits"]["test"]["patients"] == 10


def test_a_patient_in_both_lists_is_a_leak(make_set: MakeSet) -> None:
    settings = make_set()
    assert settings.root is not None
    train, test = settings.root / "train_val_list.txt", settings.root / "test_list.txt"
    names = train.read_text().split()
    train.write_text("\n".join(names[1:]))
    test.write_text("\n".join([*test.read_text().split(), names[0]]))
    with pytest.raises(LeakError, match="1 patient has"):
        build_catalog(settings)
    train.write_text("\n".join(names))
    with pytest.raises(LeakError, match=r"1 image is in both .*test_list\.txt"):
        build_catalog(settings)


def test_incomplete_lists_are_an_error_and_not_a_silent_loss(make_set: MakeSet) -> None:
    settings = make_set()
    assert settings.root is not None
    test = settings.root / "test_list.txt"
    test.write_text("\n".join(test.read_text().split()[2:]))
    with pytest.raises(DataError, match="2 images of the label table are neither in"):
        build_catalog(settings)
    test.unlink()
    with pytest.raises(DataError, match=r"test_list\.txt is not in the data folder"):
        build_catalog(settings)
    build_catalog(settings.model_copy(update={"split": "random"}))


def test_official_split_needs_nih_and_says_which_split_is_empty(make_set: MakeSet) -> None:
    settings = make_set(lists=False).model_copy(update={"split": "official"})
    catalog = build_catalog(settings)
    test = set(catalog.table.loc[catalog.table["split"] == "test", "patient_id"])
    assert test == {str(p) for p in range(1, 31)} & nih_test_patients()
    with pytest.raises(DataError, match="no official split"):
        assign_splits(_table(), settings, None, "folder", NIH)
    table = _table().assign(patient_id="x" + _table()["patient_id"])
    with pytest.raises(DataError, match="leaves test empty"):
        assign_splits(table, settings, None, "nih", NIH)


@pytest.mark.parametrize("seed", [0, 1])
def test_label_fractions_are_nested_by_patient_and_stratified(seed: int) -> None:
    table = _table(1000)
    patients, labels = table["patient_id"].to_numpy(), table[list(DISEASES)].to_numpy()
    smaller = np.zeros(len(table), bool)
    for fraction in (0.0001, 0.01, 0.1, 0.5, 1.0):
        drawn = draw_label_fraction(patients, labels, fraction, seed)
        assert drawn[smaller].all()
        assert drawn.any()
        chosen = set(patients[drawn])
        assert len(chosen) == max(1, round(1000 * fraction))
        assert not chosen & set(patients[~drawn])
        smaller = drawn
    tenth = draw_label_fraction(patients, labels, 0.1, seed)
    assert labels[tenth].any(axis=0).all()
    assert np.array_equal(tenth, draw_label_fraction(patients, labels, 0.1, seed))


@pytest.mark.real
def test_real_lists_hold_whole_patients(real_data: Path) -> None:
    table = build_catalog(DataSettings(root=real_data / "nih128")).table
    check_leaks(table["patient_id"], table["split"])
    listed = (real_data / "nih128" / "test_list.txt").read_text().split()
    assert set(table.loc[table["split"] == "test", "image_id"]) == set(listed)
