"""Soft tissue and air: body, mediastinum, abdomen, breasts, airway, bowel gas, vessels."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from medsgssl.data.synthetic.anatomy import LEFT, RIGHT, Anatomy
from medsgssl.data.synthetic.canvas import Bytes, Canvas, Floats, Points, curve, ellipse


@dataclass(frozen=True)
class Regions:
    """Rasters of the large regions, all ``uint8`` 0..255 on the canvas."""

    body: Bytes
    right_lung: Bytes
    left_lung: Bytes
    mediastinum: Bytes
    hidden_lung: Bytes
    """Lung in front of and behind the mediastinum; not part of the lung fields."""
    abdomen: Bytes

    @property
    def lungs(self) -> Bytes:
        """Both lung fields."""
        return cv2.max(self.right_lung, self.left_lung).astype(np.uint8, copy=False)

    def lung(self, side: int) -> Bytes:
        """One lung field."""
        return self.right_lung if side < 0 else self.left_lung


def draw_regions(canvas: Canvas, anatomy: Anatomy) -> Regions:
    """Rasterise the outlines; a lung field ends at mediastinum and diaphragm."""
    body = canvas.fill(*anatomy.body())
    mediastinum = canvas.fill(anatomy.mediastinum())
    # The heart hides lung, so its raster is subtracted rather than outlined again.
    outlines = [canvas.fill(anatomy.lung(side)) for side in (RIGHT, LEFT)]
    right, left = (cv2.subtract(outline, mediastinum).astype(np.uint8) for outline in outlines)
    hidden = cv2.min(cv2.max(*outlines), mediastinum).astype(np.uint8)
    right[:, canvas.x[canvas.side // 2] > anatomy.mid] = 0
    left[:, canvas.x[canvas.side // 2] < anatomy.mid] = 0
    return Regions(body, right, left, mediastinum, hidden, canvas.fill(anatomy.abdomen()))


def draw_body(canvas: Canvas, anatomy: Anatomy, regions: Regions) -> Floats:
    """Return the attenuation of the trunk without its organs."""
    small_side = max(64, canvas.side // 4)
    small = cv2.resize(regions.body, (small_side, small_side), interpolation=cv2.INTER_AREA)
    inside = (small > 127).astype(np.uint8)
    # Pixels beyond the film are body too, so distance counts from drawn air alone.
    depth = cv2.distanceTransform(inside, cv2.DIST_L2, 3).astype(np.float32) / small_side
    stout = anatomy.subject.build
    thick = (0.86 + 0.24 * stout) * (1 - np.exp(-depth / np.float32(0.03 + 0.02 * stout)))
    body = canvas.spread(
        cv2.GaussianBlur(thick.astype(np.float32), (0, 0), 1.5).astype(np.float32)
    ) * canvas.soften(regions.body, 0.002)
    # Neck and shoulder tops are thinner than the trunk.
    rise = np.clip((canvas.y - np.float32(anatomy.apex - 0.1)) / np.float32(0.3), 0, 1)
    trunk: Floats = body * (np.float32(0.72) + np.float32(0.28) * rise)
    return trunk


def draw_mediastinum(canvas: Canvas, anatomy: Anatomy, regions: Regions) -> Floats:
    """Return the attenuation of heart, vessels, hila and airway (which is negative)."""
    solid = regions.mediastinum
    field = canvas.soften(solid, 0.0035, 0.09 / 255) + canvas.soften(solid, 0.035, 0.2 / 255)
    left = anatomy.heart_offsets[1]
    middle = anatomy.mid + 0.35 * left
    field += np.float32(0.24) * canvas.bump(
        (middle, anatomy.level(0.88)), (0.5 * left + 0.03, 0.13)
    )
    for side in (RIGHT, LEFT):
        x, y = hilum(anatomy, side)
        field += np.float32(0.11) * canvas.bump((x, y), (0.02, 0.045))
        field += np.float32(0.04) * canvas.bump((x, y + 0.05), (0.035, 0.07))
    carina = anatomy.level(0.44)
    shift = anatomy.mid - 0.004
    trachea = canvas.stroke(
        [curve([(shift, -0.1), (shift, anatomy.apex), (shift - 0.004, carina)])], 0.034
    )
    bronchi = canvas.stroke(
        [
            curve(
                [
                    (shift - 0.004, carina - 0.005),
                    (shift - 0.03, carina + 0.035),
                    (shift - 0.062, carina + 0.07),
                ]
            ),
            curve(
                [
                    (shift - 0.004, carina - 0.005),
                    (shift + 0.035, carina + 0.03),
                    (shift + 0.08, carina + 0.05),
                ]
            ),
        ],
        0.021,
    )
    field -= canvas.soften(trachea, 0.005, 0.26 / 255)
    field -= canvas.soften(bronchi, 0.006, 0.1 / 255)
    return field


def draw_abdomen(
    canvas: Canvas, anatomy: Anatomy, regions: Regions, random: np.random.Generator
) -> Floats:
    """Return the attenuation of liver, spleen and bowel with their gas."""
    solid = cv2.min(regions.abdomen, regions.body).astype(np.uint8)
    dense = canvas.soften(solid, 0.004, 0.38 / 255) + canvas.soften(solid, 0.05, 0.42 / 255)
    # The belly is round, so the beam crosses less of it toward the flanks.
    aside = (canvas.x - np.float32(anatomy.mid)) / np.float32(anatomy.width + 0.05)
    dense *= np.float32(1.12) - np.float32(0.75) * np.minimum(aside * aside, np.float32(1.2))
    gas = canvas.blank()
    floor = anatomy.dome(LEFT)
    if random.random() < 0.75:
        center = anatomy.at(LEFT, random.uniform(0.12, 0.2), floor + random.uniform(0.05, 0.07))
        radii = (random.uniform(0.035, 0.075), random.uniform(0.018, 0.035))
        bubble = ellipse(center, radii, random.normal(0, 0.15))
        # Upright, fluid lies flat below the gas.
        if anatomy.view_position == "PA":
            bubble[:, 1] = np.minimum(bubble[:, 1], center[1] + 0.3 * radii[1])
        canvas.fill(bubble, value=int(random.integers(110, 230)), onto=gas)
    for _ in range(int(random.integers(0, 4))):
        where = anatomy.at(LEFT, random.uniform(-0.2, 0.28), floor + random.uniform(0.13, 0.35))
        radii = (random.uniform(0.02, 0.05), random.uniform(0.015, 0.03))
        loop = ellipse(where, radii, random.uniform(-0.8, 0.8))
        canvas.fill(loop, value=int(random.integers(50, 150)), onto=gas)
    return dense - canvas.soften(gas, 0.006, 0.85 / 255)


def draw_breasts(canvas: Canvas, anatomy: Anatomy, random: np.random.Generator) -> Floats | None:
    """Return the breast shadows, or None where there are none."""
    radius = anatomy.subject.breast
    if radius == 0.0:
        return None
    field = np.zeros((canvas.side, canvas.side), np.float32)
    strength = np.float32(random.uniform(0.18, 0.36))
    drop = random.uniform(0.82, 0.98)
    for side in (RIGHT, LEFT):
        offset = anatomy.width * random.uniform(0.66, 0.74)
        center = anatomy.at(side, offset, anatomy.level(drop) - 0.3 * radius)
        field += strength * canvas.ball(center, (1.05 * radius, 0.95 * radius))
    return field


def draw_air(canvas: Canvas, regions: Regions) -> Floats:
    """Return how much attenuation the air in the lungs takes away, 0 outside, up to about 1."""
    lungs = regions.lungs
    deep = canvas.soften(lungs, 0.055)
    field: Floats = canvas.soften(lungs, 0.0022) * (np.float32(0.5) + np.float32(0.5) * deep)
    field += canvas.soften(regions.hidden_lung, 0.018, 0.17 / 255)
    return field


def lung_labels(canvas: Canvas, regions: Regions, size: int) -> tuple[NDArray[np.bool_], ...]:
    """Return the exact masks of the patient's right and left lung, ``bool size x size``."""
    masks = []
    for side in (RIGHT, LEFT):
        area = regions.lung(side)
        if size != canvas.side:
            area = cv2.resize(area, (size, size), interpolation=cv2.INTER_AREA).astype(np.uint8)
        masks.append(area > 127)
    return tuple(masks)


