"""Step 5, refine: move the outlines to the borders of the lungs.

Rounds of: local mean brightness inside and outside the present outlines; profiles across the
outlines; the best offset along each profile; an affine fit of the template to the points found.
The first rounds register the template; the last follows the best closed path, found by dynamic
programming, freely where an edge is seen. Where none is, e.g. at an opacified lung, the template
stands in.

Sources: Cootes et al., "Active shape models - their training and application", CVIU 1995 (search
along normals, then fit of the shape); Lankton and Tannenbaum, "Localizing region-based active
contours", IEEE TIP 2008 (local means). Nothing here is trained.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from medsgssl.masks.recipes.anatomic.frame import FloatImage, Frame
from medsgssl.masks.recipes.anatomic.outline import (
    affine_fit,
    best_closed_path,
    best_offsets,
    fill,
    neighbors,
    outward_normals,
    sample,
)
from medsgssl.masks.recipes.anatomic.template import Outline
from medsgssl.masks.types import Mask

# Strength from which an edge alone places the outline.
_SURE_EDGE = 0.3


@dataclass(frozen=True)
class RefineParameters:
    """Constants of the step; lengths in pixels of the fine grid.

    Attributes:
        reaches: How far each round looks inwards and outwards, in steps.
        steps: Length of one step in each round.
        freedoms: How far each round leaves the fitted template for the points found, 0 to 1; at 1
            the points form the best closed path.
        edge: Weight of the edge.
        region: Weight of the region on the inner side looking like lung.
        outward: Gain per pixel outwards, which breaks ties between equal edges.
        stay: Cost per squared pixel of moving.
        stiffness: Cost of a step between neighboring points.
        sigma: Width of the neighborhood of the local means in pixels of the coarse grid.
        ring: Width of the ring outside the lung in pixels of the coarse grid.
        least_contrast: Smallest difference of the local means in gray levels.
        smooth: Rounds of smoothing of the path.
    """

    reaches: tuple[int, ...] = (14, 12, 11)
    steps: tuple[float, ...] = (1.4, 1.4, 1.0)
    freedoms: tuple[float, ...] = (0.0, 0.5, 1.0)
    edge: float = 4.0
    region: float = 0.094
    outward: float = 0.011
    stay: float = 0.00225
    stiffness: float = 0.06
    sigma: float = 6.7
    ring: int = 9
    least_contrast: float = 6.0
    smooth: int = 1


@dataclass(frozen=True)
class Refined:
    """The outlines of both lungs and how well the image supports them.

    Attributes:
        outlines: ``2 x N x 2`` points (x, y) on the fine grid; the image's left lung first.
        edges: ``2 x N`` drop of lung likeness across the outline, about 0 (none) to 2 (clear).
        rounds: The outlines after every round, the placed template first.
    """

    outlines: Outline
    edges: FloatImage
    rounds: tuple[Outline, ...]


def refine_outlines(
    frame: Frame, template: Outline, evidence: Mask, parameters: RefineParameters
) -> Refined:
    """Move the outlines of the template to the borders of the lungs.

    Args:
        frame: The image on its grids.
        template: ``2 x N x 2``, placed on the fine grid.
        evidence: bool, the chosen candidates on the coarse grid.
        parameters: Constants of the step.
    """
    p = parameters
    image = cv2.GaussianBlur(frame.fine, (0, 0), 1.0).astype(np.float32)
    outlines, rounds = template, [template]
    edges = np.zeros(template.shape[:2], np.float32)
    for number, (reach, freedom) in enumerate(zip(p.reaches, p.freedoms, strict=True)):
        inner, outer = _local_means(frame, outlines, evidence if number == 0 else None, p)
        normals = outward_normals(outlines)
        # Two more samples on either side, which the edge is measured with.
        offsets = np.arange(-reach - 2, reach + 3, dtype=np.float32) * np.float32(p.steps[number])
        across = normals[:, :, None, :] * offsets[None, None, :, None]
        points = (outlines[:, :, None, :] + across).astype(np.float32)
        likeness = _lung_likeness(image, inner, outer, points, frame.scale, p)
        gains, edge = _gains(likeness, offsets[2:-2], p)
        # While the template is being registered, its fit makes up for a path.
        path = best_closed_path(gains, p.stiffness) if freedom == 1 else best_offsets(gains)
        moved = (
            outlines + normals * (p.steps[number] * _smoothed(path - reach, p.smooth))[..., None]
        )
        edges = np.take_along_axis(edge, path[..., None], axis=2)[..., 0]
        fitted = np.stack(
            [
                affine_fit(template[side], moved[side], np.clip(edges[side], 0.05, 1.0))
                for side in (0, 1)
            ]
        )
        beyond = moved - fitted
        if freedom == 1:
            beyond = _supported(beyond, edges)
        outlines = fitted + freedom * beyond
        rounds.append(outlines)
    return Refined(outlines, edges, tuple(rounds))


def _supported(beyond: Outline, edges: FloatImage) -> Outline:
    """Where no edge is seen, replace the departure from the template by that of the neighbors.

    Args:
        beyond: ``2 x N x 2``, departure from the fitted template in pixels.
        edges: ``2 x N``, strength of the edge at each point.
    """
    weights = np.clip(edges, 0.05, 1.0)[..., None].astype(np.float64)
    pulled, total = beyond * weights, weights
    for step in (1, 2):
        pulled = (neighbors(pulled, step) + 2 * pulled + neighbors(pulled, -step)) / 4
        total = (neighbors(total, step) + 2 * total + neighbors(total, -step)) / 4
    sure = np.clip(edges / _SURE_EDGE, 0.0, 1.0)[..., None]
    return np.asarray(sure * beyond + (1.0 - sure) * pulled / total)


def _local_means(
    frame: Frame, outlines: Outline, evidence: Mask | None, p: RefineParameters
) -> tuple[FloatImage, FloatImage]:
    """Local mean brightness of lung and of its surroundings, on half of the coarse grid."""
    coarse = frame.coarse
    inside = fill(outlines / frame.scale, (coarse.shape[0], coarse.shape[1]))
    wide = cv2.dilate(inside.astype(np.uint8), np.ones((p.ring, p.ring), np.uint8)) > 0
    ring = wide & ~inside
    if evidence is not None:
        # The placed template is rough: only what the thresholds agree on is sure.
        inside, ring = inside & evidence, ring & ~evidence
    return _local_mean(coarse, inside, p), _local_mean(coarse, ring, p)


def _local_mean(image: FloatImage, where: Mask, p: RefineParameters) -> FloatImage:
    weight = where.astype(np.float32)
    size = (max(1, image.shape[1] // 2), max(1, image.shape[0] // 2))
    sums = cv2.resize(image * weight, size, interpolation=cv2.INTER_AREA)
    counts = cv2.resize(weight, size, interpolation=cv2.INTER_AREA)
    overall = float(sums.sum()) / (float(counts.sum()) + 1e-6)
    sums = cv2.GaussianBlur(sums, (0, 0), p.sigma / 2)
    counts = cv2.GaussianBlur(counts, (0, 0), p.sigma / 2)
    # A little of the overall mean everywhere, so that far places are defined.
    return np.asarray((sums + 0.02 * overall) / (counts + 0.02), dtype=np.float32)


def _lung_likeness(
    image: FloatImage,
    inner: FloatImage,
    outer: FloatImage,
    points: NDArray[np.float32],
    scale: NDArray[np.float64],
    p: RefineParameters,
) -> FloatImage:
    """How much each sample looks like lung: 1 as lung, 0 between, -1 as its surroundings."""
    # Pixel centers of a coarser grid lie at other coordinates; the means are half as fine again.
    means = ((points + 0.5) / (2 * scale) - 0.5).astype(np.float32)
    lung, around = sample(inner, means), sample(outer, means)
    contrast = np.maximum(around - lung, p.least_contrast)
    return np.asarray(np.clip(((lung + around) / 2 - sample(image, points)) / contrast, -1.0, 1.0))


def _gains(
    likeness: FloatImage, offsets: NDArray[np.float32], p: RefineParameters
) -> tuple[FloatImage, FloatImage]:
    """Gain of putting the border at each offset, and the edge there."""
    edge = 0.5 * (
        likeness[..., :-4] + likeness[..., 1:-3] - likeness[..., 3:-1] - likeness[..., 4:]
    )
    within = np.cumsum(likeness, axis=-1)[..., 2:-2]
    within = within - within[..., len(offsets) // 2, None]
    gains = p.edge * edge + p.region * within + p.outward * offsets - p.stay * offsets**2
    return np.asarray(gains, dtype=np.float32), np.asarray(edge, dtype=np.float32)


def _smoothed(path: NDArray[np.int64], times: int) -> NDArray[np.float64]:
    values = path.astype(np.float64)
    for _ in range(times):
        values = (neighbors(values, 1) + 2 * values + neighbors(values, -1)) / 4
    return values
