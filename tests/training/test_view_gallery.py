"""Pictures of pretraining for TensorBoard."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from medsgssl.config.schema import Config
from medsgssl.data.dataset import ImageMaskDataset
from medsgssl.training.pretraining import pretrain

FACTS = {"key": "k", "encoder": "test_efficientnet"}


@pytest.mark.parametrize(
    ("name", "tags"),
    [
        ("simclr", {"pretrain/views"}),
        ("attention-prior", {"pretrain/views", "pretrain/maps/predicted_lungs"}),
    ],
)
def test_views_and_maps_are_shown_at_every_probe(
    tmp_path: Path,
    view_source: ImageMaskDataset,
    tiny_config: Callable[..., Config],
    name: str,
    tags: set[str],
) -> None:
    config = tiny_config(name, pretrain__epochs=3, pretrain__probe_every=2, pretrain__lr=0.01)
    pretrain(config, view_source, tmp_path, FACTS | {"method": name})
    events = EventAccumulator(str(tmp_path / "logs" / "tensorboard"), size_guidance={"images": 0})
    events.Reload()
    assert set(events.Tags()["images"]) == tags
    shown = events.Images("pretrain/views")
    assert [picture.step for picture in shown] == [1, 2]
    # The same views every time; what a method shows of them moves.
    assert shown[0].encoded_image_string == shown[1].encoded_image_string
    for tag in tags - {"pretrain/views"}:
        first, last = events.Images(tag)
        assert first.encoded_image_string != last.encoded_image_string


def test_no_probe_no_pictures(
    tmp_path: Path, view_source: ImageMaskDataset, tiny_config: Callable[..., Config]
) -> None:
    config = tiny_config("simclr", pretrain__probe_every=0)
    pretrain(config, view_source, tmp_path, FACTS | {"method": "simclr"})
    events = EventAccumulator(str(tmp_path / "logs" / "tensorboard"))
    events.Reload()
    assert events.Tags()["images"] == []
