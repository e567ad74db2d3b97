"""A user's own masks: every coding is understood or refused, never guessed."""

import cv2
import numpy as np
import pytest

from medsgssl.errors import MaskError
from medsgssl.masks.agreement import dice
from medsgssl.masks.build import build_store
from medsgssl.masks.geometry import resize_mask
from medsgssl.masks.mask_files import find_mask, mask_index, read_mask
from medsgssl.masks.sources import FolderMaker

LABELS = {1: "right", 2: "left"}


@pytest.fixture
def lungs(phantom):
    return phantom.right_lung | phantom.left_lung


def label_map(phantom):
    """1: patient's right lung, 2: left, 3: heart between them."""
    labels = phantom.right_lung * 1 + (phantom.left_lung & ~phantom.right_lung) * 2
    heart = np.zeros_like(phantom.right_lung)
    heart[120:180, 110:160] = True
    return (labels + (heart & (labels == 0)) * 3).astype(np.uint8)


def write(path, pixels):
    path.parent.mkdir(exist_ok=True, parents=True)
    assert cv2.imwrite(str(path), pixels)
    return path


def codings(lungs):
    one = lungs.astype(np.uint8)
    black = np.zeros((*lungs.shape, 3), np.uint8)
    red = np.dstack([black[..., 0], black[..., 0], 200 * one])
    return {
        "0/1": one,
        "0/255": 255 * one,
        "0/65535": lungs.astype(np.uint16) * 65535,
        "16 bit 0/1": lungs.astype(np.uint16),
        "alpha only": np.dstack([black, 255 * one]),
        "opaque": np.dstack([np.dstack([255 * one] * 3), np.full_like(one, 255)]),
        "red on black": red,
    }


@pytest.mark.parametrize("coding", codings(np.zeros((1, 1), bool)))
def test_two_values_in_any_coding_are_the_same_mask(tmp_path, lungs, coding):
    path = write(tmp_path / "mask.png", codings(lungs)[coding])
    assert (read_mask(path) == lungs).all()


def test_soft_edges_and_jpeg_are_understood(tmp_path, lungs):
    soft = cv2.GaussianBlur(255 * lungs.astype(np.uint8), (0, 0), 1.0)
    for name in ("mask.png", "mask.jpg"):
        assert dice(read_mask(write(tmp_path / name, soft)), lungs) > 0.99


@pytest.mark.parametrize("scale", [1, 80])
def test_label_maps_are_refused_with_their_values_until_they_are_named(tmp_path, phantom, scale):
    path = write(tmp_path / "mask.png", scale * label_map(phantom))
    with pytest.raises(MaskError) as caught:
        read_mask(path)
    for value in range(4):
        assert f"{value * scale} (" in caught.value.problem
    assert "masks.labels" in caught.value.fix
    named = {value * scale: name for value, name in LABELS.items()}
    assert (read_mask(path, named) == (phantom.right_lung | phantom.left_lung)).all()


def folder_of(tmp_path, phantom, pixels, name="p{}.png"):
    """Three images, and a folder of the same mask for each."""
    items = []
    for number in range(3):
        path = write(tmp_path / "images" / f"p{number}.png", phantom.image)
        write(tmp_path / "masks" / name.format(number), pixels)
        items.append((path.name, path))
    return items, tmp_path / "masks"


def build(tmp_path, items, folder, labels=None):
    return build_store(tmp_path / "store", items, FolderMaker(folder, labels=labels))


@pytest.mark.parametrize("name", ["p{}.png", "p{}_mask.png", "p{}-mask.jpg", "deep/p{}.tif"])
def test_masks_are_found_by_the_names_that_people_use(tmp_path, phantom, lungs, name):
    items, folder = folder_of(tmp_path, phantom, 255 * lungs.astype(np.uint8), name)
    store = build(tmp_path, items, folder)
    assert store.counts == {"ok": 3}
    assert dice(resize_mask(store.get("p1.png").mask, lungs.shape), lungs) > 0.98


def test_a_folder_without_a_match_names_what_is_wanted_and_what_is_there(tmp_path, phantom, lungs):
    items, folder = folder_of(tmp_path, phantom, 255 * lungs.astype(np.uint8), "scan{}.png")
    with pytest.raises(MaskError) as caught:
        build(tmp_path, items, folder)
    assert "p0.png" in caught.value.problem
    assert "scan0.png" in caught.value.problem
    assert not (tmp_path / "store").exists()


def test_swapped_polarity_is_refused_and_its_fix_works(tmp_path, phantom, lungs):
    items, folder = folder_of(tmp_path, phantom, 255 * (~lungs).astype(np.uint8))
    with pytest.raises(MaskError, match="background") as caught:
        build(tmp_path, items, folder)
    assert "masks.labels={0: both}" in caught.value.fix
    store = build(tmp_path, items, folder, {0: "both"})
    assert store.counts == {"ok": 3}


def test_sides_that_are_named_the_wrong_way_round_are_doubtful(tmp_path, phantom):
    items, folder = folder_of(tmp_path, phantom, label_map(phantom))
    assert build(tmp_path, items, folder, LABELS).counts == {"ok": 3}
    swapped = build_store(
        tmp_path / "other", items, FolderMaker(folder, labels={1: "left", 2: "right"})
    )
    assert swapped.counts == {"doubtful": 3}
    assert "mirrored" in swapped.get("p0.png").reason


def test_labels_that_no_file_holds_are_refused(tmp_path, phantom):
    items, folder = folder_of(tmp_path, phantom, label_map(phantom))
    with pytest.raises(MaskError, match="none of them named as lung"):
        build(tmp_path, items, folder, {7: "right"})


def test_one_damaged_or_missing_mask_costs_one_image(tmp_path, phantom, lungs):
    items, folder = folder_of(tmp_path, phantom, 255 * lungs.astype(np.uint8))
    (folder / "p1.png").unlink()
    store = build(tmp_path, items, folder)
    assert store.counts == {"ok": 2, "failed": 1}
    assert "no mask" in store.get("p1.png").reason


def test_two_files_of_one_name_match_by_their_folders_alone(tmp_path, lungs):
    pixels = lungs.astype(np.uint8)
    for sub in ("a", "b"):
        write(tmp_path / sub / "x.png", pixels)
    mask_index.cache_clear()
    assert find_mask(tmp_path, "x.png") is None
    assert find_mask(tmp_path, "a/x.png") == tmp_path / "a" / "x.png"
