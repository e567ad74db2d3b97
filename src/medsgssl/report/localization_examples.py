"""Where the classifiers of several arms look, side by side on the same images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from medsgssl.report.page import png_uri
from medsgssl.report.run_pictures import Example, Picture, outline
from medsgssl.study.arms import Arm
from medsgssl.study.localize import EXAMPLES_FILE
from medsgssl.utils.formatting import words
from medsgssl.utils.heatmap import overlay_heatmap

_SIDE = 160
Arrays = Mapping[str, NDArray[Any]]


def looked_examples(arms: Sequence[Arm]) -> list[Example]:
    """Return one example per disease: the image with its box, and the map of each arm.

    Args:
        arms: Arms of one label fraction; the run of the lowest seed of each is shown. Arms whose
            runs were not scored, or on other images, are left out.
    """
    found: dict[str, Arrays] = {}
    for arm in arms:
        path = arm.runs[0].folder.path / EXAMPLES_FILE
        if path.is_file():
            with np.load(path) as stored:
                found[arm.label] = dict(stored)
    if not found:
        return []
    first = next(iter(found.values()))
    same = {
        label: arrays
        for label, arrays in found.items()
        if np.array_equal(arrays["image_ids"], first["image_ids"])
    }
    return [_example(first, same, row) for row in range(len(first["image_ids"]))]


def _example(first: Arrays, found: Mapping[str, Arrays], row: int) -> Example:
    image_id = str(first["image_ids"][row])
    image, lungs = first["images"][row], first["lungs"][row]
    marks = {
        "lungs": "" if lungs.all() else outline(lungs),
        "box": _box_outline(first["boxes"][row] * image.shape[0]),
    }
    gray = cv2.resize(image, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
    shown = {"image": np.asarray(gray, np.uint8)}
    for label, arrays in found.items():
        shown[label] = overlay_heatmap(arrays["images"][row], arrays["maps"][row], _SIDE)
    disease = words(str(first["diseases"][row]))
    pictures = [
        Picture(label, f"{image_id}, {disease}: {label}", png_uri(pixels), image.shape[0], **marks)
        for label, pixels in shown.items()
    ]
    return Example(disease, image_id, pictures)


def _box_outline(box: NDArray[np.float64]) -> str:
    """Return a box (x, y, width, height in pixels) as SVG path data."""
    x, y, width, height = (float(value) for value in box)
    return f"M{x:.1f} {y:.1f}h{width:.1f}v{height:.1f}h{-width:.1f}Z"
