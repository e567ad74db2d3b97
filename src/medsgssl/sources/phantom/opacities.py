"""Findings inside the lungs: what fills, replaces or collapses the air."""

from __future__ import annotations

import cv2
import numpy as np
from scipy.special import expit

from medsgssl.sources.phantom.anatomy import LEFT, RIGHT
from medsgssl.sources.phantom.canvas import Floats, band, curve, ellipse
from medsgssl.sources.phantom.lesions import Lesion, Scene, pick_side, place_in_lung
from medsgssl.sources.phantom.vessels import hilum


def atelectasis(scene: Scene) -> list[Lesion]:
    """Plates of collapsed lung above a raised diaphragm, sometimes with a basal wedge."""
    random, canvas, anatomy = scene.random, scene.canvas, scene.anatomy
    side = pick_side(random)
    plates = canvas.blank()
    base = anatomy.dome(side)
    for number in range(int(random.integers(1, 4))):
        y = base - 0.025 - 0.05 * number - random.uniform(0, 0.02)
        outer = float(anatomy.wall(side, y)) - random.uniform(0.02, 0.07)
        inner = outer - random.uniform(0.11, 0.19)
        slope = random.normal(0.0, 0.1)
        line = curve(
            [
                anatomy.at(side, x, y + slope * (x - outer) + bow)
                for x, bow in ((inner, 0.0), ((inner + outer) / 2, -0.004), (outer, 0.0))
            ]
        )
        thick = random.uniform(0.008, 0.016) * np.sin(np.linspace(0.25, np.pi - 0.25, len(line)))
        canvas.fill(band(line, thick), onto=plates)
    lung = scene.regions.lung(side)
    field = canvas.soften(
        cv2.min(plates, lung).astype(np.uint8), 0.0028, random.uniform(0.22, 0.34) / 255
    )
    if random.random() < 0.5:
        field = field + _cut(
            scene, side, 0.26 * _haze(scene, (anatomy.at(side, 0.16, base)), (0.08, 0.045))
        )
    return [Lesion(field)]


def infiltration(scene: Scene) -> list[Lesion]:
    """Patchy haze in one or both lungs."""
    random = scene.random
    first = pick_side(random)
    lesions = []
    for side in (first, -first) if random.random() < 0.4 else (first,):
        field: Floats = np.zeros((scene.canvas.side, scene.canvas.side), np.float32)
        heart = place_in_lung(scene, side, 0.4, 0.85, (0.25, 0.6))
        for _ in range(4):
            shift = random.normal(0, 1, 2) * [0.035, 0.06]
            radii = (random.uniform(0.025, 0.05), random.uniform(0.03, 0.06))
            field = field + _haze(scene, (heart[0] + shift[0], heart[1] + shift[1]), radii)
        strength = np.float32(random.uniform(0.2, 0.3))
        lesions.append(Lesion(_cut(scene, side, strength * np.minimum(field, 1.3))))
    return lesions


def pneumonia(scene: Scene) -> list[Lesion]:
    """One focal, soft-edged consolidation, mostly in a lower lobe."""
    random = scene.random
    side = pick_side(random)
    lower = random.random() < 0.75
    centre = place_in_lung(scene, side, *((0.68, 0.95) if lower else (0.25, 0.55)), (0.3, 0.65))
    radii = (random.uniform(0.05, 0.075), random.uniform(0.05, 0.085))
    field = np.float32(random.uniform(0.34, 0.46)) * _haze(scene, centre, radii)
    return [Lesion(_cut(scene, side, field))]


def consolidation(scene: Scene) -> list[Lesion]:
    """A dense lobe, bounded by a fissure, crossed by air-filled bronchi."""
    random, canvas = scene.random, scene.canvas
    side = pick_side(random)
    upper = random.random() < 0.4
    centre = place_in_lung(scene, side, *((0.2, 0.35) if upper else (0.62, 0.88)), (0.35, 0.55))
    radii = (random.uniform(0.065, 0.1), random.uniform(0.065, 0.1))
    lumps = 0.5 * canvas.noise(random, 9) + 0.3 * canvas.noise(random, 20)
    distance = np.hypot((canvas.x - centre[0]) / radii[0], (canvas.y - centre[1]) / radii[1])
    dense = expit((1.2 - distance - 0.22 * lumps) * 7)
    # The fissure bounds the lobe sharply where it meets the beam.
    fissure = (
        (centre[1] + radii[1] * 0.75 - canvas.y)
        if upper
        else (canvas.y - centre[1] + radii[1] * 0.75)
    )
    dense *= expit(fissure / 0.006)
    start = np.array(hilum(scene.anatomy, side))
    aim = np.array(centre) - start
    bronchi = []
    for turn in random.normal(0, 0.35, 4):
        spin = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        tip = start + spin @ aim * random.uniform(1.0, 1.35)
        bend = (start + tip) / 2 + random.normal(0, 0.012, 2)
        bronchi.append(curve([(start[0], start[1]), (bend[0], bend[1]), (tip[0], tip[1])]))
    air = canvas.soften(canvas.stroke(bronchi, 0.0065), 0.0018, 0.42 / 255)
    field = np.float32(random.uniform(0.48, 0.62)) * dense.astype(np.float32) * (1 - air)
    hidden = (1 - 0.8 * dense).astype(np.float32)
    return [Lesion(_cut(scene, side, field), vessels=hidden)]


