"""Dynamic programming: the best closed path through a table of gains.

Source: Amini, Weymouth and Jain, "Using dynamic programming for solving variational problems in
vision", IEEE TPAMI 1990.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

REACH = 2


def best_closed_path(gains: NDArray[np.float32], stiffness: float) -> NDArray[np.int64]:
    """Choose one offset per point so that gains are high and neighbours agree.

    The path runs a quarter turn past its start; the part whose both ends are settled is kept,
    which closes the path without trying every start.

    Args:
        gains: float32, ``B x N x K``: gain of offset k at point n of outline b.
        stiffness: Cost of a step of one offset between neighbours; it grows with the square, and
            steps beyond ``REACH`` are forbidden.

    Returns:
        int64, ``B x N``: the chosen offsets.
    """
    outlines, points, offsets = gains.shape
    extra = points // 4
    turns = np.concatenate([gains, gains[:, :extra]], axis=1).transpose(1, 0, 2)
    total = len(turns)
    best = np.full((total, outlines, offsets + 2 * REACH), -1e9, np.float32)
    inside = slice(REACH, REACH + offsets)
    best[0, :, inside] = turns[0]
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
        np.add(reach, turns[i], out=best[i, :, inside])
    chosen = _trace_back(best, stiffness)
    settled = chosen[:, extra // 2 : extra // 2 + points]
    return np.roll(settled, extra // 2, axis=1)


def best_offsets(gains: NDArray[np.float32]) -> NDArray[np.int64]:
    """Choose each offset by the gains of its point and its neighbours; no path, but fast.

    Good enough where only a fit through all points follows.

    Args:
        gains: float32, ``B x N x K``.

    Returns:
        int64, ``B x N``: the chosen offsets.
    """
    near = np.roll(gains, 1, axis=1) + np.roll(gains, -1, axis=1)
    far = np.roll(gains, 2, axis=1) + np.roll(gains, -2, axis=1)
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
