"""A small data set in the NIH layout, small catalogs of images, and a mask store in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from medsgssl.config.schema import DataSettings
from medsgssl.data.catalog import Catalog
from medsgssl.masks.types import LungMask

HEADER = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]"
)
LABELS = ("No Finding", "Effusion", "Mass|Nodule", "No Finding", "Infiltration")

MakeCatalog = Callable[..., Catalog]
MakeSet = Callable[..., DataSettings]


def write_table(root: Path, names: Sequence[str]) -> None:
    lines = [
        f"{name},{LABELS[int(name[:8]) % len(LABELS)]},{int(name[9:12])},{int(name[:8])},50,F,PA,"
        "1024,1024,0.14,0.14"
        for name in names
    ]
    (root / "Data_Entry_2017.csv").write_text("\n".join([HEADER, *lines]) + "\n")


@pytest.fixture
def make_set(tmp_path: Path) -> MakeSet:
    """Write patients 1 to N with two images each; the last third is the test list."""

    def make(patients: int = 30, *, lists: bool = True, images: bool = True) -> DataSettings:
        root = tmp_path / "data"
        (root / "images").mkdir(parents=True)
        names = [f"{p:08d}_{i:03d}.png" for p in range(1, patients + 1) for i in range(2)]
        write_table(root, names)
        if lists:
            cut = len(names) * 2 // 3 // 2 * 2
            (root / "train_val_list.txt").write_text("\n".join(names[:cut]))
            (root / "test_list.txt").write_text("\n".join(names[cut:]))
        rng = np.random.default_rng(0)
        for name in names if images else []:
            pixels = rng.integers(0, 256, (16, 16)).astype(np.uint8)
            assert cv2.imwrite(str(root / "images" / name), pixels)
        return DataSettings(root=root, cache_dir=tmp_path / "cache")

    return make


@pytest.fixture
def make_catalog(tmp_path: Path) -> MakeCatalog:
    """Return a maker of a catalog of images of several shapes, each with its own gray level."""

    def make(count: int = 7, splits: tuple[str, ...] = ("train", "val", "test")) -> Catalog:
        root = tmp_path / "data"
        root.mkdir()
        names = [f"{number}.png" for number in range(count)]
        for number, name in enumerate(names):
            shape = ((40, 30), (24, 48), (32, 32))[number % 3]
            assert cv2.imwrite(str(root / name), np.full(shape, 20 + 7 * number % 200, np.uint8))
        table = pd.DataFrame(
            {
                "image_id": names,
                "path": names,
                "split": [splits[number % len(splits)] for number in range(count)],
                "status": "ok",
                "problem": "",
                "content_hash": "",
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
                yield LungMask(self.disc(image_id), 0.5 + int(image_id[:-4]) % 50 / 100, "ok")

    def disc(self, image_id: str) -> np.ndarray:
        number = int(image_id.removesuffix(".png"))
        y, x = np.mgrid[:64, :64]
        return (x - 20 - number) ** 2 + (y - 32) ** 2 < (8 + number) ** 2


@pytest.fixture
def masks() -> Callable[..., Masks]:
    return Masks
