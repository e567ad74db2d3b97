"""Closed outlines: their geometry, and the best closed path through a table of gains.

Source of the dynamic programming: Amini, Weymouth and Jain, "Using dynamic programming for solving
variational problems in vision", IEEE TPAMI 1990.
"""

from __future__ import annotations

from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from medsgssl.masks.recipes.anatomic.frame import FloatImage
from medsgssl.masks.recipes.anatomic.template import Outline
from medsgssl.masks.types import Mask

T = TypeVar("T", bound=np.generic)


def neighbors(values: NDArray[T], step: int) -> NDArray[T]:
    """Return at each point of closed outlines the value ``step`` points before it.

    ``np.roll`` over the second axis, which takes ten times as long for arrays as small as these.

    Args:
        values: ``B x N x ...``.
        step: Not 0; negative for points behind.
    """
    return np.concatenate((values[:, -step:], values[:, :-step]), axis=1)


def outward_normals(outlines: Outline) -> Outline:
    """Return the unit normals of closed outlines, pointing outwards.

    Args:
        outlines: ``B x N x 2`` points (x, y).
    """
    along = neighbors(outlines, -1) - neighbors(outlines, 1)
    across = along[..., ::-1] * np.array([1.0, -1.0])
    across *= np.sign(signed_area(outlines))[:, None, None]
    return np.asarray(across / (np.hypot(across[..., 0], across[..., 1]) + 1e-6)[..., None])


def signed_area(outlines: Outline) -> NDArray[np.float64]:
    """Area of each outline in square pixels; positive when its normals are turned outwards."""
    x, y = outlines[..., 0], outlines[..., 1]
    return np.asarray(
        0.5 * (x * np.roll(y, -1, axis=-1) - y * np.roll(x, -1, axis=-1)).sum(axis=-1)
    )


