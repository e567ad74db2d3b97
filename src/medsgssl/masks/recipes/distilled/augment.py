"""Augmentation of the student's training pairs: geometry, gray levels, opacities, devices.

The pictures show what hospitals add to a plain chest X-ray, so that the student learns to look
past it: turned and shifted patients, other exposures, effusions and consolidations that hide a
lung's border, tubes, wires, plates and markers, collimation frames, gas below the diaphragm.
Every draw depends on the generator alone.
"""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from medsgssl.masks.recipes.distilled.pixels import SIDE
from medsgssl.masks.types import Gray

# Floating point, SIDE x SIDE; OpenCV's own annotations are no narrower.
Pixels = NDArray[Any]


def augment_pair(square: Gray, label: Pixels, random: np.random.Generator) -> tuple[Gray, Pixels]:
    """Return a changed picture and the label that moved with it.

    Args:
        square: uint8, ``SIDE x SIDE``.
        label: float32, ``SIDE x SIDE``: probability of lung.
        random: Where every choice comes from.

    Returns:
        uint8 and float32, ``SIDE x SIDE``.
    """
    matrix = affine(random)
    fill = float(random.choice([0.0, 0.0, 255.0, float(square.mean())]))
    mode = cv2.BORDER_REPLICATE if random.random() < 0.5 else cv2.BORDER_CONSTANT
    picture: Pixels = cv2.warpAffine(
        square, matrix, (SIDE, SIDE), flags=cv2.INTER_LINEAR, borderMode=mode, borderValue=fill
    ).astype(np.float32)
    moved = cv2.warpAffine(label, matrix, (SIDE, SIDE), flags=cv2.INTER_LINEAR)
    if random.random() < 0.4:
        picture, moved = _elastic(picture, moved, random)
    picture = _exposure(picture, random)
    if random.random() < 0.5:
        picture = _opacities(picture, moved, random)
    if random.random() < 0.2:
        picture = _effusion(picture, moved, random)
    if random.random() < 0.25:
        picture = _gas(picture, moved, random)
    if random.random() < 0.3:
        picture = _veil(picture, random)
    if random.random() < 0.35:
        picture = _devices(picture, random)
    if random.random() < 0.2:
        picture, moved = _frame(picture, moved, random)
    if random.random() < 0.3:
        picture = cv2.GaussianBlur(picture, (0, 0), random.uniform(0.4, 1.3))
    if random.random() < 0.5:
        picture = picture + random.normal(0.0, random.uniform(1.0, 9.0), picture.shape)
    return np.clip(picture, 0, 255).astype(np.uint8), np.asarray(moved, dtype=np.float32)


def affine(random: np.random.Generator, strength: float = 1.0) -> NDArray[np.float64]:
    """Draw a turn, zoom, stretch, shear, shift and, rarely, a mirror image: ``2 x 3``."""
    angle = math.radians(random.normal(0.0, 9.0) * strength)
    zoom = math.exp(random.normal(0.0, 0.14) * strength)
    stretch = math.exp(random.normal(0.0, 0.08) * strength)
    shear = random.normal(0.0, 0.05) * strength
    shift = random.normal(0.0, 0.06 * SIDE, 2) * strength
    mirror = -1.0 if random.random() < 0.15 * strength else 1.0
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    linear = turn @ np.array([[mirror * zoom * stretch, shear], [0.0, zoom / stretch]])
    center = np.full(2, (SIDE - 1) / 2)
    return np.column_stack([linear, center + shift - linear @ center])


