"""Several data sets drawn from as one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from medsgssl.config.schema import AugmentSettings
from medsgssl.data.dataset import ConcatDataset, ImageMaskDataset
from medsgssl.data.loader import BatchDataset
from medsgssl.data.sampler import EpochSampler
from medsgssl.transforms.crops import RandomCrop
from medsgssl.transforms.view_spec import ViewSpec


def joined(source: ImageMaskDataset) -> ConcatDataset:
    images = 255 - source.cache.images
    other = replace(source, cache=replace(source.cache, images=images))
    return ConcatDataset.of([source, other])


def test_rows_lead_to_the_images_masks_and_qualities_of_their_set(
    view_source: ImageMaskDataset,
) -> None:
    both, count = joined(view_source), len(view_source.image_seeds)
    for row in (0, count - 1, count, 2 * count - 1):
        part, within = divmod(row, count)
        image, mask = both.pair(row)
        found, expected = both.parts[part].pair(within)
        assert np.array_equal(image, found)
        assert np.array_equal(mask, expected)
        assert both.quality[row] == view_source.quality[within]
        assert both.domains[row] == part
    assert both.rows("val").tolist() == [10, 11, 12, 13, 14, 30, 31, 32, 33, 34]


def test_the_first_set_keeps_its_keys_and_the_others_have_their_own(
    view_source: ImageMaskDataset,
) -> None:
    image_seeds = joined(view_source).image_seeds.reshape(2, -1)
    assert np.array_equal(image_seeds[0], view_source.image_seeds)
    assert not np.isin(image_seeds[1], image_seeds[0]).any()


def steps_with_a_small_set(source: ImageMaskDataset) -> BatchDataset:
    """Ten training images of one set and three of another, in batches of four."""
    small = replace(source, splits=np.repeat(["train", "", ""], [3, 12, 5]))
    both = ConcatDataset.of([source, small])
    rows = both.rows("train")
    order = EpochSampler(rows, 4, seed=0, domains=both.domains[rows])
    plan = (ViewSpec(RandomCrop(AugmentSettings()), AugmentSettings()),)
    return BatchDataset(both, plan, order, 32, seed=0)


def test_batches_hold_as_many_images_of_every_set(view_source: ImageMaskDataset) -> None:
    steps = steps_with_a_small_set(view_source)
    for step in range(len(steps)):
        assert sorted(steps[step].domains.tolist()) == [0, 0, 1, 1]


def test_an_image_that_comes_again_within_an_epoch_gives_other_views(
    view_source: ImageMaskDataset,
) -> None:
    steps = steps_with_a_small_set(view_source)
    shown: dict[int, list[bytes]] = {}
    for step in range(len(steps)):
        batch = steps[step]
        assert len(set(batch.rows.tolist())) == 4, "no image twice in a batch"
        for row, image in zip(batch.rows.tolist(), batch.images, strict=True):
            shown.setdefault(row, []).append(image.numpy().tobytes())
    again = [views for views in shown.values() if len(views) > 1]
    assert again
    assert all(len(set(views)) == len(views) for views in again)
