"""What is not body: electrodes, wires, catheters, tubes, pacemakers and film markers."""

from __future__ import annotations

import cv2
import numpy as np

from medsgssl.data.synthetic.anatomy import LEFT, RIGHT, Anatomy
from medsgssl.data.synthetic.canvas import Bytes, Canvas, Floats, band, curve, ellipse

_WALL = np.array([0.008, 0.0])  # from the tube's axis to its wall


def add_devices(att: Floats, canvas: Canvas, anatomy: Anatomy, random: np.random.Generator) -> None:
    """Add devices to an attenuation field in place; portable films carry more of them."""
    portable = anatomy.view_position == "AP"
    wires, metal = canvas.blank(), canvas.blank()
    # Every device draws whether it is used, so that one never moves another.
    chances = random.random(4)
    if chances[0] < (0.6 if portable else 0.04):
        _electrodes(canvas, anatomy, random, wires, metal)
    if chances[1] < (0.35 if portable else 0.06):
        _central_line(canvas, anatomy, random, wires)
    if chances[2] < (0.25 if portable else 0.0):
        _tubes(canvas, anatomy, random, wires)
    if chances[3] < 0.06 and anatomy.subject.age > 45:
        _pacemaker(canvas, anatomy, random, wires, metal)
    att += canvas.soften(wires, 0.0008, 0.5 / 255)
    att += canvas.soften(metal, 0.001, 2.2 / 255)


def _electrodes(
    canvas: Canvas, anatomy: Anatomy, random: np.random.Generator, wires: Bytes, metal: Bytes
) -> None:
    spots = [(RIGHT, 0.27, 0.12), (LEFT, 0.27, 0.1), (LEFT, 0.3, 0.95), (RIGHT, 0.28, 0.98)]
    lines = []
    for side, offset, share in spots[: int(random.integers(2, 5))]:
        x, y = anatomy.at(
            side, offset + random.normal(0, 0.03), anatomy.level(share) + random.normal(0, 0.03)
        )
        canvas.fill(ellipse((x, y), (0.011, 0.011)), value=90, onto=metal)
        canvas.fill(ellipse((x, y), (0.005, 0.005)), onto=metal)
        away = (x + random.normal(0, 0.1), y + random.uniform(0.15, 0.3))
        lines.append(
            curve(
                [
                    (x, y),
                    ((2 * x + away[0]) / 3 + random.normal(0, 0.04), (2 * y + away[1]) / 3),
                    (away[0] + random.normal(0, 0.03), away[1]),
                    (anatomy.mid + side * random.uniform(0.0, 0.5), 1.1),
                ],
                16,
            )
        )
    canvas.stroke(lines, 0.0042, 215, wires)


def _central_line(
    canvas: Canvas, anatomy: Anatomy, random: np.random.Generator, wires: Bytes
) -> None:
    jugular = random.random() < 0.5
    start = (
        anatomy.at(RIGHT, 0.075, anatomy.apex - 0.15)
        if jugular
        else anatomy.at(RIGHT, 0.26, anatomy.level(0.1))
    )
    tip = anatomy.at(RIGHT, 0.04, anatomy.level(random.uniform(0.5, 0.72)))
    entry = anatomy.at(RIGHT, 0.055, anatomy.level(0.12 if jugular else 0.17))
    line = curve([start, entry, anatomy.at(RIGHT, 0.045, anatomy.level(0.36)), tip], 16)
    canvas.stroke([line], 0.006, 190, wires)


def _tubes(canvas: Canvas, anatomy: Anatomy, random: np.random.Generator, wires: Bytes) -> None:
    sway = random.normal(0, 0.006)
    tip = (anatomy.mid + sway, anatomy.level(random.uniform(0.22, 0.38)))
    tracheal = curve([(anatomy.mid, -0.05), (anatomy.mid + sway, anatomy.apex), tip], 16)
    for border in (tracheal + _WALL, tracheal - _WALL):
        canvas.stroke([border], 0.003, 130, wires)
    if random.random() < 0.6:
        gastric = curve(
            [
                (anatomy.mid + 0.012, -0.05),
                (anatomy.mid + 0.01, anatomy.level(0.5)),
                (anatomy.mid + 0.025, anatomy.level(0.95)),
                anatomy.at(LEFT, 0.11, anatomy.dome(LEFT) + 0.09),
                anatomy.at(LEFT, 0.16, anatomy.dome(LEFT) + 0.15),
            ],
            16,
        )
        canvas.stroke([gastric], 0.005, 200, wires)


def _pacemaker(
    canvas: Canvas, anatomy: Anatomy, random: np.random.Generator, wires: Bytes, metal: Bytes
) -> None:
    x, y = anatomy.at(LEFT, random.uniform(0.23, 0.29), anatomy.level(random.uniform(0.2, 0.34)))
    canvas.fill(ellipse((x, y), (0.05, 0.042), random.uniform(-0.5, 0.5)), value=110, onto=metal)
    canvas.fill(
        ellipse((x + 0.006, y - 0.012), (0.03, 0.018), random.uniform(-0.4, 0.4)), onto=metal
    )
    tip = anatomy.at(LEFT, 0.75 * anatomy.heart_offsets[1], anatomy.level(0.96))
    lead = curve(
        [
            (x - 0.03, y - 0.03),
            anatomy.at(LEFT, 0.2, anatomy.level(0.08)),
            anatomy.at(LEFT, 0.06, anatomy.level(0.18)),
            anatomy.at(RIGHT, 0.03, anatomy.level(0.4)),
            anatomy.at(RIGHT, 0.055, anatomy.level(0.75)),
            anatomy.at(LEFT, 0.05, anatomy.level(0.95)),
            tip,
        ],
        16,
    )
    canvas.stroke([lead], 0.005, 230, wires)
    canvas.fill(band(lead[-10:], 0.009), value=200, onto=metal)


def add_markers(
    gray: Floats, canvas: Canvas, view_position: str, random: np.random.Generator
) -> None:
    """Print side letter, operator's initials and view onto the film in place, in [0, 1]."""
    side = canvas.side
    film = np.zeros((side, side), np.uint8)
    left = random.random() < 0.8
    corner = (0.87 if left else 0.06) + random.uniform(-0.02, 0.03), random.uniform(0.08, 0.16)
    font = cv2.FONT_HERSHEY_SIMPLEX
    big = side / 1024 * random.uniform(1.4, 1.9)
    thick = max(1, round(side / 180))
    origin = (int(corner[0] * side), int(corner[1] * side))
    cv2.putText(film, "L" if left else "R", origin, font, big, 255, thick, cv2.LINE_AA)
    letters = "".join(random.choice(list("ABCDEHJKLMNRST"), 2))
    below = (origin[0], origin[1] + int(0.035 * side))
    cv2.putText(film, letters, below, font, 0.45 * big, 230, max(1, thick // 2), cv2.LINE_AA)
    if view_position == "AP" and random.random() < 0.6:
        word = str(random.choice(["PORTABLE", "AP", "SEMI-ERECT", "SUPINE"]))
        where = (int(0.04 * side), int(random.uniform(0.04, 0.07) * side))
        cv2.putText(film, word, where, font, side / 1024, 230, max(1, side // 256), cv2.LINE_AA)
    turn = cv2.getRotationMatrix2D(origin, random.normal(0, 8), 1.0)
    film = cv2.warpAffine(film, turn, (side, side)).astype(np.uint8)
    np.maximum(gray, film.astype(np.float32) / np.float32(255), out=gray)
