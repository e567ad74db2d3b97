from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from medsgssl.config.schema import EvaluateSettings
from medsgssl.evaluation.few_patients import MIN_PATIENTS
from medsgssl.evaluation.jackknife import JackknifedScores
from medsgssl.evaluation.predictions import Predictions
from medsgssl.evaluation.subgroups import groups_of, shortcut_audit, subgroup_results

SETTINGS = EvaluateSettings(bootstrap=1)


def test_groups_leave_out_the_unknown(make_table):
    table = make_table()
    table["age"] = pd.array([pd.NA, 17, 18, 79, 80] * 48, dtype="Int16")
    table.loc[table.index[::7], ["view_position", "sex"]] = ""
    split = Predictions(table).split("test")
    groups = groups_of(split)
    assert list(groups["age"]) == ["0-17", "18-39", "60-79", "80+"]
    known = sum(keep.sum() for keep in groups["age"].values())
    assert known == split.table["age"].notna().sum()
    assert set(groups["view_position"]) == {"AP", "PA"}
    assert (groups["sex"]["F"] | groups["sex"]["M"]).sum() < len(split)


def test_every_age_is_in_one_band_and_bands_hold_the_ages_of_their_names(make_table):
    table = make_table(patients=180)
    table["age"] = pd.array(np.arange(len(table)) % 111, dtype="Int16")
    split = Predictions(table).split("test")
    age, bands = split.table["age"].to_numpy(dtype=int), groups_of(split)["age"]
    assert (np.sum(list(bands.values()), axis=0) == 1).all()
    for name, keep in bands.items():
        low, _, high = name.rstrip("+").partition("-")
        assert age[keep].min() == int(low)
        assert age[keep].max() == (int(high) if high else age.max())


def test_auc_within_a_view(make_table):
    split = Predictions(make_table(patients=90)).split("test")
    found = subgroup_results(split, SETTINGS)["view_position"]["AP"]
    keep = (split.table["view_position"] == "AP").to_numpy()
    assert found["images"] == keep.sum()
    assert found["patients"] == split.table["patient_id"][keep].nunique()
    entry = found["per_disease"]["Edema"]
    expected = roc_auc_score(split.labels[keep, 9], split.scores[keep, 9])
    assert entry["auc"] == pytest.approx(expected, abs=1e-12)
    low, high = entry["auc_interval"]
    assert low < expected < high
    assert found["mean_auc"] is not None
    assert found["mean_auc_interval"] is not None
    assert entry["positives"] == split.labels[keep, 9].sum()
    without = subgroup_results(split, EvaluateSettings(bootstrap=0))["view_position"]["AP"]
    assert without["mean_auc"] == found["mean_auc"]
    assert without["mean_auc_interval"] is None
    assert {one["auc_interval"] for one in without["per_disease"].values()} == {None}


def test_shortcuts_by_hand(make_table):
    table = make_table()
    # The view follows the disease exactly, sex is unknown, every later image has Mass.
    table["view_position"] = np.where(table["label_Edema"] == 1, "AP", "PA")
    table["sex"] = ""
    table.loc[table.index[::3], "age"] = pd.NA
    table["label_Mass"] = (table["image_id"].str[-7:-4].astype(int) >= 2).astype(np.uint8)
    found = shortcut_audit(Predictions(table).split("test"))
    assert found["view_position"]["auc"]["Edema"] == 1.0
    assert found["follow_up"]["auc"]["Mass"] == 1.0
    assert found["sex"]["images"] == 0
    assert found["sex"]["auc"]["Edema"] is None
    assert 0.3 < found["age"]["auc"]["Edema"] < 0.7
    assert found["age"]["images"] == Predictions(table).split("test").table["age"].notna().sum()


def test_a_disease_of_men_goes_with_their_sex(make_table):
    table = make_table()
    table["label_Mass"] = (table["sex"] == "M").astype(np.uint8)
    table["label_Edema"] = (table["sex"] == "F").astype(np.uint8)
    found = shortcut_audit(Predictions(table).split("test"))["sex"]["auc"]
    assert (found["Mass"], found["Edema"]) == (1.0, 0.0)


def test_follow_up_from_the_catalog_or_not_at_all(make_table):
    table = make_table()
    table["image_id"] = [f"image-{i}" for i in range(len(table))]
    split = Predictions(table).split("test")
    assert shortcut_audit(split)["follow_up"]["images"] == 0
    numbers = pd.Series(np.arange(len(table)), index=table["image_id"])
    assert shortcut_audit(split, numbers)["follow_up"]["images"] == len(split)


def split_with_one_exception(table):
    """The test images of a table, the view of one image with a mass turned around."""
    table = table.copy()
    one = table.index[(table["split"] == "test") & (table["label_Mass"] == 1)][0]
    table.loc[one, "view_position"] = "PA"
    return Predictions(table).split("test")


def test_shortcuts_have_intervals_where_patients_bear_them(make_table):
    table = make_table(patients=90)
    table["view_position"] = np.where(table["label_Mass"] == 1, "AP", "PA")
    first = table["patient_id"].isin([str(n) for n in range(1, 20, 3)])
    table["label_Hernia"] = first.astype(np.uint8)
    tested = table.loc[table["split"] == "test", "patient_id"].unique()
    table["label_Nodule"] = table["patient_id"].isin(tested[:MIN_PATIENTS]).astype(np.uint8)
    found = shortcut_audit(Predictions(table).split("test"))["view_position"]
    assert found["auc"]["Mass"] == 1
    assert found["auc_interval"]["Mass"] == [1.0, 1.0]
    nearly = split_with_one_exception(table)
    low, high = shortcut_audit(nearly)["view_position"]["auc_interval"]["Mass"]
    assert low < 1 == high
    low, high = found["auc_interval"]["Edema"]
    assert 0 <= low < found["auc"]["Edema"] < high <= 1
    assert found["auc"]["Hernia"] is not None
    assert found["auc_interval"]["Hernia"] is None
    assert found["auc_interval"]["Nodule"] is not None


@pytest.mark.parametrize(("patients", "copies"), [(15, 20), (1, 80)])
def test_few_patients_with_many_images_make_a_shortcut_uncertain(make_table, patients, copies):
    table = make_table(patients=90)
    owner = table["patient_id"].astype(int)
    busy = owner.isin(owner[table["split"] == "test"].unique()[:patients])
    table = pd.concat([table, *[table[busy].assign(image_id=f"copy-{n}-" + table["image_id"][busy])
                                for n in range(copies)]])  # fmt: skip
    split = Predictions(table).split("test")
    found = shortcut_audit(split)["view_position"]
    view = (split.table["view_position"] == "AP").to_numpy(dtype=float)
    d = split.names.index("Edema")
    codes, count = split.patients, split.patients.max() + 1
    one = JackknifedScores(split.labels[:, [d]], view[:, None], codes, count).auc_of(0)
    squares = one.influences**2
    df = squares.sum() ** 2 / (squares**2).sum()
    assert df < 20
    reach = stats.t.ppf(0.975, df) * np.sqrt(squares.sum())
    low, high = found["auc_interval"]["Edema"]
    assert low == pytest.approx(max(one.value - reach, 0))
    assert high == pytest.approx(min(one.value + reach, 1))
