"""What painters of findings share: the scene they see and the lesion they return."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from medsgssl.sources.phantom.anatomy import LEFT, RIGHT, Anatomy
from medsgssl.sources.phantom.canvas import Bytes, Canvas, Floats
from medsgssl.sources.phantom.tissue import Regions


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