_LEVELS = 5
_STEPS = 6


def hilum(anatomy: Anatomy, side: int) -> tuple[float, float]:
    """Return the center of one hilum; the left one lies higher."""
    return anatomy.at(side, 0.082, anatomy.level(0.55 if side < 0 else 0.51))


def draw_vessels(canvas: Canvas, anatomy: Anatomy, random: np.random.Generator) -> Bytes:
    """Draw the vessels of both lungs.

    Returns:
        ``uint8`` raster, brighter where a vessel is thicker; not yet cut to the lungs.
    """
    raster = canvas.blank()
    trees = [_tree(anatomy, side, random) for side in (RIGHT, LEFT)]
    for level in reversed(range(_LEVELS)):
        width = 0.0085 * 0.62**level
        for lines in (tree[level] for tree in trees):
            canvas.stroke(lines, width, round(235 * 0.8**level), raster)
    return raster


def _tree(anatomy: Anatomy, side: int, random: np.random.Generator) -> list[Points]:
    """Return, level by level, the polylines of one lung, ``(n, steps, 2)``."""
    roots = 15
    # Zero points sideways, positive angles downwards; most vessels serve the lower lobe.
    angle = np.linspace(-1.35, 1.5, roots) + random.normal(0, 0.12, roots)
    start = np.array(hilum(anatomy, side)) + random.normal(0, 1, (roots, 2)) * [0.012, 0.03]
    start[:, 1] += 0.03 * np.sin(angle)
    length = 0.075 * random.uniform(0.75, 1.25, roots) * (anatomy.span / 0.55)
    levels = []
    for level in range(_LEVELS):
        bend = random.normal(0, 0.5, len(angle))
        along = np.linspace(0, 1, _STEPS)
        heading = angle[:, None] + bend[:, None] * along[None, :]
        stride = (length / (_STEPS - 1))[:, None]
        x = np.cumsum(np.cos(heading) * stride, axis=1) * side
        y = np.cumsum(np.sin(heading) * stride, axis=1)
        lines = np.stack([x, y], axis=2)
        lines = lines - lines[:, :1] + start[:, None, :]
        levels.append(lines)
        fork = random.uniform(0.22, 0.6, (2, len(angle))) * np.array([[-1.0], [1.0]])
        keep = random.random((2, len(angle))) < (0.95 if level < 3 else 0.75)
        angle = (heading[:, -1][None] + fork)[keep]
        start = np.broadcast_to(lines[None, :, -1], (2, *lines[:, -1].shape))[keep]
        length = (np.broadcast_to(length, keep.shape) * random.uniform(0.6, 0.95, keep.shape))[keep]
    return levels