def sample(image: FloatImage, points: NDArray[np.float32]) -> FloatImage:
    """Read an image between its pixels, linearly; outside it the nearest pixel counts.

    Args:
        image: float32, ``H x W``.
        points: ``... x 2`` points (x, y) in pixels.

    Returns:
        float32, ``...``.
    """
    flat = points.reshape(-1, points.shape[-2], 2)
    read = cv2.remap(
        image, flat[..., 0], flat[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return np.asarray(read.reshape(points.shape[:-1]), dtype=np.float32)


def affine_fit(template: Outline, outline: Outline, weights: NDArray[np.float64]) -> Outline:
    """Return the affine image of a template that lies nearest to an outline.

    Args:
        template: ``N x 2``.
        outline: ``N x 2``, the same points where they should be.
        weights: ``N``, not negative.

    Returns:
        ``N x 2``, by weighted least squares.
    """
    known = np.column_stack([template, np.ones(len(template))])
    weighted = known * (weights**2)[:, None]
    normal = weighted.T @ known + 1e-6 * np.eye(3)
    return np.asarray(known @ np.linalg.solve(normal, weighted.T @ outline))


def untangled(outline: Outline) -> Outline:
    """Cut the loops off an outline that crosses itself.

    At every crossing the part that encloses less is drawn together to the crossing point.

    Args:
        outline: ``N x 2``, closed.

    Returns:
        ``N x 2``, the same points where nothing crosses.
    """
    points = outline
    for _ in range(_MOST_LOOPS):
        crossing = _first_crossing(points)
        if crossing is None:
            break
        first, second, place = crossing
        loop = np.arange(first + 1, second + 1)
        rest = np.setdiff1d(np.arange(len(points)), loop)
        areas = [abs(float(signed_area(np.vstack([place, points[part]])))) for part in (loop, rest)]
        points = points.copy()
        points[loop if areas[0] <= areas[1] else rest] = place
    return points


def _first_crossing(points: Outline) -> tuple[int, int, Outline] | None:
    """The first two edges (by their starts) that cross, and where."""
    along = np.roll(points, -1, axis=0) - points
    away = points[None, :, :] - points[:, None, :]
    across = along[:, None, 0] * along[None, :, 1] - along[:, None, 1] * along[None, :, 0]
    with np.errstate(divide="ignore", invalid="ignore"):
        # Edge i from its start by `ahead` shares meets edge j by `other` shares of its length.
        ahead = (away[..., 0] * along[None, :, 1] - away[..., 1] * along[None, :, 0]) / across
        other = (away[..., 0] * along[:, None, 1] - away[..., 1] * along[:, None, 0]) / across
    inner = (ahead > 0) & (ahead < 1) & (other > 0) & (other < 1)
    starts = np.argwhere(np.triu(inner, 2))
    if not len(starts):
        return None
    i, j = (int(v) for v in starts[0])
    return i, j, np.asarray(points[i] + ahead[i, j] * along[i])


def fill(outlines: Outline, shape: tuple[int, int]) -> Mask:
    """Return the mask inside any of the outlines: bool, ``shape``."""
    canvas = np.zeros(shape, np.uint8)
    for outline in outlines:
        cv2.fillPoly(canvas, [np.round(outline * 16).astype(np.int32)], 1, shift=4)
    return canvas.astype(bool)


REACH = 2
_MOST_LOOPS = 6


def best_closed_path(gains: NDArray[np.float32], stiffness: float) -> NDArray[np.int64]:
    """Choose one offset per point so that gains are high and neighbors agree.

    The path runs a quarter turn past its start; the part whose both ends are settled is kept,
    which closes the path without trying every start.

    Args:
        gains: float32, ``B x N x K``: gain of offset k at point n of outline b.
        stiffness: Cost of a step of one offset between neighbors; it grows with the square, and
            steps beyond ``REACH`` are forbidden.

    Returns:
        int64, ``B x N``: the chosen offsets.
    """
    outlines, points, offsets = gains.shape
    extra = points // 4
    cyclic_gains = np.concatenate([gains, gains[:, :extra]], axis=1).transpose(1, 0, 2)
    total = len(cyclic_gains)
    best = np.full((total, outlines, offsets + 2 * REACH), -1e9, np.float32)
    inside = slice(REACH, REACH + offsets)
    best[0, :, inside] = cyclic_gains[0]
    near, far = np.float32(stiffness), np.float32(4 * stiffness)
    reach = np.empty((outlines, offsets), np.float32)
    other = np.empty_like(reach)
    for i in range(1, total):
        before = best[i - 1]
        np.maximum(before[:, 1:-3], before[:, 3:-1], out=reach)
        reach -= near
        np.maximum(before[:, :-4], before[:, 4:], out=other)
        other -= far
        np.maximum(reach, other, out=reach)
        np.maximum(reach, before[:, inside], out=reach)
        np.add(reach, cyclic_gains[i], out=best[i, :, inside])
    chosen = _trace_back(best, stiffness)
    settled = chosen[:, extra // 2 : extra // 2 + points]
    return np.roll(settled, extra // 2, axis=1)


def best_offsets(gains: NDArray[np.float32]) -> NDArray[np.int64]:
    """Choose each offset by the gains of its point and its neighbors; no path, but fast.

    Good enough where only a fit through all points follows.

    Args:
        gains: float32, ``B x N x K``.

    Returns:
        int64, ``B x N``: the chosen offsets.
    """
    near = neighbors(gains, 1) + neighbors(gains, -1)
    far = neighbors(gains, 2) + neighbors(gains, -2)
    return np.asarray((gains + near + 0.5 * far).argmax(axis=2))


def _trace_back(best: NDArray[np.float32], stiffness: float) -> NDArray[np.int64]:
    """Follow the best paths from their ends; ``best`` is ``T x B x K``, padded by ``REACH``."""
    offsets = best.shape[2] - 2 * REACH
    steps = range(-REACH, REACH + 1)
    before = np.stack(
        [
            best[:, :, REACH + step : REACH + step + offsets] - np.float32(stiffness * step * step)
            for step in steps
        ]
    )
    # moves[t][b][k]: where the best path to offset k came from. Lists are faster to walk.
    moves: list[list[list[int]]] = (before.argmax(axis=0) - REACH).tolist()
    ends = best[-1].argmax(axis=1) - REACH
    paths = []
    for outline, end in enumerate(ends.tolist()):
        path = [end]
        for t in range(len(best) - 2, -1, -1):
            path.append(path[-1] + moves[t][outline][path[-1]])
        paths.append(path[::-1])
    return np.array(paths)
