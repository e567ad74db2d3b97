"""Step 3, pairing: the two candidates that look most like a pair, and the boxes of both lungs."""

from __future__ import annotations

from dataclasses import dataclass

from medsgssl.masks.recipes.anatomic.candidates import Bounds, Candidate


@dataclass(frozen=True)
class PairParameters:
    """Constants of the step; shares are of the coarse frame's height or width.

    Attributes:
        top: How far the tops of two lungs usually differ.
        bottom: How far their bottoms differ.
        side: How far their distances from the spine to the chest wall differ.
        height: How far their heights differ.
        most: Largest squared deviation that counts.
        area_gain: Gain per share of the frame covered, as thresholds cut lungs too small.
        single_cost: Cost of a side without a candidate.
        level_rows: How far the box of the shorter lung grows toward the longer one's.
        level_sides: Likewise for the distance from the spine to the chest wall.
        grow: Shares of a box added at the chest wall, the spine, the top and the bottom, which
            thresholds miss.
    """

    top: float = 0.06
    bottom: float = 0.08
    side: float = 0.10
    height: float = 0.12
    most: float = 16.0
    area_gain: float = 20.0
    single_cost: float = 14.0
    level_rows: float = 0.7
    level_sides: float = 0.7
    grow: tuple[float, float, float, float] = (0.08, 0.02, 0.06, 0.07)


@dataclass(frozen=True)
class Pair:
    """The evidence for both lungs.

    Attributes:
        score: Log-likeness to a pair of lungs.
        chosen: Candidates of the image's left and right side; None where there is none.
        boxes: Boxes of both lungs on the coarse grid, a missing one mirrored at the spine.
    """

    score: float
    chosen: tuple[Candidate | None, Candidate | None]
    boxes: tuple[Bounds, Bounds]


def pair_up(
    candidates: tuple[list[Candidate], list[Candidate]],
    spine: int,
    shape: tuple[int, int],
    parameters: PairParameters,
) -> Pair | None:
    """Choose the pair, or the single lung, of highest score.

    Args:
        candidates: Candidates of the image's left and right side.
        spine: Column of the spine on the coarse grid.
        shape: Height and width of the coarse grid.
        parameters: Constants of the step.

    Returns:
        The pair, or None when neither side has a candidate.
    """
    p = parameters
    best: tuple[float, Candidate | None, Candidate | None] | None = None
    for left in (*candidates[0], None):
        for right in (*candidates[1], None):
            score = _score(left, right, spine, shape, p)
            if score is not None and (best is None or score > best[0]):
                best = score, left, right
    if best is None:
        return None
    score, left, right = best
    return Pair(score, (left, right), _boxes(left, right, spine, p))


def _score(
    left: Candidate | None,
    right: Candidate | None,
    spine: int,
    shape: tuple[int, int],
    p: PairParameters,
) -> float | None:
    if left is None or right is None:
        only = left or right
        return None if only is None else only.score - p.single_cost
    height, width = shape
    a, b = left.box, right.box
    differences = (
        (a.top - b.top) / height / p.top,
        (a.bottom - b.bottom) / height / p.bottom,
        ((spine - a.left) - (b.right - spine)) / width / p.side,
        ((a.bottom - a.top) - (b.bottom - b.top)) / height / p.height,
    )
    unlike = sum(min(difference**2, p.most) for difference in differences)
    gain = p.area_gain * (left.area + right.area)
    return left.score + right.score - 0.5 * unlike + gain


def _boxes(
    left: Candidate | None, right: Candidate | None, spine: int, p: PairParameters
) -> tuple[Bounds, Bounds]:
    """Level the boxes of a pair, or mirror the only one at the spine, and let them grow."""
    if left is not None and right is not None:
        boxes = _level(left.box, right.box, spine, p)
    elif left is not None:
        boxes = left.box, _mirror(left.box, spine)
    elif right is not None:
        boxes = _mirror(right.box, spine), right.box
    else:
        raise ValueError("a pair needs at least one lung")
    wall, inner, above, below = p.grow
    a, b = boxes
    return _grown(a, wall, inner, above, below), _grown(b, inner, wall, above, below)


def _mirror(box: Bounds, spine: int) -> Bounds:
    return Bounds(2 * spine - box.right, box.top, 2 * spine - box.left, box.bottom)


def _level(a: Bounds, b: Bounds, spine: int, p: PairParameters) -> tuple[Bounds, Bounds]:
    top, bottom = min(a.top, b.top), max(a.bottom, b.bottom)
    reach = max(spine - a.left, b.right - spine)
    rows, sides = p.level_rows, p.level_sides

    def rows_of(box: Bounds) -> tuple[float, float]:
        return box.top + rows * (top - box.top), box.bottom + rows * (bottom - box.bottom)

    (a_top, a_bottom), (b_top, b_bottom) = rows_of(a), rows_of(b)
    a_left = a.left - sides * (reach - (spine - a.left))
    b_right = b.right + sides * (reach - (b.right - spine))
    return Bounds(a_left, a_top, a.right, a_bottom), Bounds(b.left, b_top, b_right, b_bottom)


def _grown(box: Bounds, left: float, right: float, above: float, below: float) -> Bounds:
    width, height = box.right - box.left, box.bottom - box.top
    return Bounds(
        box.left - left * width,
        box.top - above * height,
        box.right + right * width,
        box.bottom + below * height,
    )
