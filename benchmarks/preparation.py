"""Time the preparation of images against their bare decode, in one process and in turn.

Preparation is what a run does once: read each file, check it, hash it, decode it, fit it into the
cache and draw its mask. Decode is OpenCV's alone, from bytes in memory. CPU time of this process;
the median of the rounds' ratios counts, because other processes and the clock disturb single times.

Run: python benchmarks/preparation.py FOLDER [--images 24] [--rounds 3] [--size 224]
"""

from __future__ import annotations

import argparse
import functools
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from medsgssl.config.schema import DataSettings
from medsgssl.data.catalog import Catalog, build_catalog
from medsgssl.data.image_cache import decode, filling
from medsgssl.data.prepare import mask_items
from medsgssl.masks.build import build_store


def decode_alone(contents: list[bytes]) -> None:
    """Decode images that lie in memory, and do nothing with them."""
    for content in contents:
        assert cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED) is not None


def prepare(settings: DataSettings, folder: Path, size: int, recipe: str | None) -> Catalog:
    """Make catalog, decoded images and, with a recipe, masks in an empty folder."""
    catalog = build_catalog(settings, hash_content=True, workers=1)
    if recipe is not None:
        with filling(catalog, folder, size) as keep:
            build_store(folder / "masks", mask_items(catalog), recipe, keep=keep)
    decode(catalog, folder, size)
    return catalog


def cpu_seconds(work: Callable[[], object]) -> float:
    """Return the CPU time of one call."""
    started = time.process_time()
    work()
    return time.process_time() - started


def main() -> None:
    """Print milliseconds per image and the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="a folder of chest X-rays")
    parser.add_argument("--images", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--size", type=int, default=224, help="side of the cached images")
    given = parser.parse_args()
    cv2.setNumThreads(1)
    files = sorted(given.folder.rglob("*.png"))[: given.images]
    contents = [path.read_bytes() for path in files]
    recipes = (None, "anatomic", "distilled")
    ratios: dict[str | None, list[float]] = {recipe: [] for recipe in recipes}
    plain: list[float] = []
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch) / "data"
        root.mkdir()
        for path in files:
            (root / path.name).symlink_to(path.resolve())
        settings = DataSettings(root=root, labels="none", split="train")
        for number in range(given.rounds + 1):
            for recipe in recipes:
                alone = cpu_seconds(lambda: decode_alone(contents))
                place = Path(scratch) / f"{number}-{recipe}"
                step = functools.partial(prepare, settings, place, given.size, recipe)
                whole = cpu_seconds(step)
                if number:  # the first round also loads libraries
                    plain.append(alone)
                    ratios[recipe].append(whole / alone)
    milliseconds = 1000 * statistics.median(plain) / len(files)
    print(f"{len(files)} images, {given.rounds} rounds, one process")
    print(f"decode alone         {milliseconds:6.1f} ms an image")
    for recipe, values in ratios.items():
        name = "without masks" if recipe is None else f"with {recipe}"
        print(f"{name:20s} {statistics.median(values):6.2f} x decode")


if __name__ == "__main__":
    main()
