from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from medsgssl.losses.equivariance import equivariance_loss
from medsgssl.transforms.affine import Crop

SIZE, CELLS = 64, 8
CROPS = [
    (Crop(60, 50, 80, 70, 8.0, True), Crop(52, 58, 60, 75, -6.0)),
    (Crop(40, 70, 50, 60), Crop(55, 64, 90, 64, 10.0, True)),
]


def affines(crops) -> tuple[Tensor, Tensor]:
    return tuple(
        torch.from_numpy(np.stack([pair[v].affine(SIZE) for pair in crops])).float() for v in (0, 1)
    )


def predict(function, maps_to_image: Tensor, cells: int = CELLS) -> Tensor:
    """The map of an equivariant predictor: a function of the image, read at cell centers."""
    centers = (torch.arange(cells) + 0.5) * SIZE / cells - 0.5
    y, x = torch.meshgrid(centers, centers, indexing="ij")
    points = torch.stack([x, y], dim=-1)
    image = torch.einsum("bij,hwj->bhwi", maps_to_image[:, :, :2], points)
    image = image + maps_to_image[:, None, None, :, 2]
    return function(image[..., 0], image[..., 1])


def loss(function, crops) -> Tensor:
    first, second = affines(crops)
    return equivariance_loss(
        predict(function, first), predict(function, second), first, second, SIZE
    )


def test_a_constant_equivariant_predictor_gives_exactly_zero() -> None:
    assert loss(lambda x, y: torch.full_like(x, 0.5), CROPS) == 0


def test_an_equivariant_predictor_gives_zero_under_crop_scale_rotation_and_flip() -> None:
    assert loss(lambda x, y: 0.2 + 0.005 * x - 0.003 * y, CROPS) < 1e-6


def test_any_equivariant_predictor_gives_zero_where_cells_fall_on_cells() -> None:
    torch.manual_seed(0)
    maps = torch.rand(1, CELLS, CELLS)
    first, second = affines([(Crop(49.5, 49.5, 100, 100), Crop(49.5, 49.5, 100, 100, 0.0, True))])
    assert equivariance_loss(maps, maps.flip(2), first, second, SIZE) < 1e-6
    assert equivariance_loss(maps, maps, first, first, SIZE) == 0
    assert equivariance_loss(maps, maps, first, second, SIZE) > 1e-2


def test_a_smooth_equivariant_predictor_is_far_better_than_one_that_ignores_the_view() -> None:
    def lungs(x: Tensor, y: Tensor) -> Tensor:
        return torch.exp(-(((x - 40) / 25) ** 2) - ((y - 60) / 30) ** 2)

    first, second = affines(CROPS)
    equivariant = loss(lungs, CROPS)
    fixed = predict(lungs, first)
    assert equivariant < 2e-2
    assert equivariance_loss(fixed, fixed, first, second, SIZE) > 5 * equivariant


