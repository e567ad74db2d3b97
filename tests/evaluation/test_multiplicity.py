from __future__ import annotations

import numpy as np
import pytest

from medsgssl.evaluation.effects import Effect
from medsgssl.evaluation.multiplicity import holm, simultaneous_level
from medsgssl.evaluation.spread import Spread


def test_hand_computed_example():
    # Sorted: 0.005 x 4 = 0.02; 0.01 x 3 = 0.03; 0.03 x 2 = 0.06; 0.04 x 1 = 0.04, raised to 0.06.
    found = holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005})
    assert found == pytest.approx({"a": 0.03, "b": 0.06, "c": 0.06, "d": 0.02})


def test_tests_not_made_do_not_count():
    assert holm({"a": 0.02, "b": None, "c": 0.5}) == {"a": 0.04, "b": None, "c": 0.5}


def test_never_above_one_and_empty():
    assert holm({"a": 0.9, "b": 0.8}) == {"a": 1.0, "b": 1.0}
    assert holm({}) == {}


@pytest.mark.parametrize("source", ["seeds", "folds", "patients"])
@pytest.mark.parametrize("count", [2, 6])
def test_unrelated_effects_of_few_repeats_or_patients_have_sidaks_level(count: int, source: str):
    folds, spread = source == "folds", Spread(float(source != "patients"), 0.0, 2.0)
    influences = np.zeros((count, 40))
    if source == "patients":
        for number in range(count):
            influences[number, [2 * number, 2 * number + 1]] = 0.1, -0.1
    family = [Effect(0.0, np.zeros(3), one, folds, spread) for one in influences]
    wanted = 1 - 0.95 ** (1 / count)
    assert simultaneous_level(family, 0.05) == pytest.approx(wanted, rel=0.12)
    undefined = Effect(0.0, np.zeros(3), np.full(40, np.nan), folds, spread)
    certain = Effect(0.0, np.zeros(3), np.zeros(40), folds)
    assert simultaneous_level([*family, undefined, certain], 0.05) == simultaneous_level(
        family, 0.05
    )
