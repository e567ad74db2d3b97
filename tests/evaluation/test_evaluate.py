from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from medsgssl.config.schema import EvaluateSettings
from medsgssl.data.labels import DISEASES
from medsgssl.errors import DataError
from medsgssl.evaluation.evaluate import evaluate_predictions
from medsgssl.evaluation.predictions import Predictions

SETTINGS = EvaluateSettings(bootstrap=50)
PER_DISEASE = {
    "auc",
    "ap",
    "f1",
    "precision",
    "recall",
    "specificity",
    "threshold",
    "positives",
    "negatives",
    "auc_interval",
    "ap_interval",
    "ece",
    "brier",
    "note",
}
TOP = {
    "mean_auc",
    "mean_ap",
    "mean_auc_interval",
    "mean_auc_20",
    "diseases_in_mean",
    "per_disease",
    "validation",
    "warnings",
}


def test_every_named_key_is_there_and_json_has_no_nan(make_table):
    found = evaluate_predictions(Predictions(make_table(prevalence=0.5)), SETTINGS, 0)
    assert set(found) >= TOP
    assert list(found["per_disease"]) == list(DISEASES)
    for entry in found["per_disease"].values():
        assert set(entry) >= PER_DISEASE
        assert all(entry[key] is not None for key in PER_DISEASE)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["validation"]["mean_auc"] is not None
    assert found["warnings"] == []


def test_values_agree_with_sklearn(make_table):
    predictions = Predictions(make_table())
    found = evaluate_predictions(predictions, SETTINGS, 0)
    test = predictions.split("test")
    aucs = [roc_auc_score(test.labels[:, d], test.scores[:, d]) for d in range(14)]
    aps = [average_precision_score(test.labels[:, d], test.scores[:, d]) for d in range(14)]
    assert found["mean_auc"] == pytest.approx(np.mean(aucs), abs=1e-12)
    assert found["mean_ap"] == pytest.approx(np.mean(aps), abs=1e-12)
    mass = found["per_disease"]["Mass"]
    flagged = test.scores[:, 4] >= mass["threshold"]
    assert mass["f1"] == pytest.approx(f1_score(test.labels[:, 4], flagged))
    low, high = found["mean_auc_interval"]
    assert low < found["mean_auc"] < high


def test_test_labels_never_reach_the_thresholds_or_temperatures(make_table):
    table = make_table()
    flipped = table.copy()
    test = flipped["split"] == "test"
    for name in DISEASES:
        flipped.loc[test, f"label_{name}"] = 1 - flipped.loc[test, f"label_{name}"]
    one, two = (
        evaluate_predictions(Predictions(t), SETTINGS, 0)["per_disease"] for t in (table, flipped)
    )
    for name in DISEASES:
        assert one[name]["threshold"] == two[name]["threshold"]
        assert one[name]["temperature"] == two[name]["temperature"]
        assert one[name]["auc"] == pytest.approx(1 - two[name]["auc"])


def test_a_disease_without_positives_is_null_and_left_out(make_table):
    table = make_table()
    table.loc[table["split"] == "test", "label_Hernia"] = 0
    found = evaluate_predictions(Predictions(table), SETTINGS, 0)
    hernia = found["per_disease"]["Hernia"]
    assert hernia["auc"] is None
    assert hernia["ap"] is None
    assert hernia["auc_interval"] is None
    assert "no positives in test" in hernia["note"]
    assert "Hernia" not in found["diseases_in_mean"]
    assert len(found["diseases_in_mean"]) == 13
    rest = [found["per_disease"][name]["auc"] for name in found["diseases_in_mean"]]
    assert found["mean_auc"] == pytest.approx(np.mean(rest))
    assert any("Hernia" in warning for warning in found["warnings"])


def test_a_rare_disease_warns_and_is_not_in_the_second_mean(make_table):
    table = make_table()
    test = table.index[table["split"] == "test"]
    table.loc[test, "label_Hernia"] = 0
    table.loc[test[:1], "label_Hernia"] = 1
    found = evaluate_predictions(Predictions(table), SETTINGS, 0)
    assert "Hernia" in found["diseases_in_mean"]
    assert "Hernia" not in found["diseases_in_mean_20"]
    assert found["mean_auc_20"] is not None
    assert found["per_disease"]["Hernia"]["auc"] is not None
    assert found["per_disease"]["Hernia"]["auc_interval"] is None
    assert found["mean_auc_interval"] is None
    assert found["mean_auc_20_interval"] is not None
    assert any("Hernia: only 1 test patients" in warning for warning in found["warnings"])


