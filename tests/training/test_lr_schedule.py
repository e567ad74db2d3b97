"""The learning rate is a pure function of the step."""

from __future__ import annotations

import itertools

import pytest

from medsgssl.training.lr_schedule import lr_factor


def test_warm_up_rises_linearly_to_one_and_the_cosine_falls_to_zero() -> None:
    values = [lr_factor(step, total=100, warmup=9) for step in range(100)]
    assert values[:9] == pytest.approx([0.1 * (i + 1) for i in range(9)])
    assert values[9] == 1.0
    assert all(a > b for a, b in itertools.pairwise(values[9:]))
    assert lr_factor(100, 100, 9) == pytest.approx(0)


def test_the_first_step_never_has_the_full_learning_rate_when_there_is_a_warm_up() -> None:
    assert lr_factor(0, 1000, 50) < 0.02
