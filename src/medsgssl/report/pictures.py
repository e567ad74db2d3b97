"""Images, masks, views and maps of a run as the network saw them, with outlines that stay sharp."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from medsgssl.masks.overlay import overlay_heatmap
from medsgssl.report.page import Example, Picture, png_uri
from medsgssl.study.arms import Arm
from medsgssl.study.run_localization import examples_file
from medsgssl.utils.formatting import number, words

_SIDE = 160
_MAX_EXAMPLES = 6
# A pixel that the method moved by more than this share of the range counts as changed.
_CHANGED = 0.02
# Outlines of changes that are nearly the whole view would say nothing.
_MOST = 0.95

Arrays = Mapping[str, NDArray[Any]]
Gray = NDArray[np.uint8]
Mask = NDArray[np.bool_]


def examples(arrays: Arrays, *, without_masks: bool) -> list[Example]:
    """Turn the arrays of ``examples.npz`` into pictures.

    Args:
        arrays: As docs/architecture.md lists them.
        without_masks: The run saw no masks; whole-image masks then are no failures.
    """
    count = min(len(arrays["image_ids"]), _MAX_EXAMPLES)
    return [_example(arrays, row, without_masks) for row in range(count)]


def _example(arrays: Arrays, row: int, without_masks: bool) -> Example:
    image_id = str(arrays["image_ids"][row])
    mask: Mask = arrays["masks"][row]
    whole = bool(mask.all())
    pictures = [_picture("cached image", image_id, arrays["images"][row], None if whole else mask)]
    views, prepared = arrays.get("pretrain_views"), arrays.get("prepared")
    if views is not None:
        masks = arrays["pretrain_masks"][row]
        for v, view in enumerate(views[row]):
            pixels = _gray(view)
            # The outline of a whole-image mask is the frame of the image, not lungs.
            lungs = None if whole else masks[v]
            pictures.append(_picture(f"pretraining view {v + 1}", image_id, pixels, lungs))
            if prepared is not None and v < prepared.shape[1]:
                left = _gray(prepared[row, v])
                changed = _changed(pixels, left)
                pictures.append(
                    _picture(f"view {v + 1} as encoded", image_id, left, lungs, changed)
                )
    for name, caption in (("finetune_views", "fine-tuning view"), ("test_views", "test view")):
        if name in arrays:
            pictures.append(_picture(caption, image_id, arrays[name][row], None))
    note = f"mask quality {number(float(arrays['quality'][row]), 2)}"
    if whole:
        note = "without a mask" if without_masks else "no usable mask: the whole image"
    return Example(image_id, note, pictures)


def _picture(
    caption: str, image_id: str, image: NDArray[Any], mask: Mask | None, changed: Mask | None = None
) -> Picture:
    gray = _gray(image)
    shrink = min(1.0, _SIDE / max(gray.shape))
    small = cv2.resize(gray, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA)
    return Picture(
        caption=caption,
        alt=f"{image_id}: {caption}",
        address=png_uri(np.asarray(small, dtype=np.uint8)),
        side=gray.shape[0],
        lungs="" if mask is None else outline(mask),
        hidden="" if changed is None else outline(changed),
    )


def _gray(image: NDArray[Any]) -> Gray:
    """Return an image as uint8; floats are in [0, 1]."""
    if image.dtype == np.uint8:
        return image
    return np.asarray(np.clip(image, 0, 1) * 255 + 0.5, dtype=np.uint8)


def _changed(before: Gray, after: Gray) -> Mask | None:
    changed = np.abs(before.astype(np.int16) - after) > _CHANGED * 255
    # Noise in a filled block leaves single pixels unchanged; blocks are larger than that.
    kernel = np.ones((5, 5), np.uint8)
    closed = cv2.morphologyEx(changed.astype(np.uint8), cv2.MORPH_CLOSE, kernel).astype(bool)
    return closed if 0 < closed.mean() < _MOST else None


def outline(mask: Mask) -> str:
    """Return the outline of a mask as SVG path data in pixels of the mask."""
    heatmap, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    parts = []
    for contour in heatmap:
        corners = cv2.approxPolyDP(contour, 0.6, closed=True)[:, 0]
        if len(corners) > 2:
            parts.append("M" + " ".join(f"{x} {y}" for x, y in corners) + "Z")
    return "".join(parts)


_SIDE_maps = 160


def map_examples(arrays: Arrays) -> list[Example]:
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


def _pictures(arrays: Arrays, names: list[str], row: int) -> list[Picture]:
    image_id = str(arrays["image_ids"][row])
    view, mask = arrays["views"][row], arrays["masks"][row]
    pictures = []
    for name in names:
        before, after = (arrays[f"{name}_{when}"][row] for when in ("before", "after"))
        learned = not np.allclose(before, after)
        pixels = {"before": before, "after": after} if learned else {"": after}
        for when, heatmap in pixels.items():
            caption = f"{words(name)} {when}".strip()
            share = f": {number(_share_on(heatmap, mask), 2)} of it in the mask"
            pictures.append(
                Picture(
                    caption=caption if mask.all() else caption + share,
                    alt=f"{image_id}: {caption} pretraining" if when else f"{image_id}: {caption}",
                    address=png_uri(overlay_heatmap(view, heatmap, _SIDE_maps)),
                    side=view.shape[0],
                    lungs="" if mask.all() else outline(mask),
                )
            )
    return pictures


def _share_on(heatmap: NDArray[Any], mask: NDArray[np.bool_]) -> float:
    """Return the share of the map's sum that lies in the mask."""
    cover = cv2.resize(mask.astype(np.float32), heatmap.shape[::-1], interpolation=cv2.INTER_AREA)
    total = float(heatmap.sum())
    return float((heatmap * cover).sum()) / total if total > 0 else 0.0


