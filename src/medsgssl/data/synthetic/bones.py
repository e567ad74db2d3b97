"""The skeleton: ribs, clavicles, scapulae, upper arms and spine, as added attenuation."""

from __future__ import annotations

import cv2
import numpy as np

from medsgssl.data.synthetic.anatomy import LEFT, RIGHT, Anatomy
from medsgssl.data.synthetic.canvas import (
    Bytes,
    Canvas,
    Floats,
    Points,
    band,
    curve,
    edges,
    ellipse,
)

_RIB_PAIRS = 11
_VERTEBRA = np.array(
    [(-1, -1), (0, -0.86), (1, -1), (0.84, 0), (1, 1), (0, 0.86), (-1, 1), (-0.84, 0)], np.float64
)


def add_bones(
    att: Floats, canvas: Canvas, anatomy: Anatomy, body: Bytes, random: np.random.Generator
) -> None:
    """Add the skeleton to an attenuation field in place."""
    age = anatomy.subject.age
    # Old bones carry less calcium, young ones are not yet dense.
    density = random.uniform(0.85, 1.15) * (1.0 - 0.004 * max(0, age - 55))
    att += _ribs(canvas, anatomy, random) * np.float32(density)
    att += _shoulders(canvas, anatomy, body, random) * np.float32(density)
    att += _spine(canvas, anatomy, random) * np.float32(density)


def _ribs(canvas: Canvas, anatomy: Anatomy, random: np.random.Generator) -> Floats:
    steep = random.uniform(0.7, 1.15) * (0.9 if anatomy.view_position == "AP" else 1.0)
    stretch = random.uniform(0.97, 1.05)
    posterior, anterior = [], []
    for side in (RIGHT, LEFT):
        jitter = random.normal(0, 0.0015, _RIB_PAIRS)
        back, front = _cage(anatomy, side, steep, stretch, jitter)
        posterior.append(back)
        # The lowest ribs have no anterior part that reaches the cartilage.
        anterior.append(front[:8])
    backs, fronts = np.concatenate(posterior), np.concatenate(anterior)
    width = random.uniform(0.0195, 0.023)
    back_edges = edges(backs, width * np.linspace(1.0, 0.72, backs.shape[1]))
    front_edges = edges(fronts, width * np.linspace(0.72, 1.2, fronts.shape[1]))
    back_raster = canvas.fill(_closed(back_edges), value=150)
    front_raster = canvas.fill(_closed(front_edges), value=130)
    canvas.stroke(np.concatenate(back_edges), 0.0035, 235, back_raster)
    # Towards the cartilage the cortex is lost to sight.
    canvas.stroke(np.concatenate(front_edges)[:, :-5], 0.003, 185, front_raster)
    return canvas.soften(back_raster, 0.0022, 0.16 / 255) + canvas.soften(
        front_raster, 0.003, 0.11 / 255
    )


def _closed(borders: tuple[Points, Points]) -> Points:
    return np.concatenate([borders[0], borders[1][:, ::-1]], axis=1)


def _cage(
    anatomy: Anatomy, side: int, steep: float, stretch: float, jitter: Points
) -> tuple[Points, Points]:
    """Return all posterior and all anterior ribs of one side, ``(pairs, n, 2)`` each."""
    pair = np.arange(_RIB_PAIRS, dtype=np.float64)
    y0 = anatomy.apex - 0.015 + anatomy.span / 8.6 * stretch * pair + jitter
    fall = steep * anatomy.span * (0.13 + 0.012 * np.minimum(pair, 6))
    y1 = y0 + fall
    base = anatomy.dome(side) + anatomy.sulcus
    reach = anatomy.wall(side, np.minimum(y1, base)) + 0.004
    reach[0] = min(reach[0], 0.2)
    turn = np.linspace(0, np.pi / 2, 24)[None]
    start = 0.035
    x = start + (reach[:, None] - start) * np.sin(turn) ** 0.93
    y = y0[:, None] - 0.02 * np.sin(2 * turn) + fall[:, None] * (1 - np.cos(turn)) ** 1.05
    posterior = np.stack([anatomy.mid + side * x, y], axis=2)
    end = 0.06 + 0.02 * pair
    turn = np.linspace(0, 1, 18)[None]
    x = reach[:, None] - (reach - end)[:, None] * turn**1.5
    drop = (0.055 + 0.014 * pair) * anatomy.span / 0.55
    y = y1[:, None] + drop[:, None] * np.sin(turn * np.pi / 2) ** 1.1
    return posterior, np.stack([anatomy.mid + side * x, y], axis=2)


