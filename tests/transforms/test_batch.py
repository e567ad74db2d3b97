"""What a batch sends to a device is what it held, whatever lies behind its tensors."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from medsgssl.transforms.batch import ViewBatch, _is_one_value, views_first

CPU = torch.device("cpu")


def batch_of(masks: Tensor) -> ViewBatch:
    count, views, size = masks.shape[:3]
    return ViewBatch(
        images=torch.randint(0, 256, (count, views, 1, size, size), dtype=torch.uint8),
        masks=masks,
        affines=torch.rand(count, views, 2, 3),
        flipped=torch.rand(count, views) < 0.5,
        quality=torch.rand(count),
        rows=torch.arange(count),
        labels=torch.rand(count, 3),
        domains=torch.zeros(count, dtype=torch.int64),
    )


ONE = torch.ones((), dtype=torch.bool)


@pytest.mark.parametrize("count", [1, 4])
@pytest.mark.parametrize(
    "masks",
    [
        ONE.expand(4, 2, 8, 8),
        (~ONE).expand(4, 2, 8, 8),
        (torch.rand(4, 1, 8, 8) < 0.5).expand(-1, 2, -1, -1),
    ],
    ids=["one value", "its opposite", "one mask for both views"],
)
def test_what_arrives_is_what_was_sent(count: int, masks: Tensor) -> None:
    batch = batch_of(masks[:count])
    there = batch.to_device(CPU)
    assert torch.equal(there.masks, batch.masks)
    torch.testing.assert_close(there.images, batch.images.float() / 255)
    assert there.size == count
    for name in ("affines", "flipped", "quality", "rows", "labels", "domains"):
        assert torch.equal(getattr(there, name), getattr(batch, name))


def test_only_tensors_of_one_place_in_memory_cannot_be_locked() -> None:
    assert _is_one_value(ONE.expand(2))
    assert _is_one_value(ONE.expand(4, 2, 8, 8))
    assert not _is_one_value(torch.ones(4, 2))
    assert not _is_one_value(torch.ones(1))
    assert not _is_one_value(torch.ones(4, 1).expand(4, 2))


def test_views_of_one_kind_lie_together() -> None:
    values = torch.arange(12).view(3, 2, 2)  # three images, two views
    assert torch.equal(views_first(values), torch.cat([values[:, 0], values[:, 1]]))


def test_a_view_and_its_inputs_are_those_of_its_number() -> None:
    batch = batch_of(torch.rand(4, 2, 8, 8) < 0.5)
    for number in (0, 1):
        images, masks, quality = batch.inputs(number)
        assert torch.equal(images, batch.images[:, number])
        assert torch.equal(masks, batch.masks[:, number])
        assert torch.equal(quality, batch.quality)
        assert all(map(torch.equal, batch.view(number), (images, masks)))
