"""One phantom: pure, anatomical, and changed by its findings where its boxes say."""

from __future__ import annotations

import numpy as np
import pytest

from medsgssl.data.labels import DISEASES
from medsgssl.data.synthetic.anatomy import draw_anatomy, draw_subject
from medsgssl.data.synthetic.canvas import Canvas
from medsgssl.data.synthetic.findings import reshape
from medsgssl.data.synthetic.render import render_phantom
from medsgssl.data.synthetic.tissue import draw_regions
from medsgssl.utils.rng import generator

SIZE = 128


def _change(index: int, disease: str) -> np.ndarray:
    healthy = render_phantom(3, index, SIZE)
    sick = render_phantom(3, index, SIZE, [disease])
    return sick.image.astype(float) - healthy.image.astype(float)


def _inside(change: np.ndarray, box: tuple[float, float, float, float]) -> np.ndarray:
    x, y, w, h = box
    return change[int(y) : int(np.ceil(y + h)), int(x) : int(np.ceil(x + w))]


def test_same_arguments_give_the_same_phantom():
    one = render_phantom(5, 9, 96, ["Mass", "Effusion"])
    two = render_phantom(5, 9, 96, ["Effusion", "Mass"])
    assert one.image.tobytes() == two.image.tobytes()
    assert one.lungs.tobytes() == two.lungs.tobytes()
    assert one.boxes == two.boxes
    assert one.findings == ("Effusion", "Mass")


def test_index_and_seed_change_the_image():
    base = render_phantom(5, 9, 64).image
    assert not np.array_equal(base, render_phantom(5, 10, 64).image)
    assert not np.array_equal(base, render_phantom(6, 9, 64).image)


def test_types_and_shapes():
    phantom = render_phantom(0, 0, 100)
    assert phantom.image.dtype == np.uint8
    assert phantom.image.shape == phantom.lungs.shape == (100, 100)
    assert phantom.lungs.dtype == np.bool_
    assert phantom.boxes == {}
    assert phantom.view_position in {"PA", "AP"}
    assert phantom.sex in {"M", "F"}
    assert 10 <= phantom.age <= 100
    assert np.ptp(phantom.image) > 150


def test_a_patient_keeps_sex_and_age():
    visits = [render_phantom(2, index, 48, patient=7) for index in range(4)]
    assert len({(visit.sex, visit.age) for visit in visits}) == 1
    assert len({visit.image.tobytes() for visit in visits}) == 4


@pytest.mark.parametrize("index", range(8))
def test_the_patients_right_lung_is_on_the_images_left(index):
    phantom = render_phantom(1, index, SIZE)
    right, left = (
        np.flatnonzero(lung.any(axis=0)) for lung in (phantom.right_lung, phantom.left_lung)
    )
    assert right.mean() < left.mean()
    assert right.max() <= left.min() + 3  # a tilted body may overlap by a few columns
    assert not (phantom.right_lung & phantom.left_lung).any()


@pytest.mark.parametrize("index", range(8))
def test_lungs_lie_inside_the_body_and_are_dark(index):
    phantom = render_phantom(1, index, SIZE)
    lungs = phantom.lungs
    assert 0.15 < lungs.mean() < 0.45
    assert not lungs[:2].any()
    assert not lungs[:, :2].any()
    assert not lungs[:, -2:].any()
    below = phantom.image[int(0.9 * SIZE) :, SIZE // 4 : 3 * SIZE // 4]
    assert phantom.image[lungs].mean() < below.mean() - 40


@pytest.mark.parametrize("view_position", ["PA", "AP"])
def test_lung_pixels_are_body_pixels(view_position):
    for patient in range(6):
        anatomy = draw_anatomy(
            draw_subject(0, patient), view_position, generator(0, "test", patient)
        )
        canvas = Canvas(SIZE, np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]))
        regions = draw_regions(canvas, anatomy)
        assert (regions.body[regions.lungs > 127] == 255).all()


def test_masks_agree_between_sizes():
    small = render_phantom(4, 2, 64).lungs
    large = render_phantom(4, 2, 256).lungs
    shrunk = large.reshape(64, 4, 64, 4).mean(axis=(1, 3)) >= 0.5
    assert (small & shrunk).sum() / (small | shrunk).sum() > 0.96


@pytest.mark.parametrize("disease", DISEASES)
def test_a_finding_changes_the_image_in_its_boxes(disease):
    for index in range(5):
        phantom = render_phantom(3, index, SIZE, [disease])
        assert phantom.boxes[disease]
        change = _change(index, disease)
        for box in phantom.boxes[disease]:
            x, y, w, h = box
            assert x >= 0
            assert y >= 0
            assert x + w <= SIZE
            assert y + h <= SIZE
            assert min(w, h) >= 2
            inside = np.abs(_inside(change, box))
            assert np.percentile(inside, 95) > 8
            assert inside.mean() > np.abs(change).mean()


def test_the_lung_field_includes_opaque_lung():
    healthy = render_phantom(3, 1, SIZE)
    sick = render_phantom(3, 1, SIZE, ["Effusion", "Consolidation", "Pneumothorax"])
    assert np.array_equal(healthy.lungs, sick.lungs)


def test_cardiothoracic_ratio():
    for index in range(20):
        subject = draw_subject(8, index)
        for view_position in ("PA", "AP"):
            anatomy = draw_anatomy(subject, view_position, generator(8, "phantom position", index))
            large = reshape(anatomy, ["Cardiomegaly"], lambda name: generator(8, name))
            for body, enlarged in ((anatomy, False), (large, True)):
                ratio = sum(body.heart_offsets) / (2 * body.width)
                assert (ratio > 0.5) is enlarged


def test_emphysema_inflates_and_darkens_the_lungs():
    for index in range(4):
        healthy = render_phantom(3, index, SIZE)
        sick = render_phantom(3, index, SIZE, ["Emphysema"])
        assert sick.lungs.sum() > healthy.lungs.sum()
        assert sick.image[sick.lungs].mean() < healthy.image[healthy.lungs].mean()


@pytest.mark.parametrize("disease", ["Effusion", "Mass", "Consolidation", "Pleural_Thickening"])
def test_opacities_are_brighter(disease):
    phantom = render_phantom(3, 2, SIZE, [disease])
    assert _inside(_change(2, disease), phantom.boxes[disease][0]).mean() > 5


def test_pneumothorax_is_darker_beyond_the_pleural_line():
    assert np.percentile(_change(2, "Pneumothorax"), 0.5) < -6


def test_nodules_are_smaller_than_masses():
    for index in range(6):
        small = render_phantom(3, index, 256, ["Nodule"]).boxes["Nodule"]
        large = render_phantom(3, index, 256, ["Mass"]).boxes["Mass"]
        film = 350 / 256  # mm per pixel
        assert max(max(w, h) for _, _, w, h in small) * film < 32
        assert max(max(w, h) for _, _, w, h in large) * film > 30


def test_all_findings_at_once():
    phantom = render_phantom(0, 1, 64, DISEASES)
    assert phantom.findings == DISEASES
    assert set(phantom.boxes) == set(DISEASES)


@pytest.mark.parametrize(
    ("size", "findings", "view_position"),
    [(64, ["Gout"], None), (16, [], None), (64, [], "LATERAL")],
)
def test_wrong_arguments(size, findings, view_position):
    with pytest.raises(ValueError, match=r"unknown|must be"):
        render_phantom(0, 0, size, findings, view_position=view_position)
