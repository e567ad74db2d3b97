from __future__ import annotations

import numpy as np
import torch

from medsgssl.losses.segmentation import cross_entropy_per_image, dice_per_image, iou_per_image

RNG = np.random.default_rng(0)
P, M = RNG.random((3, 5, 5)), RNG.random((3, 5, 5))


def test_cross_entropy_is_its_formula() -> None:
    logits = np.log(P / (1 - P))
    wanted = -(M * np.log(P) + (1 - M) * np.log(1 - P)).mean(axis=(1, 2))
    found = cross_entropy_per_image(torch.from_numpy(logits), torch.from_numpy(M))
    np.testing.assert_allclose(found, wanted)


def test_dice_is_its_formula_and_zero_for_the_target_itself() -> None:
    wanted = 1 - (2 * (P * M).sum((1, 2)) + 1) / ((P**2).sum((1, 2)) + (M**2).sum((1, 2)) + 1)
    target = torch.from_numpy(M)
    np.testing.assert_allclose(dice_per_image(torch.from_numpy(P), target), wanted)
    assert not dice_per_image(target, target).any()
    nothing = torch.zeros(1, 5, 5)
    assert dice_per_image(nothing, nothing) == 0


def test_overlap_counts_cells_above_one_half() -> None:
    p, m = P > 0.5, M > 0.5
    wanted = (p & m).sum((1, 2)) / (p | m).sum((1, 2))
    np.testing.assert_allclose(iou_per_image(torch.from_numpy(P), torch.from_numpy(M)), wanted)
    nothing = torch.zeros(1, 5, 5)
    assert iou_per_image(nothing, nothing) == 1
    assert iou_per_image(nothing, nothing + 1) == 0


def test_a_cell_at_one_half_is_no_lung() -> None:
    half, lung = torch.full((1, 2, 2), 0.5), torch.tensor([[[1.0, 0.0], [0.5, 0.0]]])
    assert iou_per_image(half, torch.zeros_like(half)) == 1
    assert iou_per_image(torch.tensor([[[0.9, 0.5], [0.1, 0.5]]]), lung) == 1
