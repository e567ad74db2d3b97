"""The log names a collapsed representation and a saturated loss."""

from __future__ import annotations

import pytest
import torch

from medsgssl.training.monitors import (
    chance_warnings,
    effective_rank,
    embedding_std,
    epoch_warnings,
)

GENERATOR = torch.Generator().manual_seed(0)


def test_a_uniform_sphere_has_standard_deviation_one_and_full_rank() -> None:
    z = torch.randn(4096, 32, generator=GENERATOR)
    assert embedding_std(z) == pytest.approx(1, abs=0.02)
    assert effective_rank(z) > 31


def test_a_collapsed_representation_has_neither() -> None:
    z = torch.ones(256, 32) + 1e-4 * torch.randn(256, 32, generator=GENERATOR)
    assert embedding_std(z) < 0.01
    assert effective_rank(z) < 1.1


def test_collapse_and_saturation_are_named() -> None:
    row = {"epoch": 2.0, "embedding_std": 0.01, "embedding_rank": 1.2, "contrast": 0.011}
    texts = epoch_warnings(row, {"contrast": 0.01})
    assert any("collapsed" in text for text in texts)
    assert any("sits at its floor" in text for text in texts)


def test_a_healthy_epoch_has_no_warning() -> None:
    row = {"epoch": 2.0, "embedding_std": 0.9, "embedding_rank": 50.0, "contrast": 3.1}
    assert epoch_warnings(row, {"contrast": 0.01}) == []


@pytest.mark.parametrize(
    ("last", "wanted"),
    [(4.80, "near chance"), (4.55, "untrained network"), (4.45, None)],
)
def test_the_end_of_a_run_is_compared_with_chance_and_with_its_beginning(
    last: float, wanted: str | None
) -> None:
    row = {"epoch": 9.0, "contrast": last, "contrast_chance": 4.84, "contrast_start": 4.60}
    texts = chance_warnings(row)
    assert len(texts) == (wanted is not None)
    assert all("chance" in text and str(wanted) in text for text in texts)


def test_a_stage_without_a_chance_level_is_not_compared_with_one() -> None:
    assert chance_warnings({"epoch": 1.0, "loss": 0.2, "supervised": 0.2}) == []
