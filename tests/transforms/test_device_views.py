"""Views rendered on the device are those of the CPU path: same numbers, same picture, same mask."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest
import torch

from medsgssl.config.schema import AugmentSettings
from medsgssl.data.dataset import ImageMaskDataset
from medsgssl.data.image_cache import DecodedCache
from medsgssl.data.loader import BatchDataset, load_batches
from medsgssl.data.mask_cache import MaskArray
from medsgssl.data.sampler import EpochSampler
from medsgssl.transforms.affine import Crop, warp_mask
from medsgssl.transforms.batch import ViewBatch
from medsgssl.transforms.crops import RandomCrop, WholeImage
from medsgssl.transforms.device_views import DrawnTensors, _filter, _nearest, _source_points
from medsgssl.transforms.photometric import Tone
from medsgssl.transforms.view_spec import DrawnView, ViewPlan, ViewSpec

CPU = torch.device("cpu")
COUNT = 6
CROP = RandomCrop(AugmentSettings(scale=(0.1, 1.0), rotation=30))
GEOMETRY = (ViewSpec(CROP), ViewSpec(WholeImage()))


def source_of(side: int, tmp_path) -> ImageMaskDataset:  # type: ignore[no-untyped-def]
    rng = np.random.default_rng(side)
    masks = rng.random((COUNT, side, side)) < 0.5
    return ImageMaskDataset(
        cache=DecodedCache(
            rng.integers(0, 256, (COUNT, side, side), dtype=np.uint8),
            np.ones(COUNT, bool),
            {},
            tmp_path,
        ),
        masks=MaskArray(
            np.packbits(masks.reshape(COUNT, -1), axis=1),
            rng.random(COUNT, np.float32),
            np.ones(COUNT, bool),
            side,
        ),
        image_seeds=np.arange(COUNT, dtype=np.uint64),
        labels=rng.random((COUNT, 3)).astype(np.float32),
        domains=np.zeros(COUNT, np.int64),
        splits=np.repeat("train", COUNT),
        patients=np.repeat("", COUNT),
    )


def images_of(source: ImageMaskDataset, rows: torch.Tensor) -> torch.Tensor:
    return torch.from_numpy(np.asarray(source.cache.images))[rows].float()


def both(
    source: ImageMaskDataset, plan: ViewPlan, size: int, *, masks: bool = True
) -> tuple[ViewBatch, ViewBatch]:
    order = EpochSampler(np.arange(COUNT), COUNT, 0)
    on_cpu, on_device = (
        BatchDataset(source, plan, order, size, 3, masks=masks, on_device=there)
        for there in (False, True)
    )
    return on_cpu[1].to_device(CPU), on_device[1].to_device(CPU)


@pytest.mark.parametrize(("side", "size"), [(64, 64), (96, 64), (128, 64), (40, 64), (200, 48)])
def test_before_tone_noise_no_pixel_differs_by_more_than_one_level(tmp_path, side, size) -> None:  # type: ignore[no-untyped-def]
    cpu, device = both(source_of(side, tmp_path), GEOMETRY, size)
    difference = 255 * (cpu.images - device.images).abs()
    assert difference.max() < 1.01
    assert difference.mean() < 0.3
    assert (cpu.masks == device.masks).float().mean() >= 0.999
    for field in fields(ViewBatch):
        if field.name not in ("images", "masks"):
            assert torch.equal(getattr(cpu, field.name), getattr(device, field.name)), field.name


def test_pixels_that_fall_on_pixels_keep_their_level(tmp_path) -> None:  # type: ignore[no-untyped-def]
    source = source_of(64, tmp_path)
    cpu, device = both(source, (ViewSpec(WholeImage()),), 64)
    for views in (cpu, device):
        assert torch.equal((255 * views.images[:, 0, 0]).round(), images_of(source, views.rows))


@pytest.mark.parametrize("blur", [0.5, 1.0])
def test_tone_noise_is_the_same_noise(tmp_path, blur: float) -> None:  # type: ignore[no-untyped-def]
    tone = AugmentSettings(blur=blur)
    plan = ViewSpec(CROP, tone), ViewSpec(CROP, tone), ViewSpec(CROP)
    cpu, device = both(source_of(64, tmp_path), plan, 64)
    difference = 255 * (cpu.images - device.images).abs()
    # A level more may be a few levels after a change of contrast, in a few pixels.
    assert difference.max() < 4
    assert difference.mean() < 0.05


def test_noise_stays_in_the_range_of_gray_levels(tmp_path) -> None:  # type: ignore[no-untyped-def]
    noisy = ViewSpec(WholeImage(), AugmentSettings(noise=0.2))
    for views in both(source_of(64, tmp_path), (noisy,) * 2, 64):
        assert views.images.min() == 0
        assert views.images.max() == 1


@pytest.mark.parametrize("taps", [3, 7, 45])
def test_each_image_is_filtered_with_its_own_weights_along_both_axes(taps: int) -> None:
    rng = np.random.default_rng(taps)
    images, (across, down) = rng.random((3, 20, 20)), rng.random((2, 3, taps))
    given = (torch.from_numpy(one).float() for one in (images[:, None], across, down))
    found = _filter(*given)[:, 0].numpy()
    reach = min(taps // 2, 19)  # what lies beyond the mirror image is left out
    inner = slice(taps // 2 - reach, taps // 2 + reach + 1)
    for number, image in enumerate(images):
        wanted = image
        for weights in (across[number, inner], down[number, inner]):
            # A filter does not turn its weights around, a convolution does.
            rows = np.pad(wanted, ((0, 0), (reach, reach)), mode="reflect")
            wanted = np.array([np.convolve(row, weights[::-1], "valid") for row in rows]).T
        np.testing.assert_allclose(found[number], wanted, rtol=1e-4)


def test_without_masks_every_view_has_the_whole_image_and_the_same_picture(tmp_path) -> None:  # type: ignore[no-untyped-def]
    source = source_of(64, tmp_path)
    with_masks, _ = both(source, GEOMETRY, 64)
    cpu, device = both(source, GEOMETRY, 64, masks=False)
    assert torch.equal(cpu.images, with_masks.images)
    assert cpu.masks.shape == device.masks.shape == with_masks.masks.shape
    assert cpu.masks.all()
    assert device.masks.all()
    assert cpu.masks.dtype == device.masks.dtype == torch.bool


@pytest.mark.parametrize("masks", [True, False])
def test_loader_processes_hand_over_drawn_batches(tmp_path, masks: bool) -> None:  # type: ignore[no-untyped-def]
    order = EpochSampler(np.arange(COUNT), 3, 0)
    steps = BatchDataset(
        source_of(64, tmp_path), GEOMETRY, order, 32, 3, masks=masks, on_device=True
    )
    assert steps.batch_bytes == 3 * 2 * 64 * 64
    loaded = list(load_batches(steps, 0, 2, workers=1, pin_memory=False))
    for number, batch in enumerate(loaded):
        assert batch.size == 3
        alone = steps[number].to_device(CPU)
        assert torch.equal(batch.to_device(CPU).images, alone.images)
        assert torch.equal(batch.to_device(CPU).masks, alone.masks)


def test_a_single_image_and_a_view_beyond_its_corner_are_rendered() -> None:
    tone = Tone.draw(AugmentSettings(blur=0.0), 32, np.random.default_rng(0))
    beyond = Crop(50.0, 50.0, 40, 40).affine(32)
    drawn = DrawnTensors.of([[DrawnView(beyond, False, tone)]])
    assert drawn.flipped.shape == (1, 1)
    assert drawn.blur.shape == (1, 1, 0)  # where nothing is blurred nothing is carried
    x, y = _source_points(drawn.affines[0], 32)
    mask = torch.ones(1, 64, 64, dtype=torch.uint8)
    wanted = warp_mask(mask[0].numpy(), beyond, 32) > 0
    assert 0 < wanted.mean() < 1
    assert np.array_equal(_nearest(mask, x, y, 1)[0].numpy(), wanted)
