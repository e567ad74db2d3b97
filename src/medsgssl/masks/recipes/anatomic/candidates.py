"""Step 2, candidates: dark components over many thresholds, scored by likeness to a lung.

Two images are cut at a dozen levels each: the smoothed one, where clear lungs stand out, and the
flattened one, where opacified lungs or unequal exposure still give a dark region. Every connected
component on one side of the spine is compared with the usual size, place and shape of a lung.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from medsgssl.masks.recipes.anatomic.frame import FloatImage, Frame
from medsgssl.masks.types import Mask


@dataclass(frozen=True)
class CandidateParameters:
    """Constants of the step; shares are of the frame's height, width or area.

    Attributes:
        levels: Thresholds per image.
        darkest: First threshold, as a share of the pixels below it.
        brightest: Last threshold of the smoothed image.
        brightest_flat: Last threshold of the flattened image.
        areas: Smallest and largest area worth a look.
        usual: Usual distance of the center from the spine, row of the center, width, height,
            area, share of the bounding box and share of the convex hull.
        spread: How far each of them usually strays.
        most: Largest squared deviation that counts, so that one odd feature alone decides little.
        hopeless: Log-likeness of place and size below which the shape is not looked at.
        border_cost: Cost of touching the border of the frame, per share of its length.
        kept: Candidates kept per side.
    """

    levels: int = 6
    darkest: float = 0.08
    brightest: float = 0.62
    brightest_flat: float = 0.55
    areas: tuple[float, float] = (0.02, 0.3)
    usual: tuple[float, ...] = (0.215, 0.41, 0.32, 0.65, 0.125, 0.60, 0.915)
    spread: tuple[float, ...] = (0.06, 0.09, 0.07, 0.15, 0.055, 0.11, 0.055)
    most: float = 9.0
    hopeless: float = -7.0
    border_cost: float = 25.0
    kept: int = 5


@dataclass(frozen=True)
class Bounds:
    """Robust bounds of a component on the coarse grid, in pixels (last bounds exclusive)."""

    left: float
    top: float
    right: float
    bottom: float


@dataclass(frozen=True)
class Candidate:
    """One component that may be a lung.

    Attributes:
        score: Log-likeness to a lung, 0 at best.
        mask: bool, on the coarse grid.
        area: Share of the frame.
        box: Bounds that leave a percent of the component out on each side.
    """

    score: float
    mask: Mask
    area: float
    box: Bounds


def find_spine(flat: FloatImage) -> int:
    """Return the column of the spine: the brightest band near the middle of the upper frame.

    Args:
        flat: float32, ``h x w``, the flattened coarse image.
    """
    height, width = flat.shape
    profile = flat[height // 6 : 2 * height // 3].mean(axis=0)
    profile = cv2.GaussianBlur(profile[None], (0, 0), width * 0.04)[0]
    away = np.arange(width) / width - 0.5
    likely = profile - 0.5 * profile.std() * (away / 0.12) ** 2
    return int(np.argmax(np.where(np.abs(away) < 0.2, likely, -np.inf)))


def find_candidates(
    frame: Frame, spine: int, parameters: CandidateParameters
) -> tuple[list[Candidate], list[Candidate]]:
    """Return the most lung-like components left and right of the spine in the image.

    Args:
        frame: The image on its grids.
        spine: Column of the spine on the coarse grid.
        parameters: Constants of the step.

    Returns:
        Candidates of the image's left and right side, best first.
    """
    p = parameters
    components: tuple[list[_Component], list[_Component]] = ([], [])
    for image, last in ((frame.coarse, p.brightest), (frame.flat, p.brightest_flat)):
        ordered = np.sort(image[::2, ::2], axis=None)
        shares = np.linspace(p.darkest, last, p.levels)
        for level in ordered[np.round(shares * (len(ordered) - 1)).astype(int)]:
            dark = (image < level).astype(np.uint8)
            dark[:, spine - 1 : spine + 1] = 0
            _collect(dark, spine, p, components)
    shape = frame.coarse.shape
    left, right = ([_finish(f, shape) for f in _best(side, p.kept)] for side in components)
    return left, right


@dataclass(frozen=True)
class _Component:
    score: float
    contour: NDArray[np.int32]
    area: float


def _best(components: list[_Component], count: int) -> list[_Component]:
    return sorted(components, key=lambda one: -one.score)[:count]


def _collect(
    dark: NDArray[np.uint8],
    spine: int,
    p: CandidateParameters,
    components: tuple[list[_Component], list[_Component]],
) -> None:
    """Add the credible components of one threshold to the side they lie on."""
    height, width = dark.shape
    whole = height * width
    _, labels, stats, centers = cv2.connectedComponentsWithStats(dark, connectivity=4)
    # Plain numbers from here on: for so few, arrays cost more than they save.
    rows = zip(stats.tolist(), centers.tolist(), strict=True)
    for label, ((left, top, w, h, area), (x, y)) in enumerate(rows):
        if label == 0 or not p.areas[0] * whole <= area <= p.areas[1] * whole:
            continue
        seen = (abs(x - spine) / width, y / height, w / width, h / height)
        score = -0.5 * _oddness(seen, p.usual[:4], p.spread[:4], p.most)
        if score < p.hopeless:
            continue
        part = (labels[top : top + h, left : left + w] == label).astype(np.uint8)
        contours, _ = cv2.findContours(part, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        contour = max(contours, key=len)
        # OpenCV measures through pixel centers; half the outline is the missing rim.
        rim = 0.5 * len(contour)
        filled = cv2.contourArea(contour) + rim
        hull = cv2.contourArea(cv2.convexHull(contour)) + rim
        shape = (filled / whole, filled / (w * h), filled / hull)
        score -= 0.5 * _oddness(shape, p.usual[4:], p.spread[4:], p.most)
        score -= p.border_cost * _border_contact(part, left, top, (height, width))
        outline = np.add(contour, (left, top), dtype=np.int32)
        components[int(x > spine)].append(_Component(score, outline, filled / whole))


def _oddness(
    seen: tuple[float, ...], usual: tuple[float, ...], spread: tuple[float, ...], most: float
) -> float:
    """Sum of the squared deviations from the usual, each limited."""
    return sum(
        min(((value - middle) / width) ** 2, most)
        for value, middle, width in zip(seen, usual, spread, strict=True)
    )


def _border_contact(part: NDArray[np.uint8], left: int, top: int, shape: tuple[int, ...]) -> float:
    """Share of the frame's borders that a component touches; the top counts half."""
    (h, w), (height, width) = part.shape, shape
    touched = 0.0
    if left == 0:
        touched += float(part[:, 0].sum()) / height
    if left + w == width:
        touched += float(part[:, -1].sum()) / height
    if top + h == height:
        touched += float(part[-1].sum()) / width
    if top == 0:
        touched += 0.5 * float(part[0].sum()) / width
    return touched


def _finish(component: _Component, shape: tuple[int, ...]) -> Candidate:
    filled = np.zeros(shape, np.uint8)
    cv2.drawContours(filled, [component.contour], -1, 1, cv2.FILLED)
    left, right = _percent_bounds(filled.sum(axis=0), 0.01)
    top, bottom = _percent_bounds(filled.sum(axis=1), 0.005)
    return Candidate(
        component.score, filled.astype(bool), component.area, Bounds(left, top, right, bottom)
    )


def _percent_bounds(counts: NDArray[np.uint64], tail: float) -> tuple[float, float]:
    share = np.cumsum(counts) / counts.sum()
    first, last = np.searchsorted(share, [tail, 1.0 - tail])
    return float(first), float(last) + 1.0
