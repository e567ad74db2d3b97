from importlib.metadata import EntryPoint

import cv2
import numpy as np
import pytest

from medsgssl.data.synthetic.render import render_phantom
from medsgssl.errors import ImageError, MaskError
from medsgssl.masks.agreement import dice
from medsgssl.masks.benchmark import score_recipe
from medsgssl.masks.recipes import registry as recipes
from medsgssl.masks.recipes.registry import Recipe, segment_lungs
from medsgssl.masks.types import LungMask


def lungs_of(phantom):
    return phantom.left_lung | phantom.right_lung


def test_the_lungs_of_a_phantom_are_found(phantom):
    found = segment_lungs(phantom.image)
    assert found.mask.shape == phantom.image.shape
    assert found.status == "ok", found
    assert dice(found.mask, lungs_of(phantom)) > 0.8


@pytest.mark.parametrize("recipe", ["anatomic", "classic"])
@pytest.mark.parametrize("level", [0, 90, 255])
def test_uniform_images_fail(recipe, level):
    found = segment_lungs(np.full((200, 150), level, np.uint8), recipe)
    assert found.status == "failed"
    assert found.reason
    assert not found.mask.any()


@pytest.mark.parametrize("shape", [(256, 256), (700, 500)])
def test_noise_ramps_and_boards_fail(shape):
    random = np.random.default_rng(0)
    noise = random.integers(0, 255, shape, dtype=np.uint8)
    ramp = np.tile(np.linspace(0, 255, shape[1]).astype(np.uint8), (shape[0], 1))
    rows, columns = np.indices(shape) // 20
    board = np.where((rows + columns) % 2, 220, 30).astype(np.uint8)
    for image in (noise, ramp, board):
        assert segment_lungs(image).status == "failed"


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("recipe", ["anatomic", "classic"])
@pytest.mark.parametrize("shape", [(16, 16), (17, 60), (300, 17), (16, 2000)])
def test_tiny_and_narrow_images_do_no_harm(phantom, recipe, shape):
    found = segment_lungs(cv2.resize(phantom.image, shape[::-1]), recipe)
    assert found.mask.shape == shape
    assert found.mask.mean() < 0.7


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_turned_images_are_told_and_their_masks_fit(phantom, quarters):
    upright = segment_lungs(phantom.image)
    turned = segment_lungs(np.rot90(phantom.image, quarters))
    assert turned.status == "doubtful"
    assert "upside down" in turned.reason or "turned by 90" in turned.reason
    assert dice(turned.mask, np.rot90(upright.mask, quarters)) > 0.95


def test_inverted_images_are_told_and_their_masks_fit(phantom):
    upright, inverted = segment_lungs(phantom.image), segment_lungs(255 - phantom.image)
    assert "swapped" in inverted.reason
    assert dice(inverted.mask, upright.mask) > 0.95


def test_every_form_of_an_image_gives_about_the_same_mask(phantom):
    gray = phantom.image
    plain = segment_lungs(gray).mask
    alpha = np.dstack([gray, gray, gray, np.full_like(gray, 255)])
    for form in (alpha, alpha[..., :3], gray.astype(np.uint16) * 257, gray / np.float32(255)):
        assert dice(segment_lungs(form).mask, plain) > 0.95


@pytest.mark.parametrize("size", [64, 150, 1000, 4096])
def test_every_size_gives_about_the_same_mask(phantom, size):
    way = cv2.INTER_AREA if size < 256 else cv2.INTER_CUBIC
    found = segment_lungs(cv2.resize(phantom.image, (size, size), interpolation=way))
    assert found.mask.shape == (size, size)
    wanted = cv2.resize(lungs_of(phantom).astype(np.uint8), (size, size)) > 0
    assert dice(found.mask, wanted) > 0.8


def test_bars_around_the_image_change_little(phantom):
    barred = cv2.copyMakeBorder(phantom.image, 40, 30, 90, 120, cv2.BORDER_CONSTANT, value=0)
    found = segment_lungs(barred).mask
    assert dice(found[40:-30, 90:-120], segment_lungs(phantom.image).mask) > 0.93
    assert not found[:, :85].any()


def test_an_opacified_lower_lung_is_filled_in():
    clear = render_phantom(0, 1, 256, view_position="PA")
    rows = np.linspace(0, 1, 256)[:, None]
    side = np.arange(256)[None] < 128
    veil = np.clip((rows - 0.5) * 6, 0, 1) * side * clear.right_lung * 60
    veiled = np.clip(clear.image + cv2.GaussianBlur(veil, (0, 0), 4), 0, 255).astype(np.uint8)
    found = segment_lungs(veiled)
    assert dice(found.mask, lungs_of(clear)) > 0.75


def test_the_same_image_gives_the_same_mask(phantom):
    first, second = segment_lungs(phantom.image), segment_lungs(phantom.image.copy())
    assert (first.mask == second.mask).all()
    assert first.quality == second.quality


def test_arrays_that_are_no_image_are_refused():
    with pytest.raises(ImageError):
        segment_lungs(np.zeros((4, 200, 200, 7)))


def test_a_recipe_can_come_from_another_package(monkeypatch, phantom):
    mine = Recipe("mine", 3, {"a": 1}, lambda gray: LungMask(gray > 100, 0.9, "ok"))
    monkeypatch.setattr(EntryPoint, "load", lambda self: mine)
    entry = EntryPoint("mine", "package:recipe", recipes.ENTRY_POINTS)
    monkeypatch.setattr(recipes, "entry_points", lambda group: [entry])
    assert recipes.recipe_names() == ["anatomic", "classic", "distilled", "auto", "mine"]
    assert segment_lungs(phantom.image, "mine").quality == 0.9
    monkeypatch.setattr(EntryPoint, "load", lambda self: "no recipe")
    with pytest.raises(MaskError, match="not a Recipe"):
        recipes.find_recipe("mine")


@pytest.mark.real
@pytest.mark.parametrize("name", ["montgomery", "shenzhen"])
def test_real_lungs_are_found(real_data, tmp_path, name):
    masks = tmp_path / "masks"
    masks.mkdir()
    folder = real_data / "lung_masks" / name
    for path in sorted((folder / "masks").iterdir())[::6]:
        (masks / path.name).symlink_to(path)
    figures = score_recipe(folder / "images", masks, "anatomic").summary()
    assert figures["dice_mean"] > 0.915
    assert figures["share_below_0.5"] == 0.0


@pytest.mark.real
@pytest.mark.parametrize("name", ["00002117_003.png", "00002354_000.png"])
def test_real_views_from_the_side_fail(real_data, name):
    picture = cv2.imread(str(real_data / "nih128" / "images" / name), cv2.IMREAD_GRAYSCALE)
    assert segment_lungs(picture).status == "failed"
