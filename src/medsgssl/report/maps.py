"""Maps of a method over its views: where it looks before and after pretraining."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from medsgssl.report.page import number, png_uri, words
from medsgssl.report.pictures import Example, Picture, outline
from medsgssl.views import paint_map

_SIDE = 160


def map_examples(arrays: Mapping[str, NDArray[Any]]) -> list[Example]:
    """Turn the arrays of ``maps.npz`` into pictures, one example per image.

    A map that pretraining did not change is shown once.

    Args:
        arrays: As docs/architecture.md lists them.
    """
    names = [key.removesuffix("_after") for key in arrays if key.endswith("_after")]
    return [
        Example(str(image_id), "first pretraining view", _pictures(arrays, names, row))
        for row, image_id in enumerate(arrays["image_ids"])
    ]


def _pictures(arrays: Mapping[str, NDArray[Any]], names: list[str], row: int) -> list[Picture]:
    image_id = str(arrays["image_ids"][row])
    view, mask = arrays["views"][row], arrays["masks"][row]
    pictures = []
    for name in names:
        before, after = (arrays[f"{name}_{when}"][row] for when in ("before", "after"))
        learned = not np.allclose(before, after)
        shown = {"before": before, "after": after} if learned else {"": after}
        for when, found in shown.items():
            caption = f"{words(name)} {when}".strip()
            share = f": {number(_share_on(found, mask), 2)} of it in the mask"
            pictures.append(
                Picture(
                    caption=caption if mask.all() else caption + share,
                    alt=f"{image_id}: {caption} pretraining" if when else f"{image_id}: {caption}",
                    address=png_uri(paint_map(view, found, _SIDE)),
                    side=view.shape[0],
                    lungs="" if mask.all() else outline(mask),
                )
            )
    return pictures


def _share_on(found: NDArray[Any], mask: NDArray[np.bool_]) -> float:
    """Return the share of the map's sum that lies in the mask."""
    cover = cv2.resize(mask.astype(np.float32), found.shape[::-1], interpolation=cv2.INTER_AREA)
    total = float(found.sum())
    return float((found * cover).sum()) / total if total > 0 else 0.0
