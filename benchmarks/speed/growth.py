"""Time and memory of each stage as the data grows, and what follows for larger sets."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from benchmarks.speed.commands import Usage, run, sets
from benchmarks.speed.figures import Figure
from medsgssl.data.synthetic.dataset import generate_phantoms

NOTE = (
    "Phantoms of 128 x 128 pixels, 64-pixel views: the catalog with all files hashed; decoding "
    "and masks (`anatomic`); one epoch of masked-contrastive from scratch. Wall time and "
    "largest memory of the whole command. The lines of 112,120 and 1,000,000 images are a "
    "straight line through the measured ones, as if files of the same size came from as fast a "
    "disk; real files of 1024 pixels cost what the preparation above says."
)
COUNTS = (1000, 2000, 4000, 7000)
PROJECTED = (112_120, 1_000_000)
SETTINGS = ("data.img_size=64", "encoder.pretrained=false", "masks.recipe=anatomic")


def measure(quick: bool) -> list[Figure]:
    """Return seconds and memory of each stage for each number of images."""
    counts = (160, 240) if quick else COUNTS
    used: dict[str, list[Usage]] = {"catalog": [], "prepare": [], "epoch": []}
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        for count in counts:
            data = generate_phantoms(root / f"data{count}", count, 128, workers=2)
            cache = f"data.cache_dir={root / f'cache{count}'}"
            words = "pretrain masked-contrastive --data"
            rest: list[str | Path] = [data, *sets(cache, *SETTINGS)]
            used["catalog"].append(run("catalog --hash", data, *sets(cache), folder=root))
            for stage, epochs in (("prepare", 0), ("epoch", 1)):
                out = root / f"{stage}{count}"
                epoch = sets(f"pretrain.epochs={epochs}")
                used[stage].append(run(words, *rest, *epoch, "--out", out, folder=root))
    figures = []
    for stage, values in used.items():
        for unit, numbers in (
            ("s", [each.seconds for each in values]),
            ("MB", [each.memory for each in values]),
        ):
            slope, offset = np.polyfit(counts, numbers, 1)
            for count, number in zip(counts, numbers, strict=True):
                figures.append(Figure(f"{stage} of {count:,} images", number, unit))
            for count in PROJECTED:
                line = float(slope * count + offset)
                figures.append(Figure(f"{stage} of {count:,} images, projected", line, unit))
    return figures
