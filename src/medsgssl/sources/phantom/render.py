"""One phantom: a body, its findings and its film, from a seed and an index."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from medsgssl.randomness import generator
from medsgssl.sources.labels import DISEASES
from medsgssl.sources.phantom import bones, devices, exposure, tissue
from medsgssl.sources.phantom import findings as findings_module
from medsgssl.sources.phantom.anatomy import draw_anatomy, draw_subject
from medsgssl.sources.phantom.canvas import Bytes, Canvas, Floats, Points
from medsgssl.sources.phantom.findings import Box
from medsgssl.sources.phantom.lesions import Scene
from medsgssl.sources.phantom.vessels import draw_vessels


@dataclass(frozen=True)
class Phantom:
    """A synthetic frontal chest X-ray and all that is known about it."""

    image: NDArray[np.uint8]
    """``H x W``, bright = dense."""
    right_lung: NDArray[np.bool_]
    """The patient's right lung field, ``H x W``; it lies in the image's left half."""
    left_lung: NDArray[np.bool_]
    """The patient's left lung field, ``H x W``."""
    boxes: dict[str, list[Box]]
    """Per finding its boxes (x, y, w, h) in pixels."""
    findings: tuple[str, ...]
    """In the order of `DISEASES`; empty for a healthy phantom."""
    view: str
    """``PA`` or ``AP``."""
    sex: str
    """``M`` or ``F``."""
    age: int
    """In years."""

    @property
    def lungs(self) -> NDArray[np.bool_]:
        """Both lung fields, opaque lung included, ``H x W``."""
        return self.right_lung | self.left_lung


def render_phantom(
    seed: int,
    index: int,
    size: int,
    findings: Iterable[str] = (),
    *,
    patient: int | None = None,
    view: str | None = None,
) -> Phantom:
    """Render one phantom, a pure function of its arguments.

    Without findings the same seed and index give the same body on the same film, so a pair with
    and without shows what a finding changes.

    Args:
        seed: Seed of the whole set.
        index: Number of the image; it decides breath, position, film and findings' places.
        size: Height and width in pixels, at least 32.
        findings: Names out of `DISEASES`.
        patient: Number of the patient, who decides the body; the index when not given.
        view: ``"PA"`` or ``"AP"``; drawn when not given.

    Raises:
        ValueError: A finding or the view is unknown, or the size is below 32.
    """
    wanted = set(findings)
    if unknown := sorted(wanted - set(DISEASES)):
        raise ValueError(f"unknown findings {unknown}; known are {list(DISEASES)}")
    if size < 32 or view not in {None, "PA", "AP"}:
        raise ValueError(f"size {size} must be at least 32 and view {view!r} PA or AP")
    names = tuple(name for name in DISEASES if name in wanted)

    def stream(purpose: str) -> np.random.Generator:
        return generator(seed, f"phantom {purpose}", index)

    subject = draw_subject(seed, index if patient is None else patient)
    view = draw_view(seed, index) if view is None else view
    anatomy = findings_module.reshape(
        draw_anatomy(subject, view, stream("position")), names, stream
    )
    canvas = Canvas(_canvas_side(size), _pose(view, stream("pose")))
    regions = tissue.draw_regions(canvas, anatomy)

    att = tissue.draw_body(canvas, anatomy, regions)
    att += tissue.draw_mediastinum(canvas, anatomy, regions)
    att += tissue.draw_abdomen(canvas, anatomy, regions, stream("abdomen"))
    air = tissue.draw_air(canvas, regions)
    breasts = tissue.draw_breasts(canvas, anatomy, stream("breasts"))
    att *= 1 - np.float32(0.78) * air
    if breasts is not None:
        att += breasts
    bones.add_bones(att, canvas, anatomy, regions.body, stream("bones"))
    vessels = _vessels(
        canvas, draw_vessels(canvas, anatomy, stream("vessels")), air, stream("texture")
    )
    boxes: dict[str, list[Box]] = {}
    for name in names:
        lesions = findings_module.paint(Scene(canvas, anatomy, regions, stream(name)), name)
        for lesion in lesions:
            att += lesion.attenuation
            if lesion.vessels is not None:
                vessels = vessels * lesion.vessels
        fractions = [findings_module.box_of(lesion, canvas) for lesion in lesions]
        boxes[name] = [(x * size, y * size, w * size, h * size) for x, y, w, h in fractions]
    att += vessels
    devices.add_devices(att, canvas, anatomy, stream("devices"))

    film = stream("film")
    grey = exposure.expose(att, canvas, view, film)
    exposure.collimate(grey, canvas, film)
    devices.add_markers(grey, canvas, view, film)
    if size != canvas.side:
        grey = cv2.resize(grey, (size, size), interpolation=cv2.INTER_AREA).astype(np.float32)
    right, left = tissue.lung_labels(canvas, regions, size)
    return Phantom(
        exposure.to_bytes(grey), right, left, boxes, names, view, subject.sex, subject.age
    )


def draw_view(seed: int, index: int) -> str:
    """Draw the view position of one image: ``"PA"`` or ``"AP"``."""
    return "AP" if generator(seed, "phantom view", index).random() < 0.36 else "PA"


def _canvas_side(size: int) -> int:
    """Draw small images larger than they are; from 192 pixels antialiased lines suffice."""
    return size if size >= 192 else min(2 * size, 192)


def _pose(view: str, random: np.random.Generator) -> Points:
    """Draw how the body lies on the film: a 2 x 3 map about the centre."""
    angle = random.normal(0, 1.4) * (2.0 if view == "AP" else 1.0)
    scale = random.uniform(0.95, 1.12)
    pose: Points = np.asarray(cv2.getRotationMatrix2D((0.5, 0.5), angle, scale), np.float64)
    pose[:, 2] += random.uniform(-0.02, 0.02, 2)
    return pose


def _vessels(canvas: Canvas, drawn: Bytes, air: Floats, random: np.random.Generator) -> Floats:
    """Return the attenuation of the vessels and of lung tissue too fine to be drawn."""
    sharp = canvas.soften(drawn, 0.0014, 0.17 / 255)
    fine = canvas.noise(random, 90) * np.float32(0.009) + canvas.noise(random, 45) * np.float32(
        0.008
    )
    return (sharp + fine) * air
