"""The page for quality control: overlays of a store, worst quality first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from medsgssl import sources
from medsgssl.errors import ImageError
from medsgssl.files import write_text
from medsgssl.masks.overlay import Figure, draw_overlay, page
from medsgssl.masks.store import MaskStore
from medsgssl.masks.types import STATUSES


def write_quality_page(
    store: MaskStore, paths: Mapping[str, Path], out: Path, count: int = 60
) -> Path:
    """Write the worst masks of a store as one self-contained HTML file.

    Args:
        store: The masks.
        paths: Path of every image, by image id; images without one are left out.
        out: The HTML file.
        count: Number of overlays at most.

    Returns:
        ``out``.
    """
    summary = store.summary.sort_values(["quality", "image_id"])
    known = summary[summary["image_id"].isin(list(paths))].head(count)
    counts = store.counts
    said = ", ".join(f"{counts.get(status, 0)} {status}" for status in STATUSES)
    introduction = (
        f"{len(store)} images, recipe {store.header.recipe} (version "
        f"{store.header.recipe_version}): {said}. Below are the {len(known)} of lowest quality, "
        "worst first."
    )
    ids = known["image_id"].tolist()
    write_text(out, page("Lung masks", introduction, _figures(store, paths, ids)))
    return out


def _figures(store: MaskStore, paths: Mapping[str, Path], ids: list[str]) -> Iterator[Figure]:
    for image_id, lungs in zip(ids, store.read(ids), strict=True):
        try:
            picture = draw_overlay(sources.read_image(paths[image_id]), lungs.mask)
        except ImageError:
            picture = np.zeros((320, 320, 3), dtype=np.uint8)
        heading = f"{image_id}: {lungs.status}, quality {lungs.quality:.2f}"
        yield Figure(picture, heading, lungs.reason)
