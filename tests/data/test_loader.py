"""Views are pure functions of seed, epoch, image and view; batches of seed and step."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from medsgssl.config.schema import AugmentSettings
from medsgssl.data.dataset import ImageMaskDataset
from medsgssl.data.loader import BatchDataset, load_batches
from medsgssl.data.sampler import EpochSampler
from medsgssl.errors import ConfigError
from medsgssl.transforms.batch import ViewBatch
from medsgssl.transforms.crops import RandomCrop, WholeImage
from medsgssl.transforms.view_spec import ViewSpec, make_view

AUGMENT = AugmentSettings()
SPEC = ViewSpec(RandomCrop(AUGMENT), AUGMENT)


def picture(seed: int = 0, size: int = 64) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (size, size), dtype=np.uint8)


def steps_of(source: ImageMaskDataset, **changes: int) -> BatchDataset:
    order = EpochSampler(np.arange(12), 4, seed=changes.get("seed", 0))
    return BatchDataset(source, (SPEC, SPEC), order, 32, seed=changes.get("seed", 0))


def assert_same(a: ViewBatch, b: ViewBatch) -> None:
    for name, value in vars(a).items():
        assert torch.equal(value, getattr(b, name)), name


def test_a_view_is_a_pure_function_of_its_key() -> None:
    image, mask = picture(), (picture(1) > 127).astype(np.uint8)
    one = make_view(image, mask, 1.0, SPEC, 32, (0, 3, 77, 1))
    two = make_view(image, mask, 1.0, SPEC, 32, (0, 3, 77, 1))
    np.testing.assert_array_equal(one.image, two.image)
    np.testing.assert_array_equal(one.mask, two.mask)


@pytest.mark.parametrize("key", [(1, 3, 77, 1), (0, 4, 77, 1), (0, 3, 78, 1), (0, 3, 77, 0)])
def test_seed_epoch_image_and_view_each_change_the_view(key: tuple[int, int, int, int]) -> None:
    image, mask = picture(), np.ones((64, 64), np.uint8)
    one = make_view(image, mask, 1.0, SPEC, 32, (0, 3, 77, 1))
    other = make_view(image, mask, 1.0, SPEC, 32, key)
    assert not np.array_equal(one.affine, other.affine)


def test_photometric_noise_leaves_mask_and_geometry_alone() -> None:
    image, mask = picture(), (picture(1) > 127).astype(np.uint8)
    key = (0, 0, 5, 0)
    plain = make_view(image, mask, 1.0, ViewSpec(RandomCrop(AUGMENT)), 32, key)
    noisy = make_view(image, mask, 1.0, SPEC, 32, key)
    np.testing.assert_array_equal(plain.affine, noisy.affine)
    np.testing.assert_array_equal(plain.mask, noisy.mask)
    assert not np.array_equal(plain.image, noisy.image)


def test_photometry_of_no_strength_changes_nothing() -> None:
    still = AugmentSettings(brightness=0, contrast=0, gamma=0, blur=0, noise=0)
    image, mask = picture(), np.ones((64, 64), np.uint8)
    view = make_view(image, mask, 1.0, ViewSpec(WholeImage(), still), 64, (0, 0, 0, 0))
    np.testing.assert_array_equal(view.image, image)


def test_crops_keep_to_the_area_and_aspect_of_the_settings() -> None:
    rng = np.random.default_rng(0)
    mask = np.ones((64, 64), np.uint8)
    for _ in range(500):
        crop = RandomCrop(AUGMENT).draw(mask, 1.0, rng)
        assert 0.4 * 0.85 <= crop.width * crop.height / 64**2 <= 1.0
        assert 0.84 <= crop.width / crop.height <= 1.2
        assert crop.x - crop.width / 2 >= -0.5 - 1e-9
        assert crop.x + crop.width / 2 <= 63.5 + 1e-9


def test_every_epoch_is_another_order_of_the_same_images() -> None:
    order = EpochSampler(np.arange(12) * 10, 4, seed=0)
    epochs = [np.concatenate([order.batch(e, s) for s in range(3)]) for e in range(2)]
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(0, 120, 10))
    assert list(epochs[0]) != list(epochs[1])


def test_ranks_share_one_global_order() -> None:
    rows = np.arange(16)
    alone = EpochSampler(rows, 8, seed=3)
    pair = [EpochSampler(rows, 4, seed=3, rank=r, world=2) for r in range(2)]
    for step in range(2):
        both = np.concatenate([order.batch(0, step) for order in pair])
        np.testing.assert_array_equal(both, alone.batch(0, step))


def test_reading_out_leaves_no_image_out_and_keeps_the_order() -> None:
    rows = np.arange(11)
    for world in (1, 2, 3):
        orders = [
            EpochSampler(rows, 2, 0, shuffle=False, rank=r, world=world) for r in range(world)
        ]
        steps = orders[0].steps_per_epoch
        seen = [row for s in range(steps) for order in orders for row in order.batch(0, s)]
        assert seen == list(rows)


def test_batches_are_balanced_between_data_sets() -> None:
    rows, domains = np.arange(30), np.repeat([0, 1], [24, 6])
    order = EpochSampler(rows, 4, 0, domains=domains)
    for step in range(order.steps_per_epoch):
        assert (domains[order.batch(0, step)] == 0).sum() == 2


def test_too_few_images_for_a_batch_is_an_error_with_a_remedy() -> None:
    with pytest.raises(ConfigError, match=r"set data\.batch_size to at most 12"):
        EpochSampler(np.arange(12), 64, seed=0)


def test_worker_count_and_start_do_not_change_the_batches(view_source: ImageMaskDataset) -> None:
    steps = steps_of(view_source)
    alone = list(load_batches(steps, 0, 6, workers=0, pin_memory=False))
    two = list(load_batches(steps, 0, 6, workers=2, pin_memory=False))
    later = list(load_batches(steps, 4, 6, workers=0, pin_memory=False))
    assert len(alone) == len(two) == 6
    for a, b in zip(alone, two, strict=True):
        assert_same(a, b)
    for a, b in zip(alone[4:], later, strict=True):
        assert_same(a, b)


def test_a_batch_carries_what_its_contract_says(view_source: ImageMaskDataset) -> None:
    batch = next(load_batches(steps_of(view_source), 0, 1, workers=0, pin_memory=False))
    batch = batch.to_device(torch.device("cpu"))
    assert batch.images.shape == (4, 2, 1, 32, 32)
    assert 0 <= batch.images.min() <= batch.images.max() <= 1
    assert batch.masks.shape == (4, 2, 32, 32)
    assert batch.masks.dtype == torch.bool
    assert batch.affines.shape == (4, 2, 2, 3)
    assert batch.labels.shape == (4, len(view_source.label_set))
    assert torch.equal(batch.quality, torch.from_numpy(view_source.masks.quality[batch.rows]))


def test_a_batch_without_masks_can_be_locked_in_memory(
    view_source: ImageMaskDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lock(tensor: torch.Tensor) -> torch.Tensor:
        # As torch does where there is a GPU: the elements of an expanded tensor share their place.
        assert tensor.numel() < 2 or all(tensor.stride()), "shares one place in memory"
        return tensor.clone()

    monkeypatch.setattr(torch.Tensor, "pin_memory", lock)
    order = EpochSampler(np.arange(12), 4, seed=0)
    steps = BatchDataset(view_source, (SPEC, SPEC), order, 32, seed=0, masks=False)
    batch = steps[0]
    assert isinstance(batch, ViewBatch)
    sent = batch.pin_memory().to_device(torch.device("cpu"))
    assert_same(sent, batch.to_device(torch.device("cpu")))
    assert sent.masks.shape == (4, 2, 32, 32)
    assert sent.masks.all()
