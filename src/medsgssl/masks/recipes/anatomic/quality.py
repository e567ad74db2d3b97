"""Step 6, appraise: how far the steps disagree tells how far the mask can be trusted.

Each sign of trouble is measured in units of its usual spread in good masks and limited, so that
none decides alone; the quality falls exponentially with their sum. Nothing is trained: the usual
values were read off the good masks of the development images.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from medsgssl.masks.geometry import resize_mask
from medsgssl.masks.recipes.anatomic.frame import Frame
from medsgssl.masks.recipes.anatomic.pairing import Pair
from medsgssl.masks.recipes.anatomic.refine import Refined
from medsgssl.masks.types import Mask

MEANINGS = {
    "pair": "the dark regions hardly look like a pair of lungs",
    "evidence": "dark regions and outlines disagree",
    "weak": "much of the outline has no visible border",
    "moved": "the outlines had to move far from the template",
    "unsettled": "the outlines did not settle",
    "tops": "the apices lie at unequal heights",
    "flare": "the lungs do not widen downwards",
}


@dataclass(frozen=True)
class AppraiseParameters:
    """Constants of the step.

    Attributes:
        signs: Usual value and spread of each sign; a negative spread when less is worse.
        most: Largest number of spreads that one sign counts.
        scale: Sum of the signs that lowers the quality to 1/e.
        weak_edge: Edge strength below which a point has no visible border.
        doubtful_below: Quality below which the status is ``doubtful``.
        failed_below: Quality below which the status is ``failed``.
        areas: Smallest and largest area of both lungs as a share of the frame.
        least_midline: Smallest credible ``Appraisal.midline``; lateral views lie below.
    """

    signs: dict[str, tuple[float, float]] = field(
        default_factory=lambda: {
            "pair": (0.0, -4.0),
            "evidence": (0.88, -0.06),
            "weak": (0.05, 0.06),
            "moved": (0.033, 0.015),
            "unsettled": (0.009, 0.005),
            "tops": (0.02, 0.05),
            "flare": (0.04, -0.02),
        }
    )
    most: float = 4.0
    scale: float = 10.0
    weak_edge: float = 0.3
    doubtful_below: float = 0.4
    failed_below: float = 0.2
    areas: tuple[float, float] = (0.05, 0.6)
    least_midline: float = 0.5


@dataclass(frozen=True)
class Appraisal:
    """What speaks against a mask.

    Attributes:
        quality: Trust in the mask, 0 to 1.
        troubles: Each sign in units of its spread, 0 (none) to ``most``.
        area: Share of the frame inside the mask.
        midline: How much denser than the lungs the middle between them is, in standard
            deviations of the rows where both lie; usually 1.1 to 2.5.
    """

    quality: float
    troubles: dict[str, float]
    area: float
    midline: float

    @property
    def upended(self) -> bool:
        """Whether the lungs widen upwards, as in an image that is upside down."""
        return self.troubles["flare"] > 2.0

    @property
    def worst(self) -> str:
        """What speaks most against the mask, in words."""
        return MEANINGS[max(self.troubles, key=self.troubles.__getitem__)]


def appraise(
    frame: Frame,
    pair: Pair,
    spine: int,
    evidence: Mask,
    refined: Refined,
    mask: Mask,
    parameters: AppraiseParameters,
) -> Appraisal:
    """Judge a mask by how well the steps that led to it agree.

    Args:
        frame: The image on its grids.
        pair: The pair of candidates.
        spine: Column of the spine on the coarse grid.
        evidence: bool, the candidates on the coarse grid.
        refined: The outlines.
        mask: bool, the mask on the fine grid.
        parameters: Constants of the step.
    """
    p = parameters
    measured = _measure(pair, spine, evidence, refined, mask, p)
    troubles = {
        name: min(max((measured[name] - usual) / spread, 0.0), p.most)
        for name, (usual, spread) in p.signs.items()
    }
    area = float(mask.mean())
    midline = _midline(frame, refined, mask)
    quality = math.exp(-sum(troubles.values()) / p.scale)
    if not p.areas[0] <= area <= p.areas[1] or midline < p.least_midline:
        quality = 0.0
    return Appraisal(quality, troubles, area, midline)


def _measure(
    pair: Pair, spine: int, evidence: Mask, refined: Refined, mask: Mask, p: AppraiseParameters
) -> dict[str, float]:
    first, before, last = refined.rounds[0], refined.rounds[-2], refined.outlines
    tops, bottoms = last[..., 1].min(axis=1), last[..., 1].max(axis=1)
    height = float((bottoms - tops).max())
    small = resize_mask(mask, (evidence.shape[0], evidence.shape[1]))
    both = np.count_nonzero(small & evidence)
    return {
        "pair": pair.score,
        "evidence": 2.0 * both / (np.count_nonzero(small) + np.count_nonzero(evidence)),
        "weak": float((refined.edges < p.weak_edge).mean()),
        "moved": float(np.linalg.norm(last - first, axis=-1).mean()) / height,
        "unsettled": float(np.linalg.norm(last - before, axis=-1).mean()) / height,
        "tops": float(abs(tops[0] - tops[1])) / height,
        "flare": _flare(evidence, spine),
    }


def _flare(evidence: Mask, spine: int) -> float:
    """How much farther from the spine the lower third of the evidence lies than the upper third.

    A share of the width; negative where the image is upside down.
    """
    rows, columns = np.nonzero(evidence)
    # np.nonzero gives the rows in order, so that thirds of the list are thirds of the area.
    third = len(rows) // 3
    away = np.abs(columns - spine)
    upper, lower = float(away[:third].mean()), float(away[-third:].mean())
    return (lower - upper) / float(evidence.shape[1])


def _midline(frame: Frame, refined: Refined, mask: Mask) -> float:
    """Density of the middle between the lungs; 0 where they share no rows."""
    image = frame.coarse
    left, right = refined.outlines / frame.scale
    top = max(left[:, 1].min(), right[:, 1].min())
    bottom = min(left[:, 1].max(), right[:, 1].max())
    quarter = 0.25 * (bottom - top)
    first, last = max(0, int(top + quarter)), int(bottom - quarter)
    rows = image[first:last]
    if not rows.size:
        return 0.0
    column = int(np.clip((left[:, 0].max() + right[:, 0].min()) / 2, 2, image.shape[1] - 3))
    inside = resize_mask(mask, (image.shape[0], image.shape[1]))[first:last]
    if not inside.any():
        return 0.0
    denser = float(rows[:, column - 2 : column + 3].mean()) - float(rows[inside].mean())
    return denser / (float(rows.std()) + 1.0)
