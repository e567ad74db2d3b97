"""What a finding adds to the image: opacities inside the lungs, and fluid or air in the pleura."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from scipy.special import expit

from medsgssl.data.synthetic.anatomy import LEFT, RIGHT, Anatomy
from medsgssl.data.synthetic.canvas import Bytes, Canvas, Floats, band, curve, ellipse
from medsgssl.data.synthetic.tissue import Regions, hilum


@dataclass(frozen=True)
class Scene:
    """Where a finding is painted."""

    canvas: Canvas
    anatomy: Anatomy
    regions: Regions
    random: np.random.Generator
    """The stream of this finding in this image."""


@dataclass(frozen=True)
class Lesion:
    """One visible change."""

    attenuation: Floats
    """What is added; negative where there is more air."""
    extent: Bytes | Floats | None = None
    """What the box encloses, when it is not where the attenuation changes most."""
    vessels: Floats | None = None
    """Factor on the vessels: 0 where they vanish, above 1 where they stand out."""


def pick_side(random: np.random.Generator) -> int:
    """Choose a lung."""
    return RIGHT if random.random() < 0.5 else LEFT


def place_in_lung(
    scene: Scene, side: int, low: float, high: float, depth: tuple[float, float] = (0.3, 0.8)
) -> tuple[float, float]:
    """Choose a point in one lung field.

    Args:
        scene: The scene; its random stream is used.
        side: Which lung.
        low: Highest place, as a share of the way from apex to dome.
        high: Lowest place, likewise.
        depth: Range of the share of the way from the mediastinum to the chest wall.
    """
    anatomy = scene.anatomy
    y = anatomy.level(scene.random.uniform(low, high))
    outer = float(anatomy.wall(side, y))
    heart = anatomy.heart_offsets[0 if side < 0 else 1]
    # The heart takes lung away only in the lower half.
    inner = 0.07 + max(0.0, heart - 0.07) * float(np.clip((y - anatomy.level(0.5)) / 0.2, 0, 1))
    share = scene.random.uniform(*depth)
    return anatomy.at(side, inner + share * max(outer - inner, 0.02), y)


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
    center = place_in_lung(scene, side, *((0.68, 0.95) if lower else (0.25, 0.55)), (0.3, 0.65))
    radii = (random.uniform(0.05, 0.075), random.uniform(0.05, 0.085))
    field = np.float32(random.uniform(0.34, 0.46)) * _haze(scene, center, radii)
    return [Lesion(_cut(scene, side, field))]


def consolidation(scene: Scene) -> list[Lesion]:
    """A dense lobe, bounded by a fissure, crossed by air-filled bronchi."""
    random, canvas = scene.random, scene.canvas
    side = pick_side(random)
    upper = random.random() < 0.4
    center = place_in_lung(scene, side, *((0.2, 0.35) if upper else (0.62, 0.88)), (0.35, 0.55))
    radii = (random.uniform(0.065, 0.1), random.uniform(0.065, 0.1))
    lumps = 0.5 * canvas.noise(random, 9) + 0.3 * canvas.noise(random, 20)
    distance = np.hypot((canvas.x - center[0]) / radii[0], (canvas.y - center[1]) / radii[1])
    dense = expit((1.2 - distance - 0.22 * lumps) * 7)
    # The fissure bounds the lobe sharply where it meets the beam.
    fissure = (
        (center[1] + radii[1] * 0.75 - canvas.y)
        if upper
        else (canvas.y - center[1] + radii[1] * 0.75)
    )
    dense *= expit(fissure / 0.006)
    start = np.array(hilum(scene.anatomy, side))
    aim = np.array(center) - start
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
    center = place_in_lung(scene, side, 0.2, 0.82, (0.35, 0.7))
    radius = random.uniform(0.048, 0.078)
    return [_round(scene, side, center, radius, random.uniform(0.4, 0.52), lobes=0.1)]


def nodules(scene: Scene) -> list[Lesion]:
    """One to three round opacities of less than 3 cm."""
    random = scene.random
    lesions = []
    for _ in range(int(random.choice([1, 2, 3], p=[0.6, 0.25, 0.15]))):
        side = pick_side(random)
        center = place_in_lung(scene, side, 0.2, 0.88)
        radius = random.uniform(0.017, 0.034)
        lesions.append(_round(scene, side, center, radius, random.uniform(0.26, 0.36), lobes=0.05))
    return lesions


def edema(scene: Scene) -> list[Lesion]:
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


def _haze(scene: Scene, center: tuple[float, float], radii: tuple[float, float]) -> Floats:
    """Return a cloud of height about 1 with an uneven border."""
    canvas = scene.canvas
    mottle = 1 + 0.3 * canvas.noise(scene.random, 12) + 0.22 * canvas.noise(scene.random, 28)
    cloud: Floats = canvas.bump(center, radii) * np.clip(mottle, 0.25, 1.9).astype(np.float32)
    return cloud


def _round(
    scene: Scene, side: int, center: tuple[float, float], radius: float, dense: float, lobes: float
) -> Lesion:
    turn = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    phases = scene.random.uniform(0, 2 * np.pi, 3)
    wave = sum(np.sin((k + 2) * turn + phase) / (k + 2) for k, phase in enumerate(phases))
    outline = ellipse(center, (radius, radius * scene.random.uniform(0.85, 1.1)))
    outline = center + (outline - center) * (1 + lobes * wave)[:, None]
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
