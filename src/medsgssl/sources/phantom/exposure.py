"""From attenuation to film: exposure curve, scatter, grain, collimation."""

from __future__ import annotations

import numpy as np

from medsgssl.sources.phantom.canvas import Bytes, Canvas, Floats


def expose(att: Floats, canvas: Canvas, view: str, random: np.random.Generator) -> Floats:
    """Turn attenuation into grey values.

    Args:
        att: Attenuation, 0 in air, about 1 in the chest wall; changed in place.
        canvas: The raster it lies on.
        view: ``"PA"`` or ``"AP"``; portable AP films are flatter and noisier.
        random: Decides the exposure.

    Returns:
        Grey values in [0, 1], bright = dense.
    """
    portable = view == "AP"
    strength = random.uniform(0.8, 1.12) * (0.85 if portable else 1.0)
    gamma = random.uniform(0.85, 1.6) * (0.85 if portable else 1.0)
    veil = random.uniform(0.0, 0.09) + (0.06 if portable else 0.0)
    scatter = random.uniform(0.04, 0.1) + (0.06 if portable else 0.0)
    ramp = random.normal(0, 0.05, 2)
    grain = random.uniform(0.004, 0.012) * (1.25 if portable else 1.0)
    np.maximum(att, np.float32(0.0), out=att)
    att *= np.float32(strength)
    grey: Floats = np.float32(1.0) - np.exp(-att)
    blurred = canvas.soften(grey, 0.08, 1.0)
    grey = grey * np.float32(1 - scatter) + blurred * np.float32(scatter)
    # Displays stretch each film to its darkest and brightest tissue.
    grey = grey / np.float32(0.86)
    grey += np.float32(ramp[0]) * (canvas.x - np.float32(0.5)) * grey
    grey += np.float32(ramp[1]) * (canvas.y - np.float32(0.5)) * grey
    grey = np.clip(grey, 0, 1) ** np.float32(gamma)
    grey = np.float32(veil) + np.float32(1 - veil) * grey
    # Grain is drawn at a fixed size, so that a larger image shows the same film.
    grey += np.float32(grain) * canvas.noise(random, 256)
    top = random.uniform(0.86, 0.98)
    film: Floats = np.clip(grey * np.float32(top), 0, 1)
    return film


def collimate(grey: Floats, canvas: Canvas, random: np.random.Generator) -> None:
    """Blacken or whiten the film beyond the beam, on some images, in place."""
    kind = random.random()
    margins = random.uniform(0.005, 0.05, 4) * (random.random(4) < 0.5)
    if kind < 0.22:
        value = np.float32(0.0 if random.random() < 0.75 else 0.97)
        low, high = (margins * canvas.side).astype(int)[:2], (margins * canvas.side).astype(int)[2:]
        grey[: low[0]] = value
        grey[canvas.side - high[0] :] = value
        grey[:, : low[1]] = value
        grey[:, canvas.side - high[1] :] = value
    elif kind < 0.3:
        # A film narrower than the square it is stored in.
        bar = int(random.uniform(0.02, 0.08) * canvas.side)
        grey[:, :bar] = 0
        grey[:, canvas.side - bar :] = 0


def to_bytes(grey: Floats) -> Bytes:
    """Round grey values in [0, 1] to ``uint8``."""
    return np.round(grey * np.float32(255)).astype(np.uint8)