def test_only_what_both_views_see_is_compared() -> None:
    first, second = affines([(Crop(30, 50, 40, 40), Crop(50, 50, 40, 40))])
    maps = torch.zeros(1, CELLS, CELLS)
    other = maps.clone()
    other[:, :, CELLS // 2 + 1 :] = 1.0  # shown by the second view alone
    assert equivariance_loss(maps, other, first, second, SIZE) == 0
    other = maps.clone()
    other[:, :, : CELLS // 2] = 1.0
    assert equivariance_loss(maps, other, first, second, SIZE) > 0.5


def test_views_without_overlap_give_zero_and_no_gradient() -> None:
    first, second = affines([(Crop(20, 20, 20, 20), Crop(80, 80, 20, 20))])
    maps = torch.rand(1, CELLS, CELLS, requires_grad=True)
    value = equivariance_loss(maps, torch.zeros_like(maps), first, second, SIZE)
    value.backward()
    assert value == 0
    assert maps.grad is not None
    assert not maps.grad.any()


def test_gradient_reaches_both_maps() -> None:
    first, second = affines(CROPS)
    maps = [torch.rand(2, CELLS, CELLS, requires_grad=True) for _ in range(2)]
    equivariance_loss(*maps, first, second, SIZE).backward()
    assert all(one.grad is not None and one.grad.norm() > 0 for one in maps)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_coordinates_keep_their_precision_under_autocast(dtype: torch.dtype) -> None:
    first, second = affines(CROPS)
    maps = [predict(lambda x, y: 0.2 + 0.005 * x - 0.003 * y, one) for one in (first, second)]
    with torch.autocast("cpu", dtype=dtype):
        assert equivariance_loss(*maps, first, second, SIZE) < 1e-6


def reference(first, second, affines_first, affines_second, points: int = 32) -> float:
    """The definition, image by image and point by point."""
    corners = np.array([[x, y, 1.0] for x in (0, SIZE - 1) for y in (0, SIZE - 1)])
    values = []
    for one, other, a, b in zip(first, second, affines_first, affines_second, strict=True):
        boxes = [corners @ matrix.T for matrix in (a, b)]
        low = np.max([box.min(axis=0) for box in boxes], axis=0)
        high = np.min([box.max(axis=0) for box in boxes], axis=0)
        differences = []
        for x in low[0] + (np.arange(points) + 0.5) / points * (high - low)[0]:
            for y in low[1] + (np.arange(points) + 0.5) / points * (high - low)[1]:
                read = [bilinear(m, matrix, x, y) for m, matrix in ((one, a), (other, b))]
                if None not in read:
                    differences.append(abs(read[0] - read[1]))
        if differences:
            values.append(np.mean(differences))
    return float(np.mean(values))


def bilinear(cells: np.ndarray, matrix: np.ndarray, x: float, y: float) -> float | None:
    """A map at an image point, None beyond the centers of its outermost cells."""
    pixel = np.linalg.solve(matrix[:, :2], np.array([x, y]) - matrix[:, 2])
    place, edge = (pixel[::-1] + 0.5) * cells.shape / SIZE - 0.5, np.array(cells.shape) - 1
    if (place < -1e-4).any() or (place > edge + 1e-4).any():
        return None
    place = np.clip(place, 0, edge)
    top, left = np.minimum(place.astype(int), edge - 1)
    down, right = place - (top, left)
    upper = (1 - right) * cells[top, left] + right * cells[top, left + 1]
    lower = (1 - right) * cells[top + 1, left] + right * cells[top + 1, left + 1]
    return float((1 - down) * upper + down * lower)


def by_definition(crops: list, cells: tuple[int, int]) -> tuple[float, float]:
    """The loss of random maps, and what it must be."""
    first, second = affines(crops)
    one, other = np.random.default_rng(0).random((2, len(crops), *cells))
    found = equivariance_loss(torch.from_numpy(one), torch.from_numpy(other), first, second, SIZE)
    return float(found), reference(one, other, first.double().numpy(), second.double().numpy())


def test_the_loss_is_its_definition_over_the_images_whose_views_overlap() -> None:
    apart = (Crop(20, 20, 20, 20), Crop(80, 80, 20, 20))
    sliver = (Crop(30, 50, 40, 40), Crop(60, 50, 40, 40))
    other = (Crop(60, 20, 40, 30), Crop(50, 40, 70, 60, 5.0))
    found, wanted = by_definition([*CROPS, apart, other, sliver], (CELLS, CELLS))
    assert found == pytest.approx(wanted, rel=1e-4)


@pytest.mark.parametrize("cells", [(40, 64), (4, 16), (16, 4)])
def test_maps_may_be_finer_than_the_grid_and_need_not_be_square(cells: tuple[int, int]) -> None:
    found, wanted = by_definition([(Crop(50, 50, 70, 70), Crop(50, 50, 70, 70))], cells)
    assert found == pytest.approx(wanted, rel=1e-4)


def test_a_single_point_that_both_views_see_counts_in_full() -> None:
    # Maps reach the centers of their outer cells: here these overlap by about a step of the grid.
    corner = (Crop(31.5, 31.5, 64, 64), Crop(15.5 + 57.85, 15.5 + 57.85, 32, 32))
    first, second = affines([corner, CROPS[0]])
    maps = torch.zeros(2, CELLS, CELLS, requires_grad=True)
    other = torch.ones(2, CELLS, CELLS)
    other[1] = 0.0
    value = equivariance_loss(maps, other, first, second, SIZE)
    value.backward()
    assert float(value.detach()) == pytest.approx(0.5)
    # One point is read from the four cells about it.
    assert maps.grad is not None
    assert int((maps.grad[0] != 0).sum()) == 4
