import json

import cv2
import numpy as np
import pytest

from medsgssl.data.synthetic.render import render_phantom
from medsgssl.errors import MaskError
from medsgssl.masks.benchmark import find_pairs, score_recipe
from medsgssl.masks.build import build_store
from medsgssl.masks.sources import FolderMaker
from medsgssl.report.mask_pages import write_scores


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("scored")
    for name in ("images", "references"):
        (root / name).mkdir()
    for number in range(4):
        one = render_phantom(0, number, 160)
        cv2.imwrite(str(root / "images" / f"p{number}.png"), one.image)
        lungs = (one.left_lung | one.right_lung).astype(np.uint8)
        # Masks of 0/1 and of 0/255 mean the same.
        cv2.imwrite(str(root / "references" / f"p{number}.png"), lungs * (1 if number else 255))
    return root / "images", root / "references"


def test_scores_are_written_as_figures_pages_and_plot(folders, tmp_path):
    scores = score_recipe(*folders, "anatomic")
    figures = scores.summary()
    assert figures["images"] == 4
    assert 0.7 < figures["dice_mean"] <= 1.0
    assert figures["dice_mean"] == pytest.approx(scores.table["dice"].mean())
    write_scores(scores, *folders, tmp_path)
    assert json.loads((tmp_path / "scores.json").read_text()) == figures
    assert (tmp_path / "worst.html").read_text().count("<figure>") == 4
    assert (tmp_path / "quality.png").read_bytes().startswith(b"\x89PNG")
    assert len((tmp_path / "scores.csv").read_text().splitlines()) == 5


def test_the_worst_are_shown_as_they_were_scored(folders, tmp_path):
    scores = score_recipe(*folders, "anatomic", heart=True)
    assert scores.summary()["heart"]
    assert scores.table["dice"].mean() < score_recipe(*folders, "anatomic").table["dice"].mean()
    write_scores(scores, *folders, tmp_path)
    page = (tmp_path / "worst.html").read_text()
    for row in scores.table.itertuples():
        assert f"{row.image_id}: Dice {row.dice:.3f}" in page


def test_references_may_be_label_maps_in_folders_named_as_masks_are(folders, tmp_path):
    images, references = folders
    for number in range(2):
        (tmp_path / "images" / "site").mkdir(parents=True, exist_ok=True)
        (tmp_path / "masks" / "site").mkdir(parents=True, exist_ok=True)
        image = cv2.imread(str(images / f"p{number}.png"), cv2.IMREAD_GRAYSCALE)
        cv2.imwrite(str(tmp_path / "images" / "site" / f"p{number}.tif"), image)
        lungs = cv2.imread(str(references / f"p{number}.png"), cv2.IMREAD_GRAYSCALE) > 0
        sides = lungs.astype(np.uint8)
        sides[:, 80:] *= 2
        sides[:10, :10] = 3
        cv2.imwrite(str(tmp_path / "masks" / "site" / f"p{number}_mask.png"), sides)
    found = score_recipe(
        tmp_path / "images", tmp_path / "masks", "anatomic", labels={1: "right", 2: "left"}
    )
    same = score_recipe(*folders, "anatomic").table.head(2)
    assert found.table["image_id"].tolist() == ["site/p0", "site/p1"]
    assert found.table["dice"].tolist() == pytest.approx(same["dice"].tolist())
    with pytest.raises(MaskError, match="holds the values"):
        score_recipe(tmp_path / "images", tmp_path / "masks", "anatomic")


def test_references_of_another_shape_are_refused(folders, tmp_path):
    cv2.imwrite(str(tmp_path / "p0.png"), np.full((100, 300), 255, np.uint8))
    with pytest.raises(MaskError, match="aspect ratio"):
        score_recipe(folders[0], tmp_path, "anatomic")


def test_references_without_an_image_are_refused(folders, tmp_path):
    images, _ = folders
    with pytest.raises(MaskError, match="no masks"):
        find_pairs(images, tmp_path)
    cv2.imwrite(str(tmp_path / "other.png"), np.zeros((20, 20), np.uint8))
    with pytest.raises(MaskError, match=r"other\.png"):
        find_pairs(images, tmp_path)
    with pytest.raises(MaskError, match="not a folder"):
        find_pairs(images, tmp_path / "nowhere")


def test_own_masks_go_through_the_same_store(folders, tmp_path):
    images, references = folders
    items = [(path.name, path) for path in sorted(images.iterdir())]
    kept = tmp_path / "own"
    kept.mkdir()
    for path in sorted(references.iterdir())[:3]:
        (kept / path.name).write_bytes(path.read_bytes())
    store = build_store(tmp_path / "store", items, FolderMaker(kept))
    assert store.header.recipe == "folder"
    own = cv2.imread(str(references / "p1.png"), cv2.IMREAD_GRAYSCALE) > 0
    assert (store.get("p1.png").mask == own).all()
    assert 0.5 < store.get("p1.png").quality <= 1.0
    assert store.get("p3.png").status == "failed"
    assert "p3.png" in store.get("p3.png").reason


def test_own_masks_of_another_shape_are_refused(folders, tmp_path):
    images, _ = folders
    cv2.imwrite(str(tmp_path / "p0.png"), np.full((100, 300), 255, np.uint8))
    with pytest.raises(MaskError, match="aspect ratio"):
        FolderMaker(tmp_path).make("p0.png", images / "p0.png", 256)
