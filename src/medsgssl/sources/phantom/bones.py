"""The skeleton: ribs, clavicles, scapulae, upper arms and spine, as added attenuation."""

from __future__ import annotations

import numpy as np

from medsgssl.sources.phantom.anatomy import LEFT, RIGHT, Anatomy
from medsgssl.sources.phantom.canvas import Canvas, Floats, Points, band, curve, edges, ellipse

_RIB_PAIRS = 11


def add_bones(att: Floats, canvas: Canvas, anatomy: Anatomy, random: np.random.Generator) -> None:
    """Add the skeleton to an attenuation field in place."""
    age = anatomy.subject.age
    # Old bones carry less calcium, young ones are not yet dense.
    density = random.uniform(0.85, 1.15) * (1.0 - 0.004 * max(0, age - 55))
    att += _ribs(canvas, anatomy, random) * np.float32(density)
    att += _shoulders(canvas, anatomy, random) * np.float32(density)
    att += _spine(canvas, anatomy, random) * np.float32(density)


def _ribs(canvas: Canvas, anatomy: Anatomy, random: np.random.Generator) -> Floats:
    spacing = anatomy.span / 8.6 * random.uniform(0.97, 1.05)
    steep = random.uniform(0.7, 1.15) * (0.9 if anatomy.view == "AP" else 1.0)
    back, front = canvas.blank(), canvas.blank()
    back_rims, front_rims = [], []
    for pair in range(_RIB_PAIRS):
        for side in (RIGHT, LEFT):
            y0 = anatomy.apex - 0.015 + spacing * pair + random.normal(0, 0.0015)
            width = 0.0215 * (1 - 0.25 * (pair == 0)) * random.uniform(0.95, 1.08)
            posterior, anterior = _rib(anatomy, side, pair, y0, steep)
            taper = np.linspace(1.0, 0.72, len(posterior))
            canvas.fill(band(posterior, width * taper), value=150, onto=back)
            back_rims += edges(posterior, width * taper)
            if pair < 8:
                broad = width * np.linspace(0.72, 1.15, len(anterior))
                canvas.fill(band(anterior, broad), value=120, onto=front)
                front_rims += edges(anterior[: len(anterior) * 4 // 5], broad[: len(anterior) * 4 // 5])
    canvas.stroke(back_rims, 0.0035, 235, back)
    canvas.stroke(front_rims, 0.003, 175, front)
    ribs = canvas.soften(back, 0.0022, 0.155 / 255) + canvas.soften(front, 0.003, 0.12 / 255)
    # Anterior ribs end in cartilage, and all of them fade where the flank is thick.
    return ribs


def _rib(
    anatomy: Anatomy, side: int, pair: int, y0: float, steep: float
) -> tuple[Points, Points]:
    """Return the posterior and the anterior half of one rib, ``(n, 2)`` each."""
    fall = steep * anatomy.span * (0.13 + 0.012 * min(pair, 6))
    y1 = y0 + fall
    reach = float(anatomy.wall(side, min(y1, anatomy.dome(side) + anatomy.sulcus))) + 0.004
    if pair == 0:
        reach = min(reach, 0.2)
    start = 0.035
    turn = np.linspace(0, np.pi / 2, 24)
    x = start + (reach - start) * np.sin(turn) ** 0.93
    y = y0 - 0.02 * np.sin(2 * turn) + fall * (1 - np.cos(turn)) ** 1.05
    posterior = np.stack([anatomy.mid + side * x, y], axis=1)
    end = 0.06 + 0.02 * pair if pair else 0.07
    turn = np.linspace(0, 1, 18)
    x = reach - (reach - end) * turn**1.5
    y = y1 + (0.055 + 0.014 * pair) * anatomy.span / 0.55 * np.sin(turn * np.pi / 2) ** 1.1
    anterior = np.stack([anatomy.mid + side * x, y], axis=1)
    return posterior, anterior


def _shoulders(canvas: Canvas, anatomy: Anatomy, random: np.random.Generator) -> Floats:
    clavicles, scapulae, rims = canvas.blank(), canvas.blank(), []
    top, width = anatomy.apex, anatomy.width
    inward = 0.055 if anatomy.view == "AP" else 0.0
    for side in (RIGHT, LEFT):
        lift = random.uniform(-0.02, 0.03) + (0.02 if anatomy.view == "AP" else 0.0)
        line = curve(
            [
                anatomy.at(side, x, y)
                for x, y in (
                    (0.03, anatomy.level(0.2)),
                    (0.1, anatomy.level(0.15)),
                    (0.19, top + 0.04 - 0.4 * lift),
                    (0.28, top + 0.01 - lift),
                    (width + 0.03, top + 0.015 - lift),
                )
            ]
        )
        thick = 0.021 + 0.008 * np.abs(np.linspace(-1, 1, len(line))) ** 3
        canvas.fill(band(line, thick), value=150, onto=clavicles)
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
    outline = canvas.stroke(rims, 0.004, 200)
    return (
        canvas.soften(clavicles, 0.003, 0.16 / 255)
        + canvas.soften(scapulae, 0.0045, 0.2 / 255)
        + canvas.soften(outline, 0.002, 0.09 / 255)
    )


def _spine(canvas: Canvas, anatomy: Anatomy, random: np.random.Generator) -> Floats:
    bodies, marks = canvas.blank(), []
    step = anatomy.span / 8.6
    bend = random.normal(0, 0.006)
    heights = np.arange(anatomy.apex - 5 * step * 0.8, 1.1, step)
    column = [(anatomy.mid, -0.1)]
    for number, y in enumerate(heights):
        middle = anatomy.mid + bend * np.sin(3 * y)
        half = 0.031 + 0.008 * y
        tall = 0.41 * step
        corners = [(-1, -1), (0, -0.86), (1, -1), (0.84, 0), (1, 1), (0, 0.86), (-1, 1), (-0.84, 0)]
        shape = np.array([(middle + half * a, y + tall * b) for a, b in corners])
        canvas.fill(shape, value=255, onto=bodies)
        process = ellipse((middle, y + 0.3 * step), (0.007, 0.012))
        pedicles = [
            ellipse((middle + side * 0.62 * half, y - 0.1 * step), (0.007, 0.009))
            for side in (-1, 1)
        ]
        marks += [process, *pedicles]
        if number < 5:
            wing = np.array([(middle - 1.75 * half, y), (middle, y - 0.006), (middle + 1.75 * half, y)])
            canvas.fill(band(wing, 0.016), value=110, onto=bodies)
        column.append((middle, float(y)))
    column.append((column[-1][0], 1.3))
    core = canvas.fill(band(np.array(column), 0.075))
    rims = canvas.stroke([np.vstack([m, m[:1]]) for m in marks], 0.004, 255)
    return (
        canvas.soften(core, 0.006, 0.3 / 255)
        + canvas.soften(bodies, 0.003, 0.11 / 255)
        + canvas.soften(rims, 0.0025, 0.08 / 255)
    )
