import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from medsgssl.data import prepare
from medsgssl.data.prepare import store_folder
from medsgssl.errors import MaskError
from medsgssl.masks.build import build_store, merge_shards
from medsgssl.masks.sources import RecipeMaker
from medsgssl.masks.store import MaskStore, pack_row
from medsgssl.masks.types import LungMask
from medsgssl.report.mask_pages import write_quality_page


@dataclass(frozen=True)
class Marker:
    """Makes a mask from the id alone and leaves a line in a log for every mask made."""

    log: Path
    version: int = 1
    name: str = "marker"
    parameter_hash: str = "-"

    def check(self, items):
        pass

    def make(self, image_id, path, grid):
        with self.log.open("a") as stream:
            stream.write(f"{image_id}\n")
        return pack_row(image_id, (40, 30), LungMask(marked(image_id), 0.75, "ok"), grid)


def marked(image_id):
    mask = np.zeros((40, 30), bool)
    mask[: 1 + int(image_id) % 40] = True
    return mask


def listed(count):
    return [(f"{number:05d}", Path(f"{number:05d}.png")) for number in range(count)]


def test_masks_come_back_by_id_with_everything_about_them(tmp_path, items):
    store = build_store(tmp_path / "store", items, "anatomic", workers=2, part_images=4)
    assert store.ids == [image_id for image_id, _ in items]
    assert len(list((tmp_path / "store").glob("part-*.parquet"))) == 3
    assert store.complete
    assert list(store.summary.columns) == ["image_id", "quality", "status", "reason", "area"]
    assert sum(store.counts.values()) == 10
    for found in store.read(reversed(store.ids)):
        assert found.mask.dtype == bool
    assert store.size("0005.png") == (65, 85)
    with pytest.raises(MaskError, match="no image x"):
        store.get("x")


def test_an_unreadable_image_fails_with_a_reason_and_never_as_a_full_mask(tmp_path, items):
    store = build_store(tmp_path / "store", items, "classic")
    found = store.get("0003.png")
    assert found.status == "failed"
    assert "unreadable" in found.reason
    assert not found.mask.any()
    assert store.counts["failed"] >= 1
    assert store.size("0003.png") == (0, 0)


def test_masks_survive_packing_bit_by_bit(tmp_path):
    store = build_store(tmp_path / "store", listed(7), Marker(tmp_path / "log"), part_images=3)
    for image_id in store.ids:
        found = store.get(image_id)
        assert (found.mask == marked(image_id)).all()
        assert found.quality == 0.75


def test_what_is_done_is_not_done_again(tmp_path):
    maker = Marker(tmp_path / "log")
    folder = tmp_path / "store"
    build_store(folder, listed(10), maker, part_images=4)
    sorted(folder.glob("part-*"))[1].unlink()
    (folder / ".part-leftover.tmp").write_bytes(b"half")
    seen = []
    store = build_store(
        folder, listed(10), maker, part_images=4, progress=lambda *done: seen.append(done)
    )
    assert sorted(store.ids) == [image_id for image_id, _ in listed(10)]
    assert len((tmp_path / "log").read_text().split()) == 14
    assert seen[-1] == (10, 10)
    assert not list(folder.glob(".part-*"))


def test_a_killed_build_goes_on(tmp_path):
    code = (
        "import sys, time; sys.path.insert(0, sys.argv[2])\n"
        "from pathlib import Path\n"
        "from tests.masks.test_store import Marker, listed\n"
        "from medsgssl.masks.build import build_store\n"
        "folder = Path(sys.argv[1])\n"
        "build_store(folder / 'store', listed(400), Marker(folder / 'log'), part_images=16,\n"
        "            progress=lambda done, total: time.sleep(0.05))\n"
    )
    root = str(Path(__file__).parents[2])
    child = subprocess.Popen([sys.executable, "-c", code, str(tmp_path), root])
    deadline = time.monotonic() + 60
    while len(list(tmp_path.glob("store/part-*"))) < 3 and time.monotonic() < deadline:
        time.sleep(0.02)
    child.send_signal(signal.SIGKILL)
    child.wait()
    kept = {i for part in tmp_path.glob("store/part-*") for i in pd.read_parquet(part)["image_id"]}
    assert 48 <= len(kept) < 400
    (tmp_path / "log").unlink()
    store = build_store(tmp_path / "store", listed(400), Marker(tmp_path / "log"), part_images=16)
    redone = set((tmp_path / "log").read_text().split())
    assert sorted(store.ids) == [image_id for image_id, _ in listed(400)]
    assert not redone & kept


