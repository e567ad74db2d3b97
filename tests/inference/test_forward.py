"""Equal images get equal scores, whatever the other images of their batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from lightning_fabric import Fabric

from medsgssl.config.schema import Config
from medsgssl.data.dataset import ImageMaskDataset
from medsgssl.data.image_cache import DecodedCache
from medsgssl.inference.forward import SCORE_DIGITS, predict_splits, round_scores, run_inference
from medsgssl.methods.registry import method_of
from medsgssl.models.classifier import Classifier
from medsgssl.models.weights import save_weights
from medsgssl.utils.rng import seed_step

Build = Callable[..., Config]


def with_blanks(source: ImageMaskDataset) -> ImageMaskDataset:
    """Every second image is black."""
    images = np.array(source.cache.images)
    images[::2] = 0
    cache = DecodedCache(images, source.cache.usable, {}, source.cache.folder)
    return replace(source, cache=cache)


def test_blank_images_rank_equal_and_are_found(
    tmp_path: Path, view_source: ImageMaskDataset, tiny_config: Build
) -> None:
    source = with_blanks(view_source)
    # The last batch of the ten validation and test images would hold one image.
    config = tiny_config("simclr", data__batch_size=9, no_pretrain=True)
    seed_step(0, "weights", 0, 0)
    classifier = Classifier(method_of(config).encoder(), len(source.label_set))
    path, names = tmp_path / "classifier.safetensors", list(source.label_set.names)
    header = {"method": "simclr", "encoder": "test_efficientnet", "diseases": names}
    save_weights(path, classifier, header)
    rows, scores = predict_splits(config, source, path)
    blank = rows % 2 == 0
    assert len(np.unique(scores[blank], axis=0)) == 1
    assert len(np.unique(scores[~blank], axis=0)) == (~blank).sum()
    assert list(source.blank_rows("val", "test")) == sorted(rows[blank])


@pytest.mark.parametrize("count", [1, 4, 5, 9])
def test_every_row_is_read_once_in_full_batches(
    view_source: ImageMaskDataset, tiny_config: Build, count: int
) -> None:
    config = tiny_config("simclr", data__batch_size=4)
    fabric, sizes = Fabric(accelerator="cpu", devices=1), []
    task = Classifier(method_of(config).encoder(), classes=1)

    def read(batch):  # type: ignore[no-untyped-def]
        sizes.append(batch.size)
        return batch.rows[:, None].float()

    rows = np.arange(count)[::-1]
    values = run_inference(fabric, task, read, config, view_source, rows)
    np.testing.assert_array_equal(values[:, 0], rows)
    assert set(sizes) == {4}


def test_scores_keep_the_digits_that_they_hold() -> None:
    rng = np.random.default_rng(0)
    scores = (10.0 ** rng.uniform(-8, 0, 1000)).astype(np.float32)
    rounded = round_scores(scores)
    np.testing.assert_allclose(rounded, scores, rtol=0.51 * 10.0 ** (1 - SCORE_DIGITS))
    wanted = np.array([float(f"{value:.{SCORE_DIGITS}g}") for value in scores.astype(float)])
    np.testing.assert_allclose(rounded, wanted, rtol=1e-6)
    shifted = round_scores(np.float32([0.05 + 1e-8, 0.0, 1.0]))
    np.testing.assert_array_equal(shifted, np.float32([0.05, 0.0, 1.0]))
