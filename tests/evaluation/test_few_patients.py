"""Who is counted where a number needs enough patients."""

from __future__ import annotations

import numpy as np

from medsgssl.data.labels import DISEASES
from medsgssl.evaluation.few_patients import (
    MIN_PATIENTS,
    MIN_PATIENTS_PER_FOLD,
    class_patients,
    enough_patients,
)
from medsgssl.evaluation.predictions import Predictions


def test_patients_of_either_class_are_counted_and_not_images(make_table):
    table = make_table(patients=90)
    split = Predictions(table).split("test")
    positive, negative = class_patients(split)
    for d in range(len(DISEASES)):
        for counts, value in ((positive, 1), (negative, 0)):
            owners = split.table["patient_id"][split.labels[:, d] == value]
            assert counts[d] == owners.nunique()
    rows = np.arange(len(split)) % 4 == 0
    assert (class_patients(split, rows)[0] <= positive).all()
    assert class_patients(split, ~rows & False)[0].sum() == 0


def test_a_disease_needs_enough_patients_of_the_rarer_class(make_table):
    table = make_table(patients=90)
    owner = table["patient_id"].astype(int)
    tested = owner[table["split"] == "test"].unique()
    for name, count in (("Mass", MIN_PATIENTS), ("Hernia", MIN_PATIENTS - 1)):
        table[f"label_{name}"] = owner.isin(tested[:count]).astype(np.uint8)
    # As few without the disease as are too few with one.
    table["label_Edema"] = 1 - table["label_Hernia"]
    split = Predictions(table).split("test")
    found = dict(zip(split.names, enough_patients(split), strict=True))
    assert found["Mass"]
    assert not found["Hernia"]
    assert not found["Edema"]
    fewer = dict(zip(split.names, enough_patients(split, MIN_PATIENTS - 1), strict=True))
    assert fewer["Hernia"]
    assert fewer["Edema"]
    # As the documentation says.
    assert (MIN_PATIENTS, MIN_PATIENTS_PER_FOLD) == (20, 5)
