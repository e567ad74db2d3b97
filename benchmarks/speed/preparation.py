"""The preparation of images beside their bare decode."""

from __future__ import annotations

import functools
import itertools
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch

from benchmarks.speed.figures import Figure, in_turn, median_ratio
from medsgssl.config.schema import DataSettings
from medsgssl.data.catalog import Catalog, build_catalog
from medsgssl.data.image_cache import decode, filling
from medsgssl.data.prepare import mask_items
from medsgssl.data.synthetic.dataset import generate_phantoms
from medsgssl.masks.build import build_store

NOTE = (
    "Preparation is what a run does once: read each file, check it, hash it, decode it, fit it "
    "into the cache and draw its mask; phantoms of 1024 x 1024 pixels into a cache of 224. Decode "
    "is OpenCV's alone, from bytes in memory. CPU time of one process, in turn."
)
IMAGES, ROUNDS, SIDE, CACHED = 100, 3, 1024, 224
#: Recipes, None for no masks, and how many times the decode each may take.
RECIPES: dict[str | None, float] = {None: 1.4, "anatomic": 2.4, "distilled": 3.4}


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


def measure(quick: bool) -> list[Figure]:
    """Return milliseconds an image, without masks and with each recipe."""
    images, rounds, side = (4, 1, 256) if quick else (IMAGES, ROUNDS, SIDE)
    # As in a worker of a run: a second thread that waits would count as CPU time.
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    figures = []
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch) / "data"
        generate_phantoms(root, images, side)
        files = sorted((root / "images").glob("*.png"))
        contents = [path.read_bytes() for path in files]
        settings = DataSettings(root=root / "images", labels="none", split="train")
        places = itertools.count()
        for recipe, wanted in RECIPES.items():

            def whole(recipe: str | None = recipe) -> None:
                prepare(settings, Path(scratch) / str(next(places)), CACHED, recipe)

            works: list[Callable[[], object]] = [whole, functools.partial(decode_alone, contents)]
            own, other = in_turn(works, rounds, time.process_time)
            figures.append(
                Figure(
                    name="preparing " + (f"with {recipe} masks" if recipe else "without masks"),
                    value=1000 * statistics.median(own) / images,
                    unit="ms an image",
                    beside="decode alone",
                    other=1000 * statistics.median(other) / images,
                    ratio=median_ratio(own, other),
                    wanted=f"at most {wanted}",
                )
            )
    return figures
