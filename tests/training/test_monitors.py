"""The log names a collapsed representation and a saturated loss."""

from __future__ import annotations

import pytest
import torch

from medsgssl.training.monitors import effective_rank, embedding_std, warnings_for

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
    texts = warnings_for(row, {"contrast": 0.01})
    assert any("collapsed" in text for text in texts)
    assert any("sits at its floor" in text for text in texts)


def test_a_healthy_epoch_has_no_warning() -> None:
    row = {"epoch": 2.0, "embedding_std": 0.9, "embedding_rank": 50.0, "contrast": 3.1}
    assert warnings_for(row, {"contrast": 0.01}) == []