def _shoulders(
    canvas: Canvas, anatomy: Anatomy, body: Bytes, random: np.random.Generator
) -> Floats:
    clavicles, scapulae = canvas.blank(), canvas.blank()
    rims: list[Points] = []
    top, width = anatomy.apex, anatomy.width
    inward = 0.055 if anatomy.view_position == "AP" else 0.0
    for side in (RIGHT, LEFT):
        lift = random.uniform(-0.02, 0.03) + (0.02 if anatomy.view_position == "AP" else 0.0)
        line = curve(
            [
                anatomy.at(side, x, y)
                for x, y in (
                    (0.028, anatomy.level(0.22)),
                    (0.1, anatomy.level(0.175)),
                    (0.19, top + 0.05 - 0.4 * lift),
                    (0.28, top + 0.004 - lift),
                    (width + 0.02, top - 0.004 - lift),
                    (width + 0.06, top + 0.012 - lift),
                )
            ]
        )
        along = np.linspace(0, 1, len(line))
        thick = 0.019 + 0.009 * (1 - along) ** 4 - 0.014 * along**6
        canvas.fill(band(line, thick), value=130, onto=clavicles)
        rims += edges(line, thick)
        blade = curve(
            [
                anatomy.at(side, width - 0.005 - inward, top + 0.05),
                anatomy.at(side, width + 0.015 - inward, top + 0.17),
                anatomy.at(side, width + 0.045 - inward, top + 0.36),
                anatomy.at(side, width + 0.075 - inward, top + 0.25),
                anatomy.at(side, width + 0.105, top + 0.12),
                anatomy.at(side, width + 0.1, top + 0.055),
                anatomy.at(side, width - 0.005 - inward, top + 0.05),
            ]
        )
        canvas.fill(blade, value=60, onto=scapulae)
        rims.append(blade)
        spine = curve(
            [
                anatomy.at(side, width - inward, top + 0.1),
                anatomy.at(side, width + 0.06, top + 0.05),
                anatomy.at(side, width + 0.13, top + 0.025),
            ]
        )
        canvas.fill(band(spine, 0.02), value=130, onto=scapulae)
        rims += edges(spine, 0.02)
        head = ellipse(anatomy.at(side, width + 0.15, top + 0.085), (0.05, 0.052))
        shaft = curve(
            [
                anatomy.at(side, width + 0.155, top + 0.09),
                anatomy.at(side, width + 0.18, top + 0.25),
                anatomy.at(side, width + 0.19, top + 0.6),
            ]
        )
        canvas.fill(head, band(shaft, 0.055), value=150, onto=scapulae)
        rims += [head, *edges(shaft, 0.05)]
    # Arms that hang away from the trunk leave the film, and so do their bones.
    scapulae = cv2.min(scapulae, body).astype(np.uint8)
    outline = cv2.min(canvas.stroke(rims, 0.004, 200), body).astype(np.uint8)
    return (
        canvas.soften(clavicles, 0.003, 0.3 / 255)
        + canvas.soften(scapulae, 0.0045, 0.36 / 255)
        + canvas.soften(outline, 0.0025, 0.11 / 255)
    )


def _spine(canvas: Canvas, anatomy: Anatomy, random: np.random.Generator) -> Floats:
    step = anatomy.span / 8.6
    bend = random.normal(0, 0.006)
    heights = np.arange(anatomy.apex - 4 * step, 1.1, step)
    middles = anatomy.mid + bend * np.sin(3 * heights)
    centers = np.stack([middles, heights], axis=1)[:, None]
    # The vertebrae grow downwards.
    sizes = np.stack([0.031 + 0.008 * heights, np.full_like(heights, 0.41 * step)], axis=1)[:, None]
    bodies = canvas.fill(centers + sizes * _VERTEBRA, value=255)
    wings = centers[:5] + sizes[:5] * np.array([(-1.75, 0.0), (0.0, -0.25), (1.75, 0.0)])
    canvas.fill(_closed(edges(wings, 0.016)), value=110, onto=bodies)
    processes = centers + ellipse((0.0, 0.3 * step), (0.007, 0.012))
    pedicle = ellipse((0.0, -0.1 * step), (0.007, 0.009))
    pedicles = [centers + sizes * [side * 0.62, 0.0] + pedicle for side in (RIGHT, LEFT)]
    rims = canvas.stroke(np.concatenate([processes, *pedicles]), 0.004, 255)
    ends = np.array([(middles[0], -0.1), (middles[-1], 1.3)])
    core = canvas.fill(band(np.vstack([ends[:1], centers[:, 0], ends[1:]]), 0.075))
    return (
        canvas.soften(core, 0.011, 0.17 / 255)
        + canvas.soften(bodies, 0.003, 0.13 / 255)
        + canvas.soften(rims, 0.0025, 0.08 / 255)
    )
