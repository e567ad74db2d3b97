"""The learning rate is a pure function of the step."""

from __future__ import annotations

import itertools

import pytest

from medsgssl.training.lr_schedule import SHORT_RUN_LR, auto_pretrain_lr, lr_factor


def test_warm_up_rises_linearly_to_one_and_the_cosine_falls_to_zero() -> None:
    values = [lr_factor(step, total=100, warmup=9) for step in range(100)]
    assert values[:9] == pytest.approx([0.1 * (i + 1) for i in range(9)])
    assert values[9] == 1.0
    assert all(a > b for a, b in itertools.pairwise(values[9:]))
    assert lr_factor(100, 100, 9) == pytest.approx(0)


def test_the_first_step_never_has_the_full_learning_rate_when_there_is_a_warm_up() -> None:
    assert lr_factor(0, 1000, 50) < 0.02


@pytest.mark.parametrize("imagenet", [True, False])
def test_the_automatic_rate_is_the_published_one_at_full_size_and_more_for_short_runs(
    imagenet: bool,
) -> None:
    full = 75_312 // 64 * 50  # the NIH training images without validation, 50 epochs
    assert auto_pretrain_lr(full, 64, imagenet=imagenet) == 1e-4
    assert auto_pretrain_lr(50_000, 64, imagenet=imagenet) == 1e-4
    rates = [auto_pretrain_lr(steps, 64, imagenet=imagenet) for steps in (100, 1000, 5000, 50_000)]
    assert rates[0] == rates[1] == SHORT_RUN_LR[imagenet]
    assert rates[1] > rates[2] > rates[3]


def test_the_automatic_rate_follows_the_root_of_the_batch() -> None:
    assert auto_pretrain_lr(10**6, 256, imagenet=True) == pytest.approx(2e-4)
