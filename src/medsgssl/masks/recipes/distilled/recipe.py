"""The distilled recipe: the student's mask, and a quality from its agreement with the rules.

The rules set the image upright and know what is no chest; the student, taught by their good masks,
draws the better outline; where the two disagree, the mask deserves a look. The rules and the
student fail in different ways, so that their agreement is a witness outside either's own chain.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from multiprocessing import parent_process
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from medsgssl.masks.agreement import dice
from medsgssl.masks.geometry import grid_shape, resize_mask, to_grid
from medsgssl.masks.recipes.anatomic.frame import reduce_image
from medsgssl.masks.recipes.anatomic.recipe import PARAMETERS as RULES
from medsgssl.masks.recipes.anatomic.recipe import Analysis, analyze
from medsgssl.masks.recipes.distilled.pixels import FloatImage, student_input, to_square
from medsgssl.masks.recipes.distilled.plausibility import measure_plausibility
from medsgssl.masks.recipes.distilled.student_weights import SHIPPED, read_card
from medsgssl.masks.types import Gray, LungMask, Mask, Status
from medsgssl.utils.formatting import counted

if TYPE_CHECKING:
    from medsgssl.masks.recipes.distilled.network import Student

VERSION = 3

# Below it the rules see a view from the side, which the student must not take for a chest.
_LEAST_MIDLINE = RULES.appraise.least_midline


@dataclass(frozen=True)
class DistilledParameters:
    """Constants of the recipe.

    Attributes:
        grid: Longer side of the mask in pixels.
        level: Probability of lung from which a pixel is inside.
        rules_weight: Weight of the rules' mask beside the student, in logits per two pixels from
            its outline; it moves the outline only where the student is unsure.
        least_part: Smallest component kept, as a share of the mask.
        usual_agreement: Dice of rules and student at which the quality is one half. The quality is
            the share of masks with a Dice of 0.85 or more at that agreement, read off spoilt
            development images of the half for constants (``benchmarks/masks.py quality``).
        spread: How fast the quality changes with their Dice.
        doubtful_below: Quality below which the status is ``doubtful``.
        failed_below: Quality below which the status is ``failed``.
        areas: Smallest and largest area of both lungs as a share of the image.
        alone_balance: Least area of the smaller lung beside the other, where the rules find none.
        alone_stability: Least Dice with the mask of the mirror image there.
        alone_certainty: Least mean probability inside the mask there.
        alone_quality: Quality of such masks, and at most of those that the image speaks against.
        weak_midline: Density of the middle between the lungs below which the image may be a view
            from the side (`Appraisal.midline`); about one frontal image in a hundred lies below.
        most_whiteness: `Plausibility.whiteness` above which the outline of the whiter lung is
            guessed; one NIH image in 170 lies above.
        least_contrast: Gray levels between the darker lung and the middle for it to be looked at.
    """

    grid: int = 256
    level: float = 0.5
    rules_weight: float = 0.5
    least_part: float = 0.06
    usual_agreement: float = 0.68
    spread: float = 0.045
    doubtful_below: float = 0.8
    failed_below: float = 0.02
    areas: tuple[float, float] = (0.04, 0.65)
    alone_balance: float = 0.5
    alone_stability: float = 0.95
    alone_certainty: float = 0.89
    alone_quality: float = 0.5
    weak_midline: float = 0.75
    most_whiteness: float = 0.7
    least_contrast: float = 15.0


PARAMETERS = DistilledParameters()


def draw(image: Gray, weights: Path = SHIPPED) -> LungMask:
    """Draw the mask of both lungs with the student, and compare it with the rules.

    Args:
        image: uint8, ``H x W``, bright = dense.
        weights: The student's weights.

    Returns:
        The mask at the scale of the working grid, for the image as stored.

    Raises:
        MaskError: The weights cannot be read.
    """
    p = PARAMETERS
    rules = analyze(image)
    if rules.blank:
        return rules.lungs
    reduced = reduce_image(image, p.grid)
    judged = rules.lungs
    if rules.lungs.status != "failed":
        lung = rules.turn.undo_map(probability(rules.turn.upright(reduced), weights))
        drawn = resize_mask(rules.lungs.mask, (lung.shape[0], lung.shape[1]))
        mask = clean(_blended(lung, drawn, p), p)
        judged = _judged(mask, clean(lung, p), rules, p)
        if judged.status == "ok":
            judged = _doubted(judged, reduced, p)
    sideways = rules.trace is not None and rules.trace.appraisal.midline < _LEAST_MIDLINE
    if judged.status == "failed" and not sideways:
        return _alone(reduced, judged.reason, weights, p)
    return judged


def _blended(lung: FloatImage, drawn: Mask, p: DistilledParameters) -> FloatImage:
    """Add the rules' opinion to the student's probability."""
    inside = drawn.astype(np.uint8)
    away = cv2.distanceTransform(inside, cv2.DIST_L2, 5)
    away = away - cv2.distanceTransform(1 - inside, cv2.DIST_L2, 5)
    sure = np.clip(lung, 1e-4, 1.0 - 1e-4)
    logit = np.log(sure / (1.0 - sure)) + p.rules_weight * np.clip(away / 2.0, -2.0, 2.0)
    return np.asarray(1.0 / (1.0 + np.exp(-logit)), dtype=np.float32)


def probability(image: Gray, weights: Path = SHIPPED) -> FloatImage:
    """Return the student's probability of lung: float32, longer side `DistilledParameters.grid`.

    Args:
        image: uint8, ``H x W``, upright.
        weights: The student's weights.
    """
    from medsgssl.masks.recipes.distilled.train import predict

    square, placement = to_square(image)
    whole = predict(_student(weights), student_input(square)[None])[0]
    height, width = grid_shape((image.shape[0], image.shape[1]), PARAMETERS.grid)
    inside = whole[: placement.height, : placement.width]
    return np.asarray(cv2.resize(inside, (width, height), interpolation=cv2.INTER_LINEAR))


def clean(lung: FloatImage, p: DistilledParameters = PARAMETERS) -> Mask:
    """Return the mask of a probability: the larger parts, without holes."""
    inside = (lung >= p.level).astype(np.uint8)
    contours, _ = cv2.findContours(inside, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    areas = [cv2.contourArea(contour) for contour in contours]
    mask = np.zeros_like(inside)
    kept = [c for c, area in zip(contours, areas, strict=True) if area >= p.least_part * sum(areas)]
    cv2.drawContours(mask, kept, -1, 1, cv2.FILLED)
    return np.asarray(mask > 0)


def agreement(mask: Mask, rules: Mask) -> float:
    """Return the Dice of the student's mask and the rules' mask, at the student's size."""
    return dice(mask, resize_mask(rules, (mask.shape[0], mask.shape[1])))


