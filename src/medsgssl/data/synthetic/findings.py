"""The 14 findings: how each changes the anatomy, and what it adds to the attenuation."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

import cv2
import numpy as np

from medsgssl.data.labels import DISEASES
from medsgssl.data.synthetic import lesions
from medsgssl.data.synthetic.anatomy import LEFT, Anatomy
from medsgssl.data.synthetic.canvas import Bytes, Canvas, ellipse
from medsgssl.data.synthetic.lesions import Lesion, Scene, pick_side

RandomOf = Callable[[str], np.random.Generator]
"""Gives the random stream of one disease in one image, always from its start."""

PixelBox = tuple[float, float, float, float]


def reshape(anatomy: Anatomy, findings: Iterable[str], random_of: RandomOf) -> Anatomy:
    """Apply what findings do to the shape of heart, lungs and diaphragm."""
    for disease in findings:
        change = _RESHAPE.get(disease)
        if change is not None:
            anatomy = change(anatomy, random_of(disease))
    return anatomy


def paint(scene: Scene, disease: str) -> list[Lesion]:
    """Return the visible changes of one finding."""
    return _PAINT[disease](scene)


def box_of(lesion: Lesion, canvas: Canvas) -> PixelBox:
    """Return the box (x, y, w, h) of a lesion as fractions of the image side."""
    weight = np.abs(lesion.extent if lesion.extent is not None else lesion.attenuation)
    present = (weight > 0.35 * float(weight.max())).astype(np.uint8)
    x, y, w, h = cv2.boundingRect(present)
    return x / canvas.side, y / canvas.side, w / canvas.side, h / canvas.side


def _enlarge_heart(anatomy: Anatomy, random: np.random.Generator) -> Anatomy:
    return replace(anatomy, heart=random.uniform(0.56, 0.68), lean=random.uniform(0.64, 0.7))


def _hyperinflate(anatomy: Anatomy, random: np.random.Generator) -> Anatomy:
    push = random.uniform(0.035, 0.06)
    right, left = anatomy.domes
    return replace(
        anatomy,
        domes=(min(right + push, 0.86), min(left + push, 0.88)),
        sulcus=0.045,
        width=anatomy.width * 1.03,
        # An enlarged heart stays enlarged; any other hangs narrow between the lungs.
        heart=anatomy.heart if anatomy.heart > 0.5 else 0.84 * anatomy.heart,
    )


def _lose_volume(anatomy: Anatomy, random: np.random.Generator) -> Anatomy:
    side = pick_side(random)
    rise = random.uniform(0.015, 0.05)
    right, left = anatomy.domes
    domes = (right - rise, left) if side < 0 else (right, left - rise)
    return replace(anatomy, domes=domes, mid=anatomy.mid + side * 0.15 * rise)


def _shrink(anatomy: Anatomy, random: np.random.Generator) -> Anatomy:
    rise = random.uniform(0.01, 0.025)
    return replace(anatomy, domes=(anatomy.domes[0] - rise, anatomy.domes[1] - rise))


def _cardiomegaly(scene: Scene) -> list[Lesion]:
    outline = scene.canvas.fill(scene.anatomy.heart_box())
    # The change is the shape itself; a dilated heart is also a little thicker.
    return [Lesion(scene.canvas.soften(outline, 0.03, 0.1 / 255), extent=outline)]


def _emphysema(scene: Scene) -> list[Lesion]:
    canvas = scene.canvas
    lungs = scene.regions.lungs
    patches = np.clip(0.6 + 0.35 * canvas.noise(scene.random, 7), 0.2, 1.2)
    field = -canvas.soften(lungs, 0.004, 0.085 / 255) * patches
    bulla: Bytes = canvas.blank()
    for _ in range(int(scene.random.integers(1, 4))):
        side = pick_side(scene.random)
        center = scene.anatomy.at(
            side,
            scene.random.uniform(0.14, 0.24),
            scene.anatomy.level(scene.random.uniform(0.1, 0.35)),
        )
        radius = scene.random.uniform(0.025, 0.05)
        rim = ellipse(center, (radius, 1.2 * radius))
        canvas.stroke([np.vstack([rim, rim[:1]])], 0.0025, 255, bulla)
    rims = canvas.soften(cv2.min(bulla, lungs).astype(np.uint8), 0.0012, 0.07 / 255)
    thinned = np.float32(1.0) - canvas.soften(lungs, 0.01, 0.4 / 255)
    return [Lesion((field + rims).astype(np.float32), extent=lungs, vessels=thinned)]


def _hernia(scene: Scene) -> list[Lesion]:
    random, canvas = scene.random, scene.canvas
    radius = random.uniform(0.065, 0.1)
    center = scene.anatomy.at(
        LEFT,
        random.uniform(0.0, 0.05),
        scene.anatomy.level(1.0) - random.uniform(0.2, 0.7) * radius,
    )
    sac = ellipse(center, (radius * random.uniform(0.95, 1.2), radius))
    outline = canvas.fill(sac)
    gas = sac * 0.88 + np.array(center) * 0.12
    fluid = center[1] + random.uniform(-0.1, 0.35) * radius
    gas[:, 1] = np.minimum(gas[:, 1], fluid)
    wall = canvas.soften(outline, 0.004, 0.26 / 255)
    inside = canvas.soften(canvas.fill(gas), 0.0035, random.uniform(0.5, 0.75) / 255)
    return [Lesion(wall - inside, extent=outline)]


_RESHAPE: dict[str, Callable[[Anatomy, np.random.Generator], Anatomy]] = {
    "Cardiomegaly": _enlarge_heart,
    "Emphysema": _hyperinflate,
    "Atelectasis": _lose_volume,
    "Fibrosis": _shrink,
}

_PAINT: dict[str, Callable[[Scene], list[Lesion]]] = {
    "Atelectasis": lesions.atelectasis,
    "Cardiomegaly": _cardiomegaly,
    "Effusion": lesions.effusion,
    "Infiltration": lesions.infiltration,
    "Mass": lesions.mass,
    "Nodule": lesions.nodules,
    "Pneumonia": lesions.pneumonia,
    "Pneumothorax": lesions.pneumothorax,
    "Consolidation": lesions.consolidation,
    "Edema": lesions.edema,
    "Emphysema": _emphysema,
    "Fibrosis": lesions.fibrosis,
    "Pleural_Thickening": lesions.thickening,
    "Hernia": _hernia,
}

if set(_PAINT) != set(DISEASES):  # pragma: no cover - guards edits of either list
    raise RuntimeError("every disease needs a painter")