def localization_examples(arms: Sequence[Arm]) -> list[Example]:
    """Return one example per disease: the image with its box, and the map of each arm.

    Args:
        arms: Arms of one label fraction; the run of the lowest seed of each is shown. Arms whose
            runs were not scored, or on other images, are left out.
    """
    by_arm: dict[str, Arrays] = {}
    for arm in arms:
        path = examples_file(arm.runs[0].folder)
        if path.is_file():
            with np.load(path) as stored:
                by_arm[arm.label] = dict(stored)
    if not by_arm:
        return []
    first = next(iter(by_arm.values()))
    same = {
        label: arrays
        for label, arrays in by_arm.items()
        if np.array_equal(arrays["image_ids"], first["image_ids"])
    }
    return [_localized(first, same, row) for row in range(len(first["image_ids"]))]


def _localized(first: Arrays, by_arm: Mapping[str, Arrays], row: int) -> Example:
    image_id = str(first["image_ids"][row])
    image, lungs = first["images"][row], first["lungs"][row]
    marks = {
        "lungs": "" if lungs.all() else outline(lungs),
        "box": _box_outline(first["boxes"][row] * image.shape[0]),
    }
    gray = cv2.resize(image, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
    drawn = {"image": np.asarray(gray, np.uint8)}
    for label, arrays in by_arm.items():
        drawn[label] = overlay_heatmap(arrays["images"][row], arrays["maps"][row], _SIDE)
    disease = words(str(first["diseases"][row]))
    pictures = [
        Picture(label, f"{image_id}, {disease}: {label}", png_uri(pixels), image.shape[0], **marks)
        for label, pixels in drawn.items()
    ]
    return Example(disease, image_id, pictures)


def _box_outline(box: NDArray[np.float64]) -> str:
    """Return a box (x, y, width, height in pixels) as SVG path data."""
    x, y, width, height = (float(value) for value in box)
    return f"M{x:.1f} {y:.1f}h{width:.1f}v{height:.1f}h{-width:.1f}Z"