def test_the_patient_is_the_unit_of_few(make_table):
    """Forty positive images of ten patients bear no interval."""
    table = make_table(patients=60, per_patient=8)
    test = table["split"] == "test"
    first = sorted(set(table.loc[test, "patient_id"]))[:10]
    table.loc[test, "label_Mass"] = table.loc[test, "patient_id"].isin(first).astype(np.uint8)
    found = evaluate_predictions(Predictions(table), SETTINGS, 0)
    assert found["per_disease"]["Mass"]["positives"] == 80
    assert found["per_disease"]["Mass"]["auc_interval"] is None
    assert found["per_disease"]["Mass"]["ap_interval"] is None
    assert "Mass" not in found["diseases_in_mean_20"]


@pytest.mark.parametrize("positives", [4, 9, 10])
def test_thresholds_from_fewer_than_ten_validation_positives_carry_a_warning(make_table, positives):
    table = make_table()
    val = table.index[table["split"] == "val"]
    table.loc[val, "label_Mass"] = 0
    table.loc[val[:positives], "label_Mass"] = 1
    found = evaluate_predictions(Predictions(table), SETTINGS, 0)
    warned = any(
        f"Mass: threshold, temperature and scaled ECE from only {positives} validation" in w
        for w in found["warnings"]
    )
    assert warned == (positives < 10)


def test_without_validation_there_are_no_thresholds(make_table):
    table = make_table()
    found = evaluate_predictions(Predictions(table[table["split"] == "test"]), SETTINGS, 0)
    assert found["validation"] is None
    mass = found["per_disease"]["Mass"]
    assert mass["threshold"] is None
    assert mass["f1"] is None
    assert mass["temperature"] is None
    assert mass["auc"] is not None
    assert "no validation split" in found["warnings"][0]


def test_without_test_there_is_an_error(make_table):
    table = make_table()
    with pytest.raises(DataError, match="'test'"):
        evaluate_predictions(Predictions(table[table["split"] == "val"]), SETTINGS, 0)


def test_no_disease_at_all(make_table):
    table = make_table()
    for name in DISEASES:
        table[f"label_{name}"] = np.uint8(0)
    found = evaluate_predictions(Predictions(table), SETTINGS, 0)
    json.dumps(found, allow_nan=False)
    assert found["mean_auc"] is None
    assert found["diseases_in_mean"] == []
    assert any("no mean AUC" in warning for warning in found["warnings"])


@pytest.mark.parametrize("split", ["test", "val"])
def test_a_class_that_is_known_of_no_image_of_a_split_is_null_and_left_out(make_table, split):
    table = make_table()
    table["label_Mass"] = table["label_Mass"].astype("float32")
    table.loc[table["split"] == split, "label_Mass"] = np.nan
    found = evaluate_predictions(Predictions(table), SETTINGS, 0)
    mass = found["per_disease"]["Mass"]
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert ("Mass" in found["diseases_in_mean"]) == (split == "val")
    assert any(text.startswith("Mass: ") for text in found["warnings"])
    if split == "test":
        assert mass["auc"] is mass["ece"] is mass["brier"] is mass["f1"] is None
        assert mass["unknown"] == len(table[table["split"] == "test"])
    else:
        assert mass["threshold"] is mass["temperature"] is None
        assert mass["auc"] is not None


def test_the_order_of_rows_changes_nothing(make_table):
    table = make_table()
    one = evaluate_predictions(Predictions(table), SETTINGS, 0)
    two = evaluate_predictions(Predictions(table.sample(frac=1, random_state=0)), SETTINGS, 0)
    assert one["mean_auc_interval"] == pytest.approx(two["mean_auc_interval"], abs=1e-12)


def test_bootstrap_and_calibration_can_be_switched_off(make_table):
    settings = EvaluateSettings(bootstrap=0, calibrate=False, threshold="sensitivity")
    found = evaluate_predictions(Predictions(make_table()), settings, 0)
    assert found["mean_auc_interval"] is None
    assert found["per_disease"]["Mass"]["temperature"] is None
    assert found["per_disease"]["Mass"]["recall"] > 0.6
    assert not any("interval" in warning for warning in found["warnings"])