def test_masks_of_another_recipe_are_never_mixed(tmp_path):
    folder, log = tmp_path / "store", tmp_path / "log"
    build_store(folder, listed(3), Marker(log))
    for other, count in ((Marker(log, version=2), 3), (Marker(log, parameter_hash="x"), 3),
                         (Marker(log), 4)):  # fmt: skip
        with pytest.raises(MaskError, match="other masks") as caught:
            build_store(folder, listed(count), other)
        assert "another folder" in caught.value.fix


def test_masks_of_images_that_were_read_in_another_way_are_drawn_again(tmp_path, monkeypatch):
    maker = Marker(tmp_path / "log")
    place = store_folder(tmp_path, maker, listed(3))
    monkeypatch.setattr(prepare, "INTENSITY", "another")
    assert store_folder(tmp_path, maker, listed(3)) != place


def test_masks_of_another_opencv_are_never_mixed(tmp_path, monkeypatch):
    folder, maker = tmp_path / "store", Marker(tmp_path / "log")
    here = build_store(folder, listed(3), maker)
    place = store_folder(tmp_path, maker, listed(3))
    monkeypatch.setattr(cv2, "__version__", "0.0.1")
    assert store_folder(tmp_path, maker, listed(3)) != place
    with pytest.raises(MaskError, match=r"opencv .*0\.0\.1"):
        build_store(folder, listed(3), maker)
    # What was trained with equal masks stays valid.
    assert build_store(tmp_path / "other", listed(3), maker).fingerprint == here.fingerprint


def test_shards_join_to_the_same_store(tmp_path):
    maker = Marker(tmp_path / "log")
    whole = build_store(tmp_path / "whole", listed(11), maker)
    parts = [tmp_path / f"{i}" for i in (1, 2, 3)]
    for i, folder in enumerate(parts, start=1):
        build_store(folder, listed(11), maker, shard=(i, 3))
    joined = merge_shards(parts[::-1], tmp_path / "joined")
    assert joined.fingerprint == whole.fingerprint
    assert joined.complete
    with pytest.raises(MaskError, match="missing: 2/3"):
        merge_shards([parts[0], parts[2]], tmp_path / "other")
    with pytest.raises(MaskError, match="given twice"):
        merge_shards([*parts, parts[0]], tmp_path / "other")
    with pytest.raises(MaskError, match="already holds"):
        merge_shards(parts, tmp_path / "joined")
    next(parts[1].glob("part-*")).unlink()
    with pytest.raises(MaskError, match="holds 0 of 4"):
        merge_shards(parts, tmp_path / "other")


@pytest.mark.parametrize("shard", [(0, 2), (3, 2)])
def test_impossible_shards_are_refused(tmp_path, shard):
    with pytest.raises(MaskError, match="does not exist"):
        build_store(tmp_path / "store", listed(3), Marker(tmp_path / "log"), shard=shard)


def test_fingerprints_tell_other_masks_apart(tmp_path, items):
    anatomic = build_store(tmp_path / "a", items, "anatomic")
    classic = build_store(tmp_path / "c", items, "classic")
    assert anatomic.fingerprint != classic.fingerprint
    assert anatomic.fingerprint == MaskStore.open(tmp_path / "a").fingerprint


def test_a_damaged_part_and_a_missing_store_say_what_to_do(tmp_path):
    folder = tmp_path / "store"
    with pytest.raises(MaskError, match="not a mask store"):
        MaskStore.open(folder)
    build_store(folder, listed(3), Marker(tmp_path / "log"))
    next(folder.glob("part-*")).write_bytes(b"damaged")
    with pytest.raises(MaskError, match="only the images of the damaged part"):
        MaskStore.open(folder)


def test_ids_must_be_unique(tmp_path):
    with pytest.raises(MaskError, match="twice"):
        build_store(tmp_path / "store", [*listed(2), *listed(1)], Marker(tmp_path / "log"))


def test_unknown_recipes_are_named(tmp_path):
    with pytest.raises(MaskError, match=r"no mask recipe 'none'") as caught:
        build_store(tmp_path / "store", listed(2), RecipeMaker("none"))
    assert "anatomic, classic" in caught.value.fix


def test_the_quality_page_shows_every_status_and_many_patients_and_needs_no_other_file(tmp_path):
    items = []
    for patient, images in enumerate([20, 1, 1, 1]):
        for number in range(images):
            path = tmp_path / f"p{patient}_{number}.png"
            cv2.imwrite(str(path), np.zeros((40, 40), np.uint8))
            items.append((path.name, path))
    store = build_store(tmp_path / "store", items, "classic")
    page = write_quality_page(store, dict(items), tmp_path / "page.html", count=4).read_text()
    assert 'src="http' not in page
    for title in ("Quality of all masks", "Random masks", "Doubtful masks", "Failed masks"):
        assert title in page
    assert store.counts == {"failed": 23}
    assert {f"p{patient}_0.png:" in page for patient in (1, 2, 3)} == {True}
    assert page.count("<figure>") == 1 + 4
