from __future__ import annotations

import inspect

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix, f1_score

from medsgssl.evaluation.thresholds import choose, rates


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_f1_threshold_is_the_best_of_all(data):
    n = data.draw(st.integers(2, 30))
    labels = np.array(data.draw(st.lists(st.booleans(), min_size=n, max_size=n)))
    scores = np.array(data.draw(st.lists(st.integers(0, 6), min_size=n, max_size=n))) / 6
    found = choose(labels, scores)
    if labels.all() or not labels.any():
        assert found.value is None
        return
    every = {t: f1_score(labels, scores >= t) for t in np.unique(scores)}
    best = max(every.values())
    assert every[found.value] == pytest.approx(best)
    # Of equally good thresholds the highest is taken.
    assert found.value == max(t for t, value in every.items() if value >= best - 1e-12)
    assert rates(labels, scores, found.value).f1 == pytest.approx(best)


@pytest.mark.parametrize("seed", range(5))
def test_no_other_threshold_of_many_has_a_better_f1(seed: int):
    random = np.random.default_rng(seed)
    labels = random.random(80) < 0.3
    scores = np.round(random.random(80) + 0.2 * labels, 2)
    best = rates(labels, scores, choose(labels, scores).value).f1
    assert best == max(rates(labels, scores, one).f1 for one in np.unique(scores))


def test_sensitivity_and_specificity_are_reached_and_tight():
    random = np.random.default_rng(0)
    labels = random.random(500) < 0.3
    scores = np.round(random.random(500) + 0.4 * labels, 2)
    for aim, other in (("sensitivity", 1), ("specificity", -1)):
        value = choose(labels, scores, aim, 0.8).value
        candidates = np.unique(scores)
        neighbor = candidates[np.searchsorted(candidates, value) + other]
        name = "recall" if aim == "sensitivity" else "specificity"
        assert getattr(rates(labels, scores, value), name) >= 0.8
        assert getattr(rates(labels, scores, neighbor), name) < 0.8


@pytest.mark.parametrize("aim", ["sensitivity", "specificity"])
def test_a_target_that_is_met_exactly_is_reached(aim):
    scores = np.arange(10) / 10
    # One of five lies on the wrong side of the middle.
    labels = np.array([0, 0, 0, 0, 1, 0, 1, 1, 1, 1], bool)
    found = choose(labels, scores, aim, 0.8).value
    assert found == (0.6 if aim == "sensitivity" else 0.4)
    assert choose(labels, scores, aim) == choose(labels, scores, aim, 0.9)


def test_a_score_equal_to_the_threshold_is_positive():
    labels, scores = np.array([False, True]), np.array([0.2, 0.7])
    assert choose(labels, scores).value == 0.7
    assert rates(labels, scores, 0.7).recall == 1.0


def test_rates_are_those_of_the_confusion_matrix():
    random = np.random.default_rng(1)
    labels, scores = random.random(200) < 0.3, np.round(random.random(200), 1)
    (tn, fp), (fn, tp) = confusion_matrix(labels, scores >= 0.4)
    found = rates(labels, scores, 0.4)
    assert found.precision == pytest.approx(tp / (tp + fp))
    assert found.recall == pytest.approx(tp / (tp + fn))
    assert found.specificity == pytest.approx(tn / (tn + fp))
    assert found.f1 == pytest.approx(f1_score(labels, scores >= 0.4))


def test_no_threshold_is_explained():
    scores = np.array([0.1, 0.2])
    assert choose(np.array([False, False]), scores).note == "no positives in validation"
    assert choose(np.array([True, True]), scores).note == "no negatives in validation"
    tied = choose(np.array([True, False]), np.array([0.5, 0.5]), "specificity", 0.9)
    assert tied.value is None
    assert "tied" in tied.note


def test_rates_without_denominator_are_none():
    found = rates(np.array([False, False]), np.array([0.1, 0.2]), 0.9)
    assert (found.f1, found.precision, found.recall, found.specificity) == (None, None, None, 1.0)
    found = rates(np.array([True]), np.array([0.1]), 0.9)
    assert (found.f1, found.precision, found.recall, found.specificity) == (0.0, None, 0.0, None)
    assert rates(np.array([True]), np.array([0.1]), None).f1 is None


def test_the_choice_cannot_be_given_test_data():
    arrays = [name for name in inspect.signature(choose).parameters if "label" in name]
    assert arrays == ["val_labels"]