def mass(scene: Scene) -> list[Lesion]:
    """One round, lobulated opacity of more than 3 cm."""
    random = scene.random
    side = pick_side(random)
    centre = place_in_lung(scene, side, 0.2, 0.82, (0.35, 0.7))
    radius = random.uniform(0.048, 0.078)
    return [_round(scene, side, centre, radius, random.uniform(0.4, 0.52), lobes=0.1)]


def nodules(scene: Scene) -> list[Lesion]:
    """One to three round opacities of less than 3 cm."""
    random = scene.random
    lesions = []
    for _ in range(int(random.choice([1, 2, 3], p=[0.6, 0.25, 0.15]))):
        side = pick_side(random)
        centre = place_in_lung(scene, side, 0.2, 0.88)
        radius = random.uniform(0.017, 0.034)
        lesions.append(_round(scene, side, centre, radius, random.uniform(0.26, 0.36), lobes=0.05))
    return lesions


def oedema(scene: Scene) -> list[Lesion]:
    """Perihilar haze in both lungs like a bat's wings, thick blurred vessels, septal lines."""
    random, canvas, anatomy = scene.random, scene.canvas, scene.anatomy
    field: Floats = np.zeros((canvas.side, canvas.side), np.float32)
    septa = []
    for side in (RIGHT, LEFT):
        x, y = hilum(anatomy, side)
        wing = canvas.bump((x + side * 0.055, y + 0.035), (0.075, 0.105))
        field += wing * np.float32(random.uniform(0.32, 0.42))
        for _ in range(7):
            low = anatomy.level(random.uniform(0.75, 1.0))
            outer = float(anatomy.wall(side, low)) - 0.004
            septa.append(
                np.array(
                    [anatomy.at(side, outer, low), anatomy.at(side, outer - 0.03, low + 0.002)]
                )
            )
    mottle = 1 + 0.22 * canvas.noise(random, 14) + 0.14 * canvas.noise(random, 34)
    field = field * np.clip(mottle, 0.3, 1.8) + canvas.soften(
        canvas.stroke(septa, 0.003), 0.001, 0.12 / 255
    )
    inside = canvas.soften(scene.regions.lungs, 0.004)
    return [Lesion((field * inside).astype(np.float32), vessels=1 + 0.3 * inside)]


def fibrosis(scene: Scene) -> list[Lesion]:
    """A net of fine lines in the bases and along the pleura, with a slight loss of volume."""
    random, canvas, anatomy = scene.random, scene.canvas, scene.anatomy
    net = np.zeros((canvas.side, canvas.side), np.float32)
    for cells in (22, 36):
        noise = canvas.noise(random, cells)
        net += np.exp(-((noise / 0.2) ** 2))
    edge = 1 - canvas.soften(scene.regions.lungs, 0.035)
    basal = np.clip((canvas.y - anatomy.level(0.4)) / np.float32(0.55 * anatomy.span), 0, 1)
    where = basal * (0.4 + 1.3 * edge) * canvas.soften(scene.regions.lungs, 0.003)
    field = (0.27 * net + 0.1) * where * np.float32(random.uniform(1.0, 1.3))
    return [Lesion(field.astype(np.float32))]


def _haze(scene: Scene, centre: tuple[float, float], radii: tuple[float, float]) -> Floats:
    """Return a cloud of height about 1 with an uneven border."""
    canvas = scene.canvas
    mottle = 1 + 0.3 * canvas.noise(scene.random, 12) + 0.22 * canvas.noise(scene.random, 28)
    cloud: Floats = canvas.bump(centre, radii) * np.clip(mottle, 0.25, 1.9).astype(np.float32)
    return cloud


def _round(
    scene: Scene, side: int, centre: tuple[float, float], radius: float, dense: float, lobes: float
) -> Lesion:
    turn = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    phases = scene.random.uniform(0, 2 * np.pi, 3)
    wave = sum(np.sin((k + 2) * turn + phase) / (k + 2) for k, phase in enumerate(phases))
    outline = ellipse(centre, (radius, radius * scene.random.uniform(0.85, 1.1)))
    outline = centre + (outline - centre) * (1 + lobes * wave)[:, None]
    shape = scene.canvas.fill(outline)
    # A ball is thick in the middle and still has a border that can be seen.
    ball = scene.canvas.soften(shape, 0.003, 0.5 / 255) + scene.canvas.soften(
        shape, 0.4 * radius, 0.6 / 255
    )
    return Lesion(_cut(scene, side, np.float32(dense) * ball))


def _cut(scene: Scene, side: int, field: Floats) -> Floats:
    """Keep what lies in one lung."""
    inside = scene.canvas.soften(scene.regions.lung(side), 0.003)
    return (field * inside).astype(np.float32, copy=False)