def _elastic(picture: Pixels, label: Pixels, random: np.random.Generator) -> tuple[Pixels, Pixels]:
    coarse = random.normal(0.0, random.uniform(0.5, 2.5), (2, 5, 5)).astype(np.float32)
    moves = [cv2.resize(c, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC) for c in coarse]
    rows, columns = np.mgrid[0:SIDE, 0:SIDE].astype(np.float32)
    at = (columns + moves[0], rows + moves[1])
    bent = cv2.remap(picture, *at, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return bent, cv2.remap(label, *at, cv2.INTER_LINEAR)


def _exposure(picture: Pixels, random: np.random.Generator) -> Pixels:
    """Gamma, contrast and brightness; sometimes local equalization."""
    if random.random() < 0.15:
        flat = cv2.createCLAHE(float(random.uniform(1.0, 4.0)), (4, 4))
        picture = flat.apply(np.clip(picture, 0, 255).astype(np.uint8)).astype(np.float32)
    gamma = math.exp(random.normal(0.0, 0.35))
    picture = 255.0 * (np.clip(picture, 0, 255) / 255.0) ** gamma
    contrast, light = random.uniform(0.45, 1.4), random.normal(0.0, 22.0)
    return np.asarray((picture - 128.0) * contrast + 128.0 + light, dtype=np.float32)


def _blob(random: np.random.Generator, center: tuple[float, float], blur: float) -> Pixels:
    blob: Pixels = np.zeros((SIDE, SIDE), np.float32)
    axes = (int(random.integers(4, 26)), int(random.integers(4, 30)))
    angle = float(random.uniform(0, 180))
    cv2.ellipse(blob, (int(center[0]), int(center[1])), axes, angle, 0, 360, 1.0, cv2.FILLED)
    return np.asarray(cv2.GaussianBlur(blob, (0, 0), blur), dtype=np.float32)


def _inside(label: Pixels, random: np.random.Generator) -> tuple[float, float]:
    rows, columns = np.nonzero(label > 0.5)
    if not len(rows):
        return float(random.uniform(0, SIDE)), float(random.uniform(0, SIDE))
    at = int(random.integers(len(rows)))
    return float(columns[at]), float(rows[at])


def _opacities(picture: Pixels, label: Pixels, random: np.random.Generator) -> Pixels:
    """Consolidations that brighten the lung up to the density of its surroundings and more."""
    limit = label if random.random() < 0.6 else np.ones_like(label)
    for _ in range(random.integers(1, 4)):
        blob = _blob(random, _inside(label, random), float(random.uniform(1.5, 6.0)))
        picture = picture + blob * limit * np.float32(random.uniform(20, 110))
    return picture


def _effusion(picture: Pixels, label: Pixels, random: np.random.Generator) -> Pixels:
    """Whiten one lung below a level; sometimes the whole lung."""
    rows, columns = np.nonzero(label > 0.5)
    if not len(rows):
        return picture
    side = columns > (columns.min() + columns.max()) / 2
    kept = side == bool(random.integers(2))
    level = rows.min() + np.ptp(rows) * random.uniform(0.1, 0.9)
    veil: Pixels = np.zeros((SIDE, SIDE), np.float32)
    veil[rows[kept], columns[kept]] = np.clip((rows[kept] - level) / 8.0 + 0.5, 0, 1)
    veil = cv2.GaussianBlur(veil, (0, 0), random.uniform(0.8, 2.5))
    dense = float(np.percentile(picture, random.uniform(75, 97)))
    opaque = veil * np.float32(random.uniform(0.4, 1.0))
    return np.asarray(picture * (1 - opaque) + dense * opaque, dtype=np.float32)


def _gas(picture: Pixels, label: Pixels, random: np.random.Generator) -> Pixels:
    """Dark bubbles below the diaphragm."""
    rows, columns = np.nonzero(label > 0.5)
    if not len(rows):
        return picture
    outside = 1.0 - label
    for _ in range(random.integers(1, 4)):
        x = random.uniform(columns.min(), columns.max())
        y = rows.max() + random.uniform(-12.0, 18.0)
        blob = _blob(random, (x, y), float(random.uniform(0.8, 3.0)))
        picture = picture - blob * outside * np.float32(random.uniform(15, 90))
    return picture


def _veil(picture: Pixels, random: np.random.Generator) -> Pixels:
    coarse = random.normal(0.0, random.uniform(4, 18), (3, 3)).astype(np.float32)
    veil = cv2.resize(coarse, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
    return np.asarray(picture + veil, dtype=np.float32)


def _devices(picture: Pixels, random: np.random.Generator) -> Pixels:
    """Wires and tubes (bright curves), electrodes and plates (discs, boxes), letters."""
    canvas = np.clip(picture, 0, 255).astype(np.uint8)
    for _ in range(random.integers(1, 5)):
        light = float(random.uniform(150, 255))
        x, y = (int(v) for v in random.integers(0, SIDE, 2))
        kind = random.random()
        if kind < 0.55:
            steps = random.normal(0.0, 9.0, (6, 2)).cumsum(axis=0) + np.array([x, y])
            width = int(random.integers(1, 3))
            cv2.polylines(canvas, [steps.astype(np.int32)], False, light, width, cv2.LINE_AA)
        elif kind < 0.75:
            cv2.circle(canvas, (x, y), int(random.integers(1, 7)), light, cv2.FILLED)
        elif kind < 0.88:
            size = random.integers(3, 22, 2)
            cv2.rectangle(canvas, (x, y), (x + int(size[0]), y + int(size[1])), light, cv2.FILLED)
        else:
            letter = str(random.choice(["L", "R", "AP", "PORT", "SUPINE"]))
            cv2.putText(canvas, letter, (x, y), cv2.FONT_HERSHEY_SIMPLEX, 0.4, light, 1)
    return canvas.astype(np.float32)


def _frame(picture: Pixels, label: Pixels, random: np.random.Generator) -> tuple[Pixels, Pixels]:
    """Collimation: black, gray or white bars at some borders, which hide what lies below."""
    light = np.float32(random.choice([0.0, 0.0, 255.0, random.uniform(0, 255)]))
    bars = np.zeros((SIDE, SIDE), bool)
    for side in range(4):
        if random.random() < 0.6:
            width = int(random.integers(1, 18))
            np.rot90(bars, side)[:width] = True
    return np.where(bars, light, picture), np.where(bars, np.float32(0), label)
