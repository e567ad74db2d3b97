"""One partition of a view into cells, for pooling and for painting."""

from __future__ import annotations

import pytest
import torch

from medsgssl.ops.patch_grid import cell_cover, cell_means, cell_of_pixel, choose_cells, paint_cells


@pytest.mark.parametrize(("size", "cells"), [(64, 14), (96, 14), (100, 7), (224, 14), (33, 5)])
def test_painting_and_pooling_agree_on_whose_each_pixel_is(size: int, cells: int) -> None:
    torch.manual_seed(0)
    chosen = torch.rand(3, cells, cells) > 0.5
    painted = paint_cells(chosen, size)
    # Painted cells are full of paint, the others hold none: no pixel belongs to two.
    assert torch.equal(cell_cover(painted, cells), chosen.float())


@pytest.mark.parametrize("size", [64, 100, 224])
def test_hidden_pixels_lie_in_cells_of_enough_lung_alone(size: int) -> None:
    torch.manual_seed(0)
    masks = torch.nn.functional.interpolate(torch.rand(8, 1, 9, 9), size=size)[:, 0] > 0.5
    candidates = cell_cover(masks, 14) >= 0.3
    hidden = paint_cells(choose_cells(candidates, torch.full((8,), 0.9)), size)
    place = cell_of_pixel(size, 14)
    assert candidates[:, place][:, :, place][hidden].all()


@pytest.mark.parametrize(
    ("size", "cells"),
    # Neither side a multiple of its cells, one of them, one but of the other's, and both.
    [
        ((10, 7), (4, 3)),
        ((10, 7), (5, 3)),
        ((7, 10), (3, 5)),
        ((9, 6), (4, 3)),
        ((6, 9), (3, 4)),
        ((8, 6), (4, 3)),
    ],
)
def test_means_are_those_of_the_cells_pixels(size: tuple[int, int], cells: tuple[int, int]) -> None:
    maps = torch.rand(2, 3, *size)
    means = cell_means(maps, cells)
    assert means.shape == (2, 3, *cells)
    rows, columns = (cell_of_pixel(*pair) for pair in zip(size, cells, strict=True))
    for row in range(cells[0]):
        for column in range(cells[1]):
            block = maps[:, :, rows == row][:, :, :, columns == column]
            torch.testing.assert_close(means[:, :, row, column], block.mean(dim=(2, 3)))
