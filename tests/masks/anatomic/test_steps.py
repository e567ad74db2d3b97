import itertools

import cv2
import numpy as np
import pytest

from medsgssl.masks.recipes.anatomic.candidates import (
    Bounds,
    Candidate,
    find_candidates,
    find_spine,
)
from medsgssl.masks.recipes.anatomic.frame import FrameParameters, make_frame
from medsgssl.masks.recipes.anatomic.orientation import TURNS
from medsgssl.masks.recipes.anatomic.outline import (
    REACH,
    affine_fit,
    best_closed_path,
    fill,
    outward_normals,
    sample,
    signed_area,
    untangled,
)
from medsgssl.masks.recipes.anatomic.pairing import PairParameters, pair_up
from medsgssl.masks.recipes.anatomic.recipe import PARAMETERS, trace
from medsgssl.masks.recipes.anatomic.refine import RefineParameters, refine_outlines
from medsgssl.masks.recipes.anatomic.template import POINTS, margins, place_template
from medsgssl.report.mask_pages import step_figures

BOXES = (Bounds(10, 10, 40, 75), Bounds(56, 10, 86, 75))
FINE = FrameParameters().fine
SCALE = FINE / FrameParameters().coarse


@pytest.fixture
def drawn_chest():
    """A bright body with two dark lungs of the template's shape, and their mask."""
    outlines = SCALE * place_template(BOXES)
    lungs = fill(outlines, (FINE, FINE))
    image = np.where(lungs, 60, 180).astype(np.uint8)
    # Without a slope the body around the lungs would be cut away as a uniform border.
    slope = np.add.outer(np.linspace(-20, 20, FINE), np.linspace(-20, 20, FINE))
    image = np.clip(cv2.GaussianBlur(image, (0, 0), 1.5) + slope, 0, 255)
    return image.astype(np.uint8), lungs, outlines


def test_frame_cuts_uniform_borders_and_puts_masks_back():
    random = np.random.default_rng(0)
    inner = cv2.GaussianBlur(random.integers(0, 255, (600, 400), dtype=np.uint8), (0, 0), 9)
    inner = cv2.normalize(inner, None, 20, 230, cv2.NORM_MINMAX)
    image = cv2.copyMakeBorder(inner, 100, 0, 80, 120, cv2.BORDER_CONSTANT, value=0)
    frame = make_frame(image, FrameParameters())
    assert abs(frame.top - 100) < 20
    assert abs(frame.left - 80) < 20
    assert max(frame.fine.shape) == FINE
    assert max(frame.coarse.shape) == FrameParameters().coarse
    assert frame.scale == pytest.approx([SCALE, SCALE], rel=0.02)
    whole = frame.uncut(np.ones(frame.fine.shape, bool))
    assert whole.shape[0] / whole.shape[1] == pytest.approx(700 / 600, rel=0.02)
    assert whole.mean() == pytest.approx(600 * 400 / (700 * 600), rel=0.1)


