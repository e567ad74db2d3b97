"""The decoded cache: built once, resumed after a kill, nothing lost and nothing invented."""

from __future__ import annotations

import pickle
import shutil
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest

from medsgssl.data import image_cache as decoded
from medsgssl.data.catalog import Catalog
from medsgssl.data.image_cache import Letterbox, cache_folder, decode, filling, open_cache
from medsgssl.errors import DataError, ImageError, ResourceError
from medsgssl.images.reading import read_hashed, read_image, read_with_notes
from medsgssl.masks.build import build_store
from medsgssl.utils.io import file_hash, fingerprint


class Killed(BaseException):
    """Stands in for a killed process."""


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each image was decoded; chunks of two images."""
    found: Counter[str] = Counter()

    def counted(path: Path, max_pixels: int) -> tuple[np.ndarray, tuple[str, ...]]:
        found[path.name] += 1
        return read_with_notes(path, max_pixels)

    monkeypatch.setattr(decoded, "read_with_notes", counted)
    monkeypatch.setattr(decoded, "_CHUNK", 2)
    return found


def test_every_image_lies_in_its_row_as_the_square_fit_puts_it(make_catalog, tmp_path) -> None:
    catalog = make_catalog()
    cache = decode(catalog, tmp_path / "cache", 16)
    assert cache.images.shape == (7, 16, 16)
    assert cache.size == 16
    assert cache.usable.all()
    assert cache.problems == {}
    for row, name in enumerate(catalog.table["image_id"]):
        image = read_image(catalog.root / name)
        wanted = Letterbox.of(image.shape, 16).image(image)
        np.testing.assert_array_equal(cache.images[row], wanted)


def test_several_processes_give_the_same_pixels(make_catalog, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(decoded, "_CHUNK", 2)
    catalog = make_catalog()
    one = decode(catalog, tmp_path / "one", 16)
    two = decode(catalog, tmp_path / "two", 16, workers=2)
    np.testing.assert_array_equal(one.images, two.images)
    np.testing.assert_array_equal(one.usable, two.usable)


def test_a_killed_build_goes_on_and_decodes_no_complete_row_twice(
    make_catalog, tmp_path, reads, monkeypatch
) -> None:
    catalog = make_catalog()
    whole = decode(catalog, tmp_path / "whole", 16)
    reads.clear()
    counted = decoded.read_with_notes

    def dying(path: Path, max_pixels: int) -> tuple[np.ndarray, tuple[str, ...]]:
        if path.name == "4.png":
            raise Killed
        return counted(path, max_pixels)

    monkeypatch.setattr(decoded, "read_with_notes", dying)
    place = tmp_path / "cut"
    with pytest.raises(Killed):
        decode(catalog, place, 16)
    assert dict(reads) == dict.fromkeys(["0.png", "1.png", "2.png", "3.png"], 1)
    with pytest.raises(DataError):
        open_cache(cache_folder(place, catalog, 16))
    monkeypatch.setattr(decoded, "read_with_notes", counted)
    shown = []
    cache = decode(catalog, place, 16, progress=lambda done, total: shown.append((done, total)))
    assert set(reads.values()) == {1}
    assert len(reads) == 7
    assert shown == [(6, 7), (7, 7)]
    np.testing.assert_array_equal(cache.images, whole.images)


def test_a_complete_cache_is_not_decoded_again(make_catalog, tmp_path, reads) -> None:
    catalog = make_catalog()
    decode(catalog, tmp_path / "cache", 16)
    decode(catalog, tmp_path / "cache", 16)
    assert set(reads.values()) == {1}


def test_another_size_or_other_images_are_another_cache(make_catalog, tmp_path) -> None:
    catalog = make_catalog()
    first = cache_folder(tmp_path, catalog, 16)
    assert cache_folder(tmp_path, catalog, 24) != first
    catalog.table.loc[0, "path"] = "other.png"
    assert cache_folder(tmp_path, catalog, 16) != first
    catalog.table.loc[0, "path"] = "0.png"
    assert cache_folder(tmp_path, catalog, 16) == first


def test_a_corrupt_image_is_set_aside_and_named_and_the_others_stay(make_catalog, tmp_path) -> None:
    catalog = make_catalog()
    content = (catalog.root / "3.png").read_bytes()
    (catalog.root / "3.png").write_bytes(content[:40])
    (catalog.root / "5.png").write_text("no image")
    cache = decode(catalog, tmp_path / "cache", 16)
    assert cache.usable.tolist() == [n not in (3, 5) for n in range(7)]
    assert list(cache.problems) == ["3.png", "5.png"]
    assert all(name in text for name, text in cache.problems.items())
    with pytest.raises(ImageError):
        read_image(catalog.root / "3.png")


def test_an_image_on_which_a_decoder_crashes_is_set_aside_and_named(
    make_catalog, tmp_path, monkeypatch, crashing_decoder
) -> None:
    monkeypatch.setattr(decoded, "_CHUNK", 4)
    catalog = make_catalog()
    with (catalog.root / "5.png").open("ab") as stream:
        stream.write(b"CRASH")  # after the end mark
    cache = decode(catalog, tmp_path / "cache", 16, workers=2)
    assert cache.usable.tolist() == [n != 5 for n in range(7)]
    assert cache.problems == {"5.png": "5.png ends the process that reads it (SIGSEGV)"}
    # As a build leaves it that was killed before it wrote the reasons.
    (cache.folder / "cache.json").unlink()
    assert decode(catalog, tmp_path / "cache", 16).problems == cache.problems


def test_images_that_the_catalog_has_set_aside_are_never_read(
    make_catalog, tmp_path, reads
) -> None:
    catalog = make_catalog()
    catalog.table.loc[2, ["status", "problem"]] = ["unreadable", "cut short"]
    catalog.table.loc[6, "status"] = "missing"
    cache = decode(catalog, tmp_path / "cache", 16)
    assert cache.problems == {"2.png": "cut short", "6.png": "missing"}
    assert not cache.usable[[2, 6]].any()
    assert "2.png" not in reads
    assert "6.png" not in reads


def test_a_set_without_a_single_readable_image_is_an_error(make_catalog, tmp_path) -> None:
    catalog = make_catalog(2)
    for name in ("0.png", "1.png"):
        (catalog.root / name).write_text("no image")
    with pytest.raises(DataError, match=r"can be decoded; the first: 0\.png"):
        decode(catalog, tmp_path / "cache", 16)


def test_a_disk_that_is_too_small_is_an_error_before_the_work(
    make_catalog, tmp_path, reads, monkeypatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=512)
    monkeypatch.setattr("medsgssl.utils.io.shutil.disk_usage", lambda folder: usage)
    with pytest.raises(ResourceError, match=r"GiB are free\n.*data\.cache_dir"):
        decode(make_catalog(), tmp_path / "cache", 16)
    assert not reads


def test_a_cache_travels_as_a_path_and_not_as_pixels(make_catalog, tmp_path) -> None:
    cache = decode(make_catalog(), tmp_path / "cache", 64)
    parcel = pickle.dumps(cache)
    assert len(parcel) < 2000 < cache.images.nbytes
    again = pickle.loads(parcel)
    assert isinstance(again.images, np.memmap)
    np.testing.assert_array_equal(again.images, cache.images)
    np.testing.assert_array_equal(again.usable, cache.usable)


def test_an_opened_cache_cannot_be_written_to(make_catalog, tmp_path) -> None:
    cache = decode(make_catalog(), tmp_path / "cache", 16)
    with pytest.raises(ValueError, match="read-only"):
        cache.images[0] = 0


@pytest.mark.parametrize("name", ["images.npy", "state.npy", "checksums.npy", "cache.json"])
@pytest.mark.parametrize("way", ["bit flip", "cut short", "emptied", "removed"])
def test_a_damaged_cache_heals_itself(make_catalog, tmp_path, name: str, way: str) -> None:
    catalog = make_catalog()
    (catalog.root / "3.png").write_text("no image")
    whole = decode(catalog, tmp_path / "whole", 16)
    place = tmp_path / "damaged"
    decode(catalog, place, 16)
    file = cache_folder(place, catalog, 16) / name
    content = bytearray(file.read_bytes())
    content[-4] ^= 4
    file.write_bytes({"cut short": content[:-9], "emptied": b""}.get(way, content))
    if way == "removed":
        file.unlink()
    healed = decode(catalog, place, 16)
    np.testing.assert_array_equal(healed.usable, whole.usable)
    rows = whole.usable
    np.testing.assert_array_equal(healed.images[rows], whole.images[rows])
    assert healed.problems == whole.problems


def test_only_the_row_with_a_flipped_bit_is_decoded_again(make_catalog, tmp_path, reads) -> None:
    catalog = make_catalog()
    decode(catalog, tmp_path, 16)
    reads.clear()
    images = np.load(cache_folder(tmp_path, catalog, 16) / "images.npy", mmap_mode="r+")
    images[5, 0, 0] ^= 1
    images.flush()
    decode(catalog, tmp_path, 16)
    assert dict(reads) == {"5.png": 1}


def test_the_pixels_are_reserved_on_disk_before_they_are_written(make_catalog, tmp_path) -> None:
    catalog = make_catalog()
    decode(catalog, tmp_path, 64)
    pixels = cache_folder(tmp_path, catalog, 64) / "images.npy"
    assert pixels.stat().st_blocks * 512 >= pixels.stat().st_size


def hashed(catalog: Catalog) -> Catalog:
    """Return the catalog as it is after its files were read, with the hashes of now."""
    contents = [file_hash(catalog.root / path) for path in catalog.table["path"]]
    table = catalog.table.assign(content_hash=contents)
    return Catalog(catalog.root, table, {"files_fingerprint": fingerprint(contents)})


def test_a_changed_file_is_the_only_one_that_is_decoded_again(
    make_catalog, tmp_path, reads
) -> None:
    catalog = hashed(make_catalog())
    before = decode(catalog, tmp_path, 16)
    assert cv2.imwrite(str(catalog.root / "4.png"), np.full((32, 32), 99, np.uint8))
    reads.clear()
    changed = hashed(catalog)
    after = decode(changed, tmp_path, 16)
    assert dict(reads) == {"4.png": 1}
    assert after.folder != before.folder
    fresh = decode(changed, tmp_path / "fresh", 16)
    np.testing.assert_array_equal(after.images, fresh.images)


def test_a_damaged_row_of_an_older_cache_is_not_taken_over(make_catalog, tmp_path, reads) -> None:
    catalog = hashed(make_catalog())
    older = decode(catalog, tmp_path, 16)
    images = np.load(older.folder / "images.npy", mmap_mode="r+")
    images[5, 0, 0] ^= 1
    images.flush()
    assert cv2.imwrite(str(catalog.root / "4.png"), np.full((32, 32), 99, np.uint8))
    reads.clear()
    decode(hashed(catalog), tmp_path, 16)
    assert dict(reads) == {"4.png": 1, "5.png": 1}


@pytest.mark.parametrize("workers", [0, 1])
def test_images_that_are_decoded_for_their_masks_are_not_decoded_again(
    make_catalog, tmp_path, reads, workers: int
) -> None:
    catalog = hashed(make_catalog())
    items = [(name, catalog.root / name) for name in catalog.table["image_id"]]
    with filling(catalog, tmp_path / "cache", 16) as keep:
        assert keep is not None
        build_store(tmp_path / "masks", items[:5], "classic", workers, keep=keep)
    cache = decode(catalog, tmp_path / "cache", 16)
    assert dict(reads) == {"5.png": 1, "6.png": 1}
    whole = decode(catalog, tmp_path / "whole", 16)
    np.testing.assert_array_equal(cache.images, whole.images)
    with filling(catalog, tmp_path / "cache", 16) as keep:
        assert keep is None


def test_an_image_that_is_not_the_one_of_the_catalog_is_not_kept(make_catalog, tmp_path) -> None:
    catalog = hashed(make_catalog())
    with filling(catalog, tmp_path, 16) as keep:
        assert keep is not None
        image, content = read_hashed(catalog.root / "3.png")
        keep("3.png", image, "of another file")
        keep("not in the catalog", image, content)
        folder = cache_folder(tmp_path, catalog, 16)
        assert not np.load(folder / "state.npy").any()
        keep("3.png", image, content)
        assert np.flatnonzero(np.load(folder / "state.npy")).tolist() == [3]
