"""The anatomic recipe: a template of both lungs, led to their borders by the image."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from medsgssl.masks.geometry import grid_shape
from medsgssl.masks.recipes.anatomic.candidates import (
    CandidateParameters,
    find_candidates,
    find_spine,
)
from medsgssl.masks.recipes.anatomic.frame import Frame, FrameParameters, make_frame, reduce_image
from medsgssl.masks.recipes.anatomic.orientation import AS_STORED, TURNS, Turn
from medsgssl.masks.recipes.anatomic.outline import fill, outward_normals, untangled
from medsgssl.masks.recipes.anatomic.pairing import Pair, PairParameters, pair_up
from medsgssl.masks.recipes.anatomic.quality import Appraisal, AppraiseParameters, appraise
from medsgssl.masks.recipes.anatomic.refine import Refined, RefineParameters, refine_outlines
from medsgssl.masks.recipes.anatomic.template import margins, place_template
from medsgssl.masks.types import Gray, LungMask, Mask, Status

VERSION = 3


@dataclass(frozen=True)
class AnatomicParameters:
    """Constants of all steps.

    Attributes:
        frame: Cutting borders, grids.
        candidates: Thresholds and likeness to a lung.
        pairing: Likeness of two lungs to each other.
        refine: Search for the borders.
        appraise: Quality and status.
        longest: Longer side of an image at most, in shorter sides.
        poor_pair: Score of a pair below which the spine is also looked for in the middle.
        least_spread: Standard deviation in gray levels below which an image is uniform.
        least_structure: Share of that deviation that must be left on the coarse grid.
        turn_gain: How much better a turned or inverted image must do to be believed.
    """

    frame: FrameParameters = field(default_factory=FrameParameters)
    candidates: CandidateParameters = field(default_factory=CandidateParameters)
    pairing: PairParameters = field(default_factory=PairParameters)
    refine: RefineParameters = field(default_factory=RefineParameters)
    appraise: AppraiseParameters = field(default_factory=AppraiseParameters)
    longest: float = 4.0
    poor_pair: float = -8.0
    least_spread: float = 3.0
    least_structure: float = 0.3
    turn_gain: float = 0.15


PARAMETERS = AnatomicParameters()


@dataclass(frozen=True)
class Trace:
    """Everything that the steps found in one image, for the status and for people."""

    frame: Frame
    spine: int
    pair: Pair
    evidence: Mask
    refined: Refined
    mask: Mask
    appraisal: Appraisal


@dataclass(frozen=True)
class Analysis:
    """What the rules make of one image.

    Attributes:
        lungs: The mask for the image as stored.
        turn: How the image was set upright.
        trace: All steps on the upright image; None where nothing looked like a lung.
        blank: Whether the image cannot hold a picture (uniform, too narrow).
    """

    lungs: LungMask
    turn: Turn
    trace: Trace | None
    blank: bool = False


def draw(image: Gray) -> LungMask:
    """Draw the mask of both lungs.

    An image that makes no sense as stored is tried inverted and turned; when that does clearly
    better, the mask is given for the image as stored, and the status is ``doubtful``.

    Args:
        image: uint8, ``H x W``, bright = dense.

    Returns:
        The mask at the scale of the working grid.
    """
    return analyze(image).lungs


def analyze(image: Gray) -> Analysis:
    """Draw the mask as `draw` does, and return the way to it as well.

    Args:
        image: uint8, ``H x W``, bright = dense.
    """
    p = PARAMETERS
    small = grid_shape((image.shape[0], image.shape[1]), p.frame.fine)

    def blank(reason: str) -> Analysis:
        return Analysis(LungMask.failed(small, reason), AS_STORED, None, blank=True)

    if max(image.shape) > p.longest * min(image.shape):
        return blank("the image is too narrow for a chest")
    # Every eighth row and column tell whether there is anything to see.
    spread = float(image[::8, ::8].std())
    if spread < p.least_spread:
        return blank("the image is (nearly) uniform")
    steps = trace(image, p)
    quality = steps.appraisal.quality if steps else 0.0
    turn = AS_STORED
    if steps is None or quality < p.appraise.doubtful_below or steps.appraisal.upended:
        steps, turn = _best_turn(image, steps, p)
    if steps is None:
        reason = "no dark region looks like a lung"
        return Analysis(LungMask.failed(small, reason), AS_STORED, None)
    if float(steps.frame.coarse.std()) < p.least_structure * spread:
        # A wide bright frame looks alike: the student may still find lungs in it.
        return Analysis(LungMask.failed(small, "there is noise but no picture"), turn, steps)
    return Analysis(_judged(steps, turn, p), turn, steps)


def _best_turn(
    image: Gray, as_stored: Trace | None, p: AnatomicParameters
) -> tuple[Trace | None, Turn]:
    best, chosen = as_stored, AS_STORED
    needed = (as_stored.appraisal.quality if as_stored else 0.0) + p.turn_gain
    needed = max(needed, p.appraise.doubtful_below)
    reduced = reduce_image(image, p.frame.fine)
    for turn in TURNS:
        other = trace(turn.upright(reduced), p)
        if other is not None and other.appraisal.quality > needed:
            best, chosen, needed = other, turn, other.appraisal.quality
    return best, chosen


def _judged(steps: Trace, turn: Turn, p: AnatomicParameters) -> LungMask:
    mask = turn.undo(steps.frame.uncut(steps.mask))
    appraisal = steps.appraisal
    if not p.appraise.areas[0] <= appraisal.area <= p.appraise.areas[1]:
        return LungMask.failed(
            (mask.shape[0], mask.shape[1]), "the lungs found have an unlikely size"
        )
    if appraisal.midline < p.appraise.least_midline:
        reason = "no dense midline between two lungs: a lateral view or no chest"
        return LungMask.failed((mask.shape[0], mask.shape[1]), reason)
    if appraisal.quality < p.appraise.failed_below:
        reason = f"no chest, or not a frontal one: {appraisal.worst}"
        return LungMask.failed((mask.shape[0], mask.shape[1]), reason)
    reasons = [turn.reason] if turn.reason else []
    status: Status = "doubtful" if turn.reason else "ok"
    if appraisal.quality < p.appraise.doubtful_below:
        status = "doubtful"
        reasons.append(appraisal.worst)
    if None in steps.pair.chosen:
        status = "doubtful"
        reasons.append("only one lung is seen; the other is mirrored")
    return LungMask(mask, appraisal.quality, status, "; ".join(reasons))


def trace(image: Gray, p: AnatomicParameters = PARAMETERS) -> Trace | None:
    """Run the steps on one upright image; None when nothing in it looks like a lung."""
    frame = make_frame(image, p.frame)
    spine, pair = _find_pair(frame, p)
    if pair is None:
        return None
    shape = (frame.coarse.shape[0], frame.coarse.shape[1])
    evidence = np.zeros(shape, dtype=bool)
    for chosen in pair.chosen:
        if chosen is not None:
            evidence |= chosen.mask
    template = place_template(pair.boxes) * frame.scale
    refined = refine_outlines(frame, template, evidence, p.refine)
    outer = refined.outlines + margins() * outward_normals(refined.outlines)
    outer = np.stack([untangled(outline) for outline in outer])
    mask = fill(outer, (frame.fine.shape[0], frame.fine.shape[1]))
    appraisal = appraise(frame, pair, spine, evidence, refined, mask, p.appraise)
    return Trace(frame, spine, pair, evidence, refined, mask, appraisal)


def _find_pair(frame: Frame, p: AnatomicParameters) -> tuple[int, Pair | None]:
    """Find the spine and the pair of dark regions beside it.

    Arms or a bright border may pass for the spine; a poor pair is tried again about the middle.
    """
    shape = (frame.coarse.shape[0], frame.coarse.shape[1])
    spine = find_spine(frame.flat)
    pair = pair_up(find_candidates(frame, spine, p.candidates), spine, shape, p.pairing)
    if pair is not None and pair.score >= p.poor_pair:
        return spine, pair
    middle = shape[1] // 2
    other = pair_up(find_candidates(frame, middle, p.candidates), middle, shape, p.pairing)
    if other is not None and (pair is None or other.score > pair.score):
        return middle, other
    return spine, pair