def test_candidates_find_the_lungs_on_their_sides(drawn_chest):
    image, lungs, _ = drawn_chest
    frame = make_frame(image, FrameParameters())
    spine = find_spine(frame.flat)
    assert abs(spine - 48) < 6
    sides = find_candidates(frame, spine, PARAMETERS.candidates)
    for side, half in zip(sides, (lungs[:, : FINE // 2], lungs[:, FINE // 2 :]), strict=True):
        assert [one.score for one in side] == sorted((one.score for one in side), reverse=True)
        assert side[0].area == pytest.approx(half.sum() / lungs.size, rel=0.15)


def candidate(score, box):
    return Candidate(score, np.zeros((96, 96), bool), 0.1, box)


def test_pairing_prefers_lungs_that_match_and_mirrors_a_missing_one():
    good, odd = candidate(-2.0, BOXES[1]), candidate(-1.0, Bounds(56, 50, 86, 90))
    left = candidate(-1.0, BOXES[0])
    pair = pair_up(([left], [odd, good]), 48, (96, 96), PairParameters())
    assert pair.chosen == (left, good)
    alone = pair_up(([left], []), 48, (96, 96), PairParameters())
    assert alone.chosen == (left, None)
    first, second = alone.boxes
    assert second.left + first.right == pytest.approx(96, abs=3)
    assert (first.top, first.bottom) == (second.top, second.bottom)
    assert pair_up(([], []), 48, (96, 96), PairParameters()) is None


def test_the_template_fills_its_boxes_with_two_plausible_lungs():
    outlines = place_template(BOXES)
    assert outlines.shape == (2, POINTS, 2)
    for outline, box in zip(outlines, BOXES, strict=True):
        assert outline.min(axis=0) == pytest.approx([box.left, box.top], abs=2)
        assert outline.max(axis=0) == pytest.approx([box.right, box.bottom], abs=2)
    # The heart makes the patient's left lung, on the right of the image, the smaller one.
    left, right = (fill(outlines[side, None], (96, 96)).sum() for side in (0, 1))
    assert right < left


def test_normals_point_outwards_and_samples_are_linear():
    outlines = place_template(BOXES)
    grown = outlines + 2 * outward_normals(outlines)
    assert fill(grown, (96, 96)).sum() > fill(outlines, (96, 96)).sum() + 200
    ramp = np.tile(np.arange(50, dtype=np.float32), (40, 1))
    points = np.array([[[3.25, 7.0], [10.5, 2.0]]], np.float32)
    assert sample(ramp, points) == pytest.approx(np.array([[3.25, 10.5]]), abs=0.05)


def test_the_affine_fit_finds_the_map_and_ignores_points_without_weight():
    template = place_template(BOXES)[0]
    moved = template @ np.array([[1.1, 0.1], [-0.05, 0.9]]) + [3.0, -2.0]
    weights = np.ones(POINTS)
    spoilt = moved.copy()
    spoilt[:5] += 40
    weights[:5] = 0
    assert affine_fit(template, spoilt, weights) == pytest.approx(moved, abs=1e-3)


def test_the_path_is_the_best_of_all_closed_paths():
    random = np.random.default_rng(3)
    gains = random.random((1, 6, 3), dtype=np.float32)
    gains = np.repeat(gains, 4, axis=1)

    def value(path):
        steps = np.diff([*path, path[0]])
        gain = gains[0, np.arange(len(path)), list(path)].sum()
        return gain - 0.2 * (steps**2).sum()

    found = best_closed_path(gains, 0.2)[0]
    assert np.abs(np.diff([*found, found[0]])).max() <= REACH
    blocks = (np.repeat(path, 4) for path in itertools.product(range(3), repeat=6))
    assert value(found) >= max(value(path) for path in blocks) - 0.3


def test_refinement_returns_to_the_borders_it_was_moved_from(drawn_chest):
    image, lungs, outlines = drawn_chest
    frame = make_frame(image, FrameParameters())
    moved = (outlines - FINE / 2) * [1.06, 0.95] + [FINE / 2 + 4, FINE / 2 - 4]
    start = fill(moved, (FINE, FINE))
    evidence = cv2.resize(lungs.astype(np.uint8), (96, 96)) > 0
    refined = refine_outlines(frame, moved, evidence, RefineParameters())
    found = fill(refined.outlines, (FINE, FINE))

    def overlap(mask):
        return 2 * (mask & lungs).sum() / (mask.sum() + lungs.sum())

    assert overlap(start) < 0.93
    assert overlap(found) > 0.96
    assert len(refined.rounds) == 4
    assert refined.edges.mean() > 0.5


@pytest.mark.parametrize("turn", TURNS, ids=lambda turn: turn.reason)
def test_turns_are_undone(turn):
    image = np.arange(15, dtype=np.uint8).reshape(3, 5)
    upright = turn.upright(image)
    stored = turn.undo(upright > 5)
    assert (stored == ((255 - image if turn.inverted else image) > 5)).all()


def test_every_step_can_be_drawn(phantom):
    figures = list(step_figures(trace(phantom.image)))
    assert len(figures) == 9
    assert all(figure.picture.dtype == np.uint8 for figure in figures)
    assert [figure.heading[0] for figure in figures] == list("123455567")


def test_loops_are_cut_off_and_all_else_stays():
    plain = place_template(BOXES)[0]
    assert untangled(plain) is plain
    looped = plain.copy()
    # The costophrenic angle folds over itself.
    lowest = int(plain[:, 1].argmax())
    looped[lowest - 1], looped[lowest + 1] = plain[lowest + 1], plain[lowest - 1]
    cut = untangled(looped)
    assert not np.array_equal(cut, looped)
    assert untangled(cut) is cut, "nothing crosses any more"
    kept = np.setdiff1d(np.arange(len(plain)), np.arange(lowest - 2, lowest + 3))
    np.testing.assert_array_equal(cut[kept], plain[kept])
    assert abs(signed_area(cut)) == pytest.approx(abs(signed_area(plain)), rel=0.02)


def test_walls_are_drawn_farther_out_than_heart_and_diaphragm():
    left, right = place_template(BOXES)
    for outline, margin, wall in zip((left, right), margins()[..., 0], (-1, 1), strict=True):
        outward = wall * (outline[:, 0] - outline[:, 0].mean())
        height = np.ptp(outline[:, 1])
        middle = np.abs(outline[:, 1] - outline[:, 1].min() - 0.5 * height) < 0.15 * height
        assert margin[middle & (outward > 0)].min() > 1
        assert margin[middle & (outward < 0)].max() < 0
