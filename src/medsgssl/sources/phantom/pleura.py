"""Findings of the pleura: fluid, air and thickening between lung and chest wall."""

from __future__ import annotations

import cv2
import numpy as np

from medsgssl.sources.phantom.canvas import Bytes
from medsgssl.sources.phantom.lesions import Lesion, Scene, pick_side


def effusion(scene: Scene) -> list[Lesion]:
    """Fluid that fills the costophrenic angle below a meniscus; on both sides at times."""
    random, canvas, anatomy = scene.random, scene.canvas, scene.anatomy
    first = pick_side(random)
    lesions = []
    for side in (first, -first) if random.random() < 0.3 else (first,):
        lung = scene.regions.lung(side)
        lateral = anatomy.dome(side) + anatomy.sulcus
        depth = random.uniform(0.11, 0.3)
        u = np.linspace(1.05, 0.0, 30)
        reach = float(anatomy.wall(side, lateral))
        # The fluid climbs along the chest wall.
        y = lateral - depth * (0.42 + 0.58 * u**2.6)
        meniscus = np.stack([anatomy.mid + side * u * reach, y], axis=1)
        floor = np.array([(anatomy.mid, 1.2), (anatomy.mid + side * 0.6, 1.2)])
        fluid = _both(canvas.fill(np.vstack([meniscus, floor])), lung)
        field = canvas.soften(fluid, 0.006, random.uniform(0.62, 0.8) / 255)
        field += canvas.soften(fluid, 0.025, 0.15 / 255) * canvas.soften(lung, 0.003)
        hidden = np.float32(1) - canvas.soften(fluid, 0.008, 0.85 / 255)
        lesions.append(Lesion(field, extent=fluid, vessels=hidden))
    return lesions


def pneumothorax(scene: Scene) -> list[Lesion]:
    """Air without vessels outside a visible pleural line, widest at the apex."""
    random, canvas, anatomy = scene.random, scene.canvas, scene.anatomy
    side = pick_side(random)
    lung = scene.regions.lung(side)
    apical = random.uniform(0.035, 0.085)
    lateral = random.uniform(0.015, 0.06)
    end = anatomy.level(random.uniform(0.6, 1.0))
    top = anatomy.apex + apical
    y = np.linspace(top, end, 40)
    t = (y - top) / (end - top)
    gap = (lateral * (1 - t**2) + 0.5 * apical * np.exp(-t * 6)) + 0.001
    offset = np.maximum(anatomy.wall(side, y - 0.6 * apical * np.exp(-t * 4)) - gap, 0.06)
    line = np.stack([anatomy.mid + side * offset, y], axis=1)
    inner = np.array(
        [(anatomy.mid + side * 0.03, top + 0.04), (anatomy.mid + side * 0.07, top + 0.006)]
    )
    pleural = np.vstack([inner, line])
    rest = np.array(
        [
            (anatomy.mid + side * 0.6, end + 0.001),
            (anatomy.mid + side * 0.6, 1.2),
            (anatomy.mid, 1.2),
        ]
    )
    collapsed = canvas.fill(np.vstack([pleural, rest]))
    air = cv2.subtract(lung, collapsed).astype(np.uint8)
    edge = _both(canvas.stroke([pleural], 0.0042), lung)
    field = canvas.soften(edge, 0.0014, 0.2 / 255) - canvas.soften(air, 0.003, 0.11 / 255)
    # The lung that has lost air is a little denser.
    field += canvas.soften(_both(collapsed, lung), 0.004, 0.045 / 255)
    gone = np.float32(1) - canvas.soften(air, 0.003)
    return [Lesion(field, extent=air, vessels=gone)]


def thickening(scene: Scene) -> list[Lesion]:
    """A band along the lateral chest wall, or a cap on the apex, of uneven width."""
    random, canvas, anatomy = scene.random, scene.canvas, scene.anatomy
    side = pick_side(random)
    lung = scene.regions.lung(side)
    apical = random.random() < 0.3
    low, high = (-0.02, 0.22) if apical else (random.uniform(0.25, 0.5), random.uniform(0.85, 1.05))
    y = np.linspace(anatomy.level(low), anatomy.level(high), 40)
    t = np.linspace(0, 1, 40)
    swell = np.sin(np.pi * t) ** 0.5 if not apical else np.cos(0.5 * np.pi * t) ** 0.5
    uneven = 1 + 0.25 * np.sin(2 * np.pi * (t * random.uniform(1.5, 3) + random.random()))
    thick = random.uniform(0.022, 0.04) * swell * uneven
    outer = anatomy.wall(side, y)
    if apical:
        # The cap follows the dome of the apex, so its lower border lies deeper instead.
        border = np.stack([anatomy.mid + side * outer, y], axis=1)
        shape = np.vstack(
            [border, [anatomy.at(side, 0.04, anatomy.level(0.1)), anatomy.at(side, 0.04, -0.1)]]
        )
        deep = canvas.fill(shape)
        lower = canvas.fill(anatomy.lung(side) + np.array([0.0, 1.5 * thick.max()]))
        layer = cv2.subtract(_both(deep, lung), lower).astype(np.uint8)
    else:
        inner = np.stack([anatomy.mid + side * (outer - thick), y], axis=1)
        beyond = np.stack([anatomy.mid + side * (outer + 0.02), y], axis=1)
        layer = _both(canvas.fill(np.vstack([inner, beyond[::-1]])), lung)
    field = canvas.soften(layer, 0.0035, random.uniform(0.4, 0.52) / 255)
    return [Lesion(field, extent=layer)]


def _both(one: Bytes, other: Bytes) -> Bytes:
    return cv2.min(one, other).astype(np.uint8, copy=False)
