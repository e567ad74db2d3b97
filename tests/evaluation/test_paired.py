from __future__ import annotations

import json

import numpy as np
import pytest

from medsgssl.config.schema import EvaluateSettings
from medsgssl.data.labels import DISEASES
from medsgssl.errors import DataError
from medsgssl.evaluation.delong import compare_aucs
from medsgssl.evaluation.paired import bootstrap_p, compare, mean_difference
from medsgssl.evaluation.predictions import Predictions
from tests.evaluation.simulate import study

SETTINGS = EvaluateSettings(bootstrap=200)


def false_positives(studies: int, patients: int, resamples: int) -> dict[str, float]:
    """Share of p < 0.05 where both models are equally good."""
    mean = clustered = plain = 0
    for s in range(studies):
        labels, (a, b), owner = study(np.random.default_rng([s, 23]), patients, 2, models=2)
        found = mean_difference(labels, a, b, owner, resamples=resamples, confidence=0.95, seed=s)
        mean += found.p < 0.05
        clustered += compare_aucs(labels[:, 0], a[:, 0], b[:, 0], owner).p < 0.05
        plain += compare_aucs(labels[:, 0], a[:, 0], b[:, 0]).p < 0.05
    return {
        "mean": mean / studies,
        "clustered": clustered / studies,
        "delong": plain / studies,
    }


def test_false_positive_rate_is_near_nominal():
    found = false_positives(100, 80, 300)
    assert found["mean"] <= 0.12
    assert found["clustered"] <= 0.12


@pytest.mark.slow
def test_false_positive_rate_of_500_studies():
    found = false_positives(500, 200, 1000)
    print(found)
    assert 0.03 <= found["mean"] <= 0.07
    assert 0.03 <= found["clustered"] <= 0.07


def test_p_value_inverts_the_interval():
    draws = np.linspace(-0.01, 0.99, 1000)
    assert bootstrap_p(draws) == pytest.approx(2 * 11 / 1001, rel=0.1)
    assert bootstrap_p(draws - 0.49) == pytest.approx(1, abs=0.01)
    assert bootstrap_p(np.full(10, np.nan)) is None
    assert bootstrap_p(np.zeros(10)) == 1.0


def test_a_real_difference_is_found():
    random = np.random.default_rng(0)
    labels, (a, b), owner = study(random, 150, 2, models=2)
    found = mean_difference(
        labels, a + 1.5 * labels, b, owner, resamples=300, confidence=0.95, seed=0
    )
    assert found.difference > 0
    assert found.interval.low > 0
    assert found.p < 0.01


def test_compare_two_runs(make_table):
    table = make_table()
    better = table.copy()
    better["score_Mass"] = (0.5 * better["score_Mass"] + 0.5 * better["label_Mass"]).astype(
        np.float32
    )
    # The order of rows must not matter.
    found = compare(
        Predictions(better.sample(frac=1, random_state=0)), Predictions(table), SETTINGS, 0
    )
    json.dumps(found, allow_nan=False)
    assert found["mean_auc_difference"] > 0
    assert list(found["per_disease"]) == list(DISEASES)
    mass, edema = found["per_disease"]["Mass"], found["per_disease"]["Edema"]
    assert mass["p_holm"] == pytest.approx(14 * mass["p"])
    assert mass["p_holm"] < 0.01
    assert edema["p"] == 1.0
    assert edema["interval"] == [0.0, 0.0]


def test_compare_says_why_a_disease_has_no_test(make_table):
    table = make_table()
    table["label_Hernia"] = np.uint8(0)
    found = compare(Predictions(table), Predictions(table), SETTINGS, 0)["per_disease"]["Hernia"]
    assert found["p"] is None
    assert found["p_holm"] is None
    assert "undefined" in found["note"]


def test_compare_refuses_other_images_or_labels(make_table):
    table = make_table()
    with pytest.raises(DataError, match="test images"):
        compare(Predictions(table), Predictions(table.iloc[:-1]), SETTINGS, 0)
    changed = table.copy()
    changed["label_Mass"] = 1 - changed["label_Mass"]
    with pytest.raises(DataError, match="label_Mass"):
        compare(Predictions(table), Predictions(changed), SETTINGS, 0)


def test_mean_difference_without_any_disease():
    with pytest.raises(ValueError, match="no disease"):
        mean_difference(
            np.zeros((4, 1), dtype=bool),
            np.zeros((4, 1)),
            np.zeros((4, 1)),
            np.arange(4),
            resamples=5,
            confidence=0.95,
            seed=0,
        )
