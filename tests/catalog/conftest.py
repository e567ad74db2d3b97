"""A small data set in the NIH layout."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest

from medsgssl.config import DataSettings

HEADER = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]"
)
LABELS = ("No Finding", "Effusion", "Mass|Nodule", "No Finding", "Infiltration")

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