def _alone(image: Gray, problem: str, weights: Path, p: DistilledParameters) -> LungMask:
    """Judge the student's mask of an image in which the rules find other lungs, or none.

    It is taken as ``doubtful`` where it shows two lungs of similar size, is sure of them, and gives
    the same for the mirror image.

    Args:
        image: uint8, ``H x W``, as stored.
        problem: What became of the rules.
        weights: The student's weights.
        p: Constants of the recipe.
    """
    lung = probability(image, weights)
    mirrored = probability(np.ascontiguousarray(image[:, ::-1]), weights)[:, ::-1]
    mask = clean(np.asarray((lung + mirrored) / 2, np.float32), p)
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    areas = sorted(cv2.contourArea(contour) for contour in contours)
    likely = (
        len(areas) == 2
        and areas[0] >= p.alone_balance * areas[1]
        and p.areas[0] <= float(mask.mean()) <= p.areas[1]
        and float(lung[mask].mean()) >= p.alone_certainty
        and dice(clean(lung, p), clean(mirrored, p)) >= p.alone_stability
    )
    if not likely:
        return LungMask.failed((mask.shape[0], mask.shape[1]), problem)
    return LungMask(mask, p.alone_quality, "doubtful", f"the student alone is sure: {problem}")


def _judged(mask: Mask, student: Mask, rules: Analysis, p: DistilledParameters) -> LungMask:
    shape = (mask.shape[0], mask.shape[1])
    if not p.areas[0] <= float(mask.mean()) <= p.areas[1]:
        return LungMask.failed(shape, "the student finds no lungs of a likely size")
    same = agreement(student, rules.lungs.mask)
    quality = 1.0 / (1.0 + math.exp((p.usual_agreement - same) / p.spread))
    if quality < p.failed_below:
        return LungMask.failed(shape, f"rules and student find different lungs (Dice {same:.2f})")
    reasons = [rules.turn.reason] if rules.turn.reason else []
    status: Status = "doubtful" if rules.turn.reason else "ok"
    if rules.trace is not None and rules.trace.appraisal.midline < p.weak_midline:
        # Rules and student alike can take a view from the side for two lungs.
        quality, status = min(quality, p.alone_quality), "doubtful"
        reasons.append("the middle is hardly denser than the lungs: perhaps a view from the side")
    elif quality < p.doubtful_below:
        status = "doubtful"
        reasons.append(f"rules and student disagree (Dice {same:.2f})")
    return LungMask(mask, quality, status, "; ".join(reasons))


def _doubted(lungs: LungMask, image: Gray, p: DistilledParameters) -> LungMask:
    """Doubt a mask on which rules and student agree, where the upright image speaks against it."""
    gray = to_grid(image, (lungs.mask.shape[0], lungs.mask.shape[1]))
    found = measure_plausibility(gray, lungs.mask, p.least_contrast)
    reasons = []
    if found.parts != 2:
        reasons.append(f"the mask has {counted(found.parts, 'part')} instead of two lungs")
    if found.whiteness > p.most_whiteness:
        reasons.append("one lung is as white as the middle: its outline is guessed")
    if not reasons:
        return lungs
    quality = min(lungs.quality, p.alone_quality)
    return LungMask(lungs.mask, quality, "doubtful", "; ".join(reasons))


@lru_cache(maxsize=2)
def _student(weights: Path) -> Student:
    """Load a student for inference, once per process."""
    import torch
    from safetensors.torch import load_file

    from medsgssl.masks.recipes.distilled.network import Student, fused

    read_card(weights)
    if parent_process() is not None:
        # A worker: the other cores belong to its siblings.
        torch.set_num_threads(1)
    student = Student()
    student.load_state_dict({name: value.float() if value.is_floating_point() else value
                             for name, value in load_file(weights).items()})  # fmt: skip
    return fused(student)
