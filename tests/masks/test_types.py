import numpy as np
import pytest

from medsgssl.masks.geometry import grid_shape, resize_mask
from medsgssl.masks.regions import label_regions, lung_box
from medsgssl.masks.types import LungMask


@pytest.mark.parametrize("use", [resize_mask, label_regions, lung_box])
@pytest.mark.parametrize("top", [1, 255])
def test_masks_of_numbers_are_refused_everywhere(use, top):
    numbers = np.full((8, 8), top, np.uint8)
    arguments = (numbers, (4, 4)) if use is resize_mask else (numbers,)
    with pytest.raises(TypeError, match="bool"):
        use(*arguments)
    with pytest.raises(TypeError, match="bool"):
        LungMask(numbers, 1.0, "ok")


@pytest.mark.parametrize(
    ("quality", "status"), [(1.2, "ok"), (-0.1, "ok"), (float("nan"), "ok"), (0.5, "good")]
)
def test_impossible_quality_and_status_are_refused(quality, status):
    with pytest.raises(ValueError, match=r"quality|status"):
        LungMask(np.ones((4, 4), bool), quality, status)


def test_a_failed_mask_is_empty_and_of_quality_0():
    failed = LungMask.failed((3, 5), "why")
    assert failed.mask.shape == (3, 5)
    assert not failed.mask.any()
    assert (failed.quality, failed.status, failed.reason) == (0.0, "failed", "why")
    with pytest.raises(ValueError, match="failed mask"):
        LungMask(np.ones((4, 4), bool), 0.0, "failed")


@pytest.mark.parametrize("shape", [(31, 47), (64, 64), (400, 300), (1024, 17)])
def test_resizing_keeps_shape_area_and_center(shape):
    rows, columns = np.mgrid[:128, :96]
    disc = np.hypot((rows - 50) / 40, (columns - 50) / 30) < 1
    resized = resize_mask(disc, shape)
    assert resized.shape == shape
    assert resized.dtype == bool
    assert resized.mean() == pytest.approx(disc.mean(), rel=0.06)
    center = (np.argwhere(resized) + 0.5).mean(axis=0) / shape
    assert center == pytest.approx([50.5 / 128, 50.5 / 96], abs=0.01)


def test_enlarging_makes_no_stairs():
    disc = np.hypot(*(np.mgrid[:32, :32] - 15.5)) < 10
    true = np.hypot(*((np.mgrid[:512, :512] + 0.5) / 16 - 16)) < 10
    smooth = (resize_mask(disc, (512, 512)) ^ true).sum()
    nearest = (np.kron(disc, np.ones((16, 16), bool)) ^ true).sum()
    assert smooth < 0.8 * nearest


def test_the_grid_keeps_the_aspect_ratio():
    assert grid_shape((1000, 500), 256) == (256, 128)
    assert grid_shape((3, 4000), 256) == (1, 256)
