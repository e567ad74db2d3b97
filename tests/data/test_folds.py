"""Folds: every patient outside the selection group is tested once, and none is on both sides."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from medsgssl.config.schema import DataSettings
from medsgssl.data.catalog import build_catalog
from medsgssl.data.labels import DISEASES, NIH
from medsgssl.data.splits import SELECTION, SELECTION_SHARE, assign_splits, fold_of_patients
from medsgssl.evaluation.few_patients import MIN_PATIENTS, MIN_PATIENTS_PER_FOLD
from medsgssl.study.tested_images import study_images

from .conftest import MakeSet
from .test_splits import _table

FOLDS = 5


def _split(table: pd.DataFrame, fold: int | str) -> pd.Series:
    settings = DataSettings(folds=FOLDS, fold=fold)  # type: ignore[arg-type]
    return assign_splits(table, settings, None, "folder", NIH)[0]


def _patients(table: pd.DataFrame, split: pd.Series, name: str) -> set[str]:
    return set(table.loc[split == name, "patient_id"])


def test_every_patient_outside_the_selection_group_is_tested_once() -> None:
    table = _table()
    tested = [_patients(table, _split(table, fold), "test") for fold in range(FOLDS)]
    selection = _patients(table, _split(table, "selection"), "test")
    assert len(selection) == pytest.approx(SELECTION_SHARE * 400, abs=2)
    assert sum(map(len, tested)) == len(set.union(*tested))
    assert set.union(*tested) | selection == set(table["patient_id"])
    assert not set.union(*tested) & selection
    assert max(map(len, tested)) - min(map(len, tested)) <= 8


def test_no_patient_is_trained_on_and_tested() -> None:
    table = _table()
    for fold in (*range(FOLDS), "selection"):
        split = _split(table, fold)
        parts = [_patients(table, split, name) for name in ("train", "val", "test")]
        assert all(parts)
        for n, part in enumerate(parts):
            for other in parts[:n]:
                assert not part & other
        assert len(parts[1]) == pytest.approx(0.1 * len(parts[0] | parts[1]), rel=0.25)


def test_the_selection_group_is_training_data_of_the_folds_and_unseen_in_the_screen() -> None:
    table = _table()
    selection = _patients(table, _split(table, "selection"), "test")
    for fold in range(FOLDS):
        split = _split(table, fold)
        assert selection <= _patients(table, split, "train") | _patients(table, split, "val")
    screen = _split(table, "selection")
    fold_0 = _patients(table, _split(table, 0), "test")
    learnt = _patients(table, screen, "train") | _patients(table, screen, "val")
    # What is tested first in the decision has no part in the choice of settings.
    assert not learnt & (fold_0 | selection)


def test_rare_diseases_are_spread_over_the_folds() -> None:
    rng = np.random.default_rng(0)
    labels = rng.random((600, 14)) < np.geomspace(0.3, 0.012, 14)
    fold = fold_of_patients(labels, FOLDS, 0)
    tested = labels[fold != SELECTION]
    for d in range(14):
        counts = np.bincount(fold[(fold != SELECTION) & labels[:, d]], minlength=FOLDS)
        assert counts.max() - counts.min() <= max(2, 0.25 * counts.mean()), DISEASES[d]
        assert counts.min() > 0 or tested[:, d].sum() < FOLDS


def test_folds_replace_the_list_files(make_set: MakeSet) -> None:
    settings = make_set(60).model_copy(update={"folds": 3, "fold": 1})
    catalog = build_catalog(settings)
    assert catalog.summary["split"]["kind"] == "folds"


def test_real_folds_hold_whole_patients_and_rare_diseases(real_data: Path) -> None:
    settings = DataSettings(root=real_data / "nih128")
    tested = study_images(build_catalog(settings), FOLDS, settings.split_seed)
    patients = tested.patients.to_numpy()
    seen = [set(patients[part]) for part in tested.parts]
    assert sum(map(len, seen)) == len(set.union(*seen))
    assert len(set.union(*seen)) == pytest.approx(1630, abs=10)
    for name, primary, column in zip(tested.names, tested.primary, tested.labels.T, strict=True):
        per_fold = [len(set(patients[part & (column == 1)])) for part in tested.parts]
        wanted = sum(per_fold) >= MIN_PATIENTS and min(per_fold) >= MIN_PATIENTS_PER_FOLD
        assert primary == wanted, name
        assert max(per_fold) - min(per_fold) <= max(3, 0.25 * np.mean(per_fold)), name
