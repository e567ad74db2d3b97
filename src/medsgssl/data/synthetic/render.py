"""One phantom: a body, its findings and its film, from a seed and an index."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from medsgssl.data.labels import DISEASES
from medsgssl.data.synthetic import bones, devices, tissue
from medsgssl.data.synthetic import findings as findings_module
from medsgssl.data.synthetic.anatomy import draw_anatomy, draw_subject
from medsgssl.data.synthetic.canvas import Bytes, Canvas, Floats, Points
from medsgssl.data.synthetic.findings import PixelBox
from medsgssl.data.synthetic.lesions import Scene
from medsgssl.data.synthetic.tissue import draw_vessels
from medsgssl.utils.rng import generator


def expose(att: Floats, canvas: Canvas, view_position: str, random: np.random.Generator) -> Floats:
    """Turn attenuation into gray values.

    Args:
        att: Attenuation, 0 in air, about 1 in the chest wall; changed in place.
        canvas: The raster it lies on.
        view_position: ``"PA"`` or ``"AP"``; portable AP films are flatter and noisier.
        random: Decides the exposure.

    Returns:
        Gray values in [0, 1], bright = dense.
    """
    portable = view_position == "AP"
    strength = random.uniform(0.8, 1.12) * (0.85 if portable else 1.0)
    gamma = random.uniform(0.85, 1.6) * (0.85 if portable else 1.0)
    veil = random.uniform(0.0, 0.09) + (0.06 if portable else 0.0)
    scatter = random.uniform(0.04, 0.1) + (0.06 if portable else 0.0)
    ramp = random.normal(0, 0.05, 2)
    grain = random.uniform(0.004, 0.012) * (1.25 if portable else 1.0)
    np.maximum(att, np.float32(0.0), out=att)
    att *= np.float32(strength)
    gray: Floats = np.float32(1.0) - np.exp(-att)
    blurred = canvas.soften(gray, 0.08, 1.0)
    gray = gray * np.float32(1 - scatter) + blurred * np.float32(scatter)
    # Displays stretch each film to its darkest and brightest tissue.
    gray = gray / np.float32(0.86)
    gray += np.float32(ramp[0]) * (canvas.x - np.float32(0.5)) * gray
    gray += np.float32(ramp[1]) * (canvas.y - np.float32(0.5)) * gray
    gray = np.clip(gray, 0, 1) ** np.float32(gamma)
    gray = np.float32(veil) + np.float32(1 - veil) * gray
    # Grain is drawn at a fixed size, so that a larger image shows the same film.
    gray += np.float32(grain) * canvas.noise(random, 256)
    top = random.uniform(0.86, 0.98)
    film: Floats = np.clip(gray * np.float32(top), 0, 1)
    return film


def collimate(gray: Floats, canvas: Canvas, random: np.random.Generator) -> None:
    """Blacken or whiten the film beyond the beam, on some images, in place."""
    kind = random.random()
    margins = random.uniform(0.005, 0.05, 4) * (random.random(4) < 0.5)
    if kind < 0.22:
        value = np.float32(0.0 if random.random() < 0.75 else 0.97)
        low, high = (margins * canvas.side).astype(int)[:2], (margins * canvas.side).astype(int)[2:]
        gray[: low[0]] = value
        gray[canvas.side - high[0] :] = value
        gray[:, : low[1]] = value
        gray[:, canvas.side - high[1] :] = value
    elif kind < 0.3:
        # A film narrower than the square it is stored in.
        bar = int(random.uniform(0.02, 0.08) * canvas.side)
        gray[:, :bar] = 0
        gray[:, canvas.side - bar :] = 0


def to_bytes(gray: Floats) -> Bytes:
    """Round gray values in [0, 1] to ``uint8``."""
    return np.round(gray * np.float32(255)).astype(np.uint8)


@dataclass(frozen=True)
class Phantom:
    """A synthetic frontal chest X-ray and all that is known about it."""

    image: NDArray[np.uint8]
    """``H x W``, bright = dense."""
    right_lung: NDArray[np.bool_]
    """The patient's right lung field, ``H x W``; it lies in the image's left half."""
    left_lung: NDArray[np.bool_]
    """The patient's left lung field, ``H x W``."""
    boxes: dict[str, list[PixelBox]]
    """Per finding its boxes (x, y, w, h) in pixels."""
    findings: tuple[str, ...]
    """In the order of `DISEASES`; empty for a healthy phantom."""
    view_position: str
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
    view_position: str | None = None,
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
        view_position: ``"PA"`` or ``"AP"``; drawn when not given.

    Raises:
        ValueError: A finding or the view is unknown, or the size is below 32.
    """
    wanted = set(findings)
    if unknown := sorted(wanted - set(DISEASES)):
        raise ValueError(f"unknown findings {unknown}; known are {list(DISEASES)}")
    if size < 32 or view_position not in {None, "PA", "AP"}:
        raise ValueError(f"size {size} must be at least 32 and view {view_position!r} PA or AP")
    names = tuple(name for name in DISEASES if name in wanted)

    def stream(purpose: str) -> np.random.Generator:
        return generator(seed, f"phantom {purpose}", index)

    subject = draw_subject(seed, index if patient is None else patient)
    view_position = draw_view_position(seed, index) if view_position is None else view_position
    anatomy = findings_module.reshape(
        draw_anatomy(subject, view_position, stream("position")), names, stream
    )
    canvas = Canvas(_canvas_side(size), _pose(view_position, stream("pose")))
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
    boxes: dict[str, list[PixelBox]] = {}
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
    gray = expose(att, canvas, view_position, film)
    collimate(gray, canvas, film)
    devices.add_markers(gray, canvas, view_position, film)
    if size != canvas.side:
        gray = cv2.resize(gray, (size, size), interpolation=cv2.INTER_AREA).astype(np.float32)
    right, left = tissue.lung_labels(canvas, regions, size)
    return Phantom(
        to_bytes(gray), right, left, boxes, names, view_position, subject.sex, subject.age
    )


def draw_view_position(seed: int, index: int) -> str:
    """Draw the view position of one image: ``"PA"`` or ``"AP"``."""
    return "AP" if generator(seed, "phantom view", index).random() < 0.36 else "PA"


def _canvas_side(size: int) -> int:
    """Draw small images larger than they are; from 192 pixels antialiased lines suffice."""
    return size if size >= 192 else min(2 * size, 192)


def _pose(view_position: str, random: np.random.Generator) -> Points:
    """Draw how the body lies on the film: a 2 x 3 map about the center."""
    angle = random.normal(0, 1.4) * (2.0 if view_position == "AP" else 1.0)
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
