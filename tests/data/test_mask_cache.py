"""Masks at cache size: packed without loss, one policy for missing ones, and the controls."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medsgssl.data.letterbox import Letterbox
from medsgssl.data.mask_cache import CONTROLS, MaskArray, mask_array, random_blob, whole_masks

SIZE = 32


@settings(max_examples=30, deadline=None)
@given(size=st.integers(1, 40), count=st.integers(1, 4), seed=st.integers(0, 99))
def test_packing_keeps_every_bit_at_any_size(size: int, count: int, seed: int) -> None:
    plain = np.random.default_rng(seed).random((count, size, size)) < 0.5
    packed = np.packbits(plain.reshape(count, -1), axis=1)
    array = MaskArray(packed, np.ones(count, np.float32), np.ones(count, bool), size)
    for row in range(count):
        np.testing.assert_array_equal(array.mask(row), plain[row])
        assert array.mask(row).dtype == np.uint8


def test_each_image_has_its_own_mask_and_quality(make_catalog, masks, tmp_path) -> None:
    catalog, store = make_catalog(), masks()
    array = mask_array(catalog, store, tmp_path, SIZE)
    for row, name in enumerate(catalog.table["image_id"]):
        disc = store.disc(name)
        wanted = Letterbox.of(disc.shape, SIZE).mask(disc)
        np.testing.assert_array_equal(array.mask(row), wanted)
        assert array.quality[row] == pytest.approx(0.5 + row / 100)
    assert array.usable.all()
    assert array.missing == 0


def test_a_missing_mask_is_the_whole_image_of_quality_zero_and_counted(
    make_catalog, masks, tmp_path
) -> None:
    catalog = make_catalog()
    catalog.table.loc[1, "status"] = "unreadable"
    store = masks(failed=frozenset({"4.png"}))
    array = mask_array(catalog, store, tmp_path, SIZE)
    for row in (1, 4):
        assert array.mask(row).all()
        assert array.quality[row] == 0
    assert array.usable.tolist() == [row not in (1, 4) for row in range(7)]
    assert array.missing == 2
    assert array.quality[[0, 2, 3, 5, 6]].min() > 0


def test_masks_are_made_once_and_read_from_disk_after_that(make_catalog, masks, tmp_path) -> None:
    catalog, store = make_catalog(), masks()
    first = mask_array(catalog, store, tmp_path, SIZE)
    mapped = mask_array(catalog, store, tmp_path, SIZE, in_memory=False)
    assert store.asked == 1
    assert isinstance(mapped.packed, np.memmap)
    assert not isinstance(first.packed, np.memmap)
    np.testing.assert_array_equal(first.packed, mapped.packed)
    mask_array(catalog, masks(fingerprint="others"), tmp_path, SIZE)
    mask_array(catalog, store, tmp_path, 48)
    assert store.asked == 2


def test_without_masks_every_image_is_whole_and_none_is_trusted() -> None:
    array = whole_masks(5, SIZE)
    assert all(array.mask(row).all() for row in range(5))
    assert (array.quality == 0).all()
    assert array.missing == 5


def test_the_controls_are_those_that_users_can_name() -> None:
    assert set(CONTROLS) == {"none", "shuffled", "random-blob", "mean-template"}


def test_shuffled_gives_nobody_its_own_mask_and_mixes_no_splits(
    make_catalog, masks, tmp_path
) -> None:
    catalog, store = make_catalog(30), masks()
    rules = mask_array(catalog, store, tmp_path, SIZE)
    shuffled = mask_array(catalog, store, tmp_path, SIZE, "shuffled", seed=1)
    # Qualities name the owners: they are all different.
    owners = [int(np.flatnonzero(rules.quality == q)[0]) for q in shuffled.quality]
    assert sorted(owners) == list(range(30))
    assert all(owner != row for row, owner in enumerate(owners))
    splits = catalog.table["split"].to_numpy()
    assert (splits[owners] == splits).all()
    for row, owner in enumerate(owners):
        np.testing.assert_array_equal(shuffled.mask(row), rules.mask(owner))


def test_shuffled_depends_on_the_seed_alone(make_catalog, masks, tmp_path) -> None:
    catalog, store = make_catalog(30), masks()
    parts = [
        mask_array(catalog, store, tmp_path / str(place), SIZE, "shuffled", seed).packed
        for place, seed in enumerate((1, 1, 2))
    ]
    assert np.array_equal(parts[0], parts[1])
    assert not np.array_equal(parts[0], parts[2])


def test_random_blob_keeps_area_and_quality_and_loses_the_shape(
    make_catalog, masks, tmp_path
) -> None:
    catalog, store = make_catalog(12), masks(failed=frozenset({"3.png"}))
    rules = mask_array(catalog, store, tmp_path, SIZE)
    blobs = mask_array(catalog, store, tmp_path, SIZE, "random-blob")
    np.testing.assert_array_equal(blobs.quality, rules.quality)
    np.testing.assert_array_equal(blobs.usable, rules.usable)
    assert blobs.mask(3).all()
    for row in np.flatnonzero(rules.usable):
        mine, theirs = blobs.mask(int(row)), rules.mask(int(row))
        assert mine.sum() == theirs.sum()
        assert (mine != theirs).any()
    shapes = {blobs.mask(row).tobytes() for row in range(12)}
    assert len(shapes) == 12


@settings(max_examples=30, deadline=None)
@given(area=st.integers(0, SIZE * SIZE), seed=st.integers(0, 99))
def test_a_random_blob_has_exactly_the_area_asked_for(area: int, seed: int) -> None:
    assert random_blob(SIZE, area, np.random.default_rng(seed)).sum() == area


def test_a_random_blob_is_smooth_and_no_salt_and_pepper() -> None:
    blob = random_blob(64, 1000, np.random.default_rng(0))
    edges = (blob[1:] != blob[:-1]).sum() + (blob[:, 1:] != blob[:, :-1]).sum()
    assert edges < 600


def test_mean_template_is_one_mask_for_all_from_the_training_images_only(
    make_catalog, masks, tmp_path
) -> None:
    catalog, store = make_catalog(12), masks(failed=frozenset({"11.png"}))
    train = [8, 9, 10]
    catalog.table["split"] = ["train" if row >= 8 else "test" for row in range(12)]
    rules = mask_array(catalog, store, tmp_path, SIZE)
    mean = mask_array(catalog, store, tmp_path, SIZE, "mean-template")
    assert len({mean.mask(row).tobytes() for row in range(12)}) == 1
    votes = np.mean([rules.mask(row) for row in train], axis=0)
    np.testing.assert_array_equal(mean.mask(0), votes >= 0.5)
    everyone = np.mean([rules.mask(row) for row in range(11)], axis=0) >= 0.5
    assert not np.array_equal(mean.mask(0), everyone)
    assert mean.quality == pytest.approx(rules.quality[train].mean())
    assert mean.missing == 0


def test_mean_template_follows_the_split(make_catalog, masks, tmp_path) -> None:
    catalog, store = make_catalog(12), masks()
    before = mask_array(catalog, store, tmp_path, SIZE, "mean-template").mask(0)
    catalog.table["split"] = ["train" if row > 8 else "test" for row in range(12)]
    after = mask_array(catalog, store, tmp_path, SIZE, "mean-template").mask(0)
    assert not np.array_equal(before, after)


def test_mean_template_without_a_training_mask_is_the_whole_image(
    make_catalog, masks, tmp_path
) -> None:
    catalog = make_catalog(6)
    store = masks(failed=frozenset(catalog.table["image_id"]))
    mean = mask_array(catalog, store, tmp_path, SIZE, "mean-template")
    assert mean.mask(0).all()
    assert (mean.quality == 0).all()


@pytest.mark.parametrize("control", [None, "shuffled", "random-blob", "mean-template"])
def test_masks_are_written_without_holding_them(
    make_catalog, masks, tmp_path, control: str | None
) -> None:
    catalog, store, size = make_catalog(200), masks(), 256
    mask_array(catalog, store, tmp_path, size)  # imports what it needs
    tracemalloc.start()
    array = mask_array(catalog, store, tmp_path / "again", size, control, in_memory=False)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < array.packed.nbytes
