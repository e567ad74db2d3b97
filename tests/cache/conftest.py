"""Small catalogs of images, and a mask store in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from medsgssl.catalog import Catalog
from medsgssl.masks.types import LungMask

MakeCatalog = Callable[..., Catalog]


@pytest.fixture
def make_catalog(tmp_path: Path) -> MakeCatalog:
    """Return a maker of a catalog of images of several shapes, each with its own grey level."""

    def make(count: int = 7, splits: tuple[str, ...] = ("train", "val", "test")) -> Catalog:
        root = tmp_path / "data"
        root.mkdir()
        names = [f"{number}.png" for number in range(count)]
        for number, name in enumerate(names):
            shape = ((40, 30), (24, 48), (32, 32))[number % 3]
            assert cv2.imwrite(str(root / name), np.full(shape, 20 + 7 * number, np.uint8))
        table = pd.DataFrame(
            {
                "image_id": names,
                "path": names,
                "split": [splits[number % len(splits)] for number in range(count)],
                "status": "ok",
                "problem": "",
            }
        )
        return Catalog(root, table, {})

    return make


@dataclass
class Masks:
    """Stands in for a mask store: a disc of its own radius and place for each image."""

    failed: frozenset[str] = frozenset()
    fingerprint: str = "masks"
    asked: int = 0

    def read(self, ids: Iterable[str]) -> Iterator[LungMask]:
        self.asked += 1
        for image_id in ids:
            if image_id in self.failed:
                yield LungMask.failed((64, 64), "no lung found")
            else:
                yield LungMask(self.disc(image_id), 0.5 + int(image_id[:-4]) / 100, "ok")

    def disc(self, image_id: str) -> np.ndarray:
        number = int(image_id.removesuffix(".png"))
        y, x = np.mgrid[:64, :64]
        return (x - 20 - number) ** 2 + (y - 32) ** 2 < (8 + number) ** 2


@pytest.fixture
def masks() -> Callable[..., Masks]:
    return Masks
