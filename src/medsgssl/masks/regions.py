"""Regions of the chest from a lung mask: sides, zones, mediastinum, lung box.

Left and right are the patient's: the patient's left lung lies on the right of the image.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import cv2
import numpy as np
from numpy.typing import NDArray

from medsgssl.masks.types import Mask, require_mask


class Region(IntEnum):
    """Values of the label map of `label_regions`."""

    OUTSIDE = 0
    RIGHT_UPPER = 1
    RIGHT_MIDDLE = 2
    RIGHT_LOWER = 3
    LEFT_UPPER = 4
    LEFT_MIDDLE = 5
    LEFT_LOWER = 6
    MEDIASTINUM = 7
    BEHIND_HEART = 8


RIGHT_LUNG = (Region.RIGHT_UPPER, Region.RIGHT_MIDDLE, Region.RIGHT_LOWER)
LEFT_LUNG = (Region.LEFT_UPPER, Region.LEFT_MIDDLE, Region.LEFT_LOWER)


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle of whole pixels; all four bounds belong to it.

    Attributes:
        top: First row.
        left: First column.
        bottom: Last row.
        right: Last column.
    """

    top: int
    left: int
    bottom: int
    right: int

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.bottom - self.top + 1, self.right - self.left + 1


def lung_box(mask: Mask, margin: float = 0.0) -> Box | None:
    """Return the smallest box around the mask.

    Args:
        mask: bool, ``H x W``.
        margin: Share of the box's height and width to add on every side, clipped at the image.

    Returns:
        The box, or None for an empty mask.

    Raises:
        TypeError: The mask is not bool.
    """
    require_mask(mask)
    rows = np.flatnonzero(mask.any(axis=1))
    columns = np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return None
    top, bottom = int(rows[0]), int(rows[-1])
    left, right = int(columns[0]), int(columns[-1])
    extra_rows = round(margin * (bottom - top + 1))
    extra_columns = round(margin * (right - left + 1))
    height, width = mask.shape
    return Box(
        max(0, top - extra_rows),
        max(0, left - extra_columns),
        min(height - 1, bottom + extra_rows),
        min(width - 1, right + extra_columns),
    )


def split_sides(mask: Mask) -> tuple[Mask, Mask]:
    """Split a mask into the two lungs.

    Whole components go to the side of their centroid; one component that spans both sides is cut
    at the column where it is thinnest near the middle of its box.

    Args:
        mask: bool, ``H x W``.

    Returns:
        The patient's left lung (right of the image) and right lung (left of the image).
    """
    require_mask(mask)
    left, right = np.zeros_like(mask), np.zeros_like(mask)
    box = lung_box(mask)
    if box is None:
        return left, right
    middle = _middle_column(mask, box)
    count, labels, _, centroids = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    for label in range(1, count):
        part = labels == label
        columns = np.flatnonzero(part.any(axis=0))
        before, after = middle - columns[0], columns[-1] + 1 - middle
        if min(before, after) > 0.25 * (box.shape[1] / 2):
            right[:, :middle] |= part[:, :middle]
            left[:, middle:] |= part[:, middle:]
        elif centroids[label][0] < middle:
            right |= part
        else:
            left |= part
    return left, right


def label_regions(mask: Mask, heart: bool = False) -> NDArray[np.uint8]:
    """Label every pixel with its region.

    The zones are thirds of the height of each lung; the mediastinum is what lies between the
    lungs in the rows where both exist.

    Args:
        mask: bool, ``H x W``, without the lung behind the heart.
        heart: Whether the lung behind the heart is a region of its own; else it belongs to the
            mediastinum.

    Returns:
        uint8, ``H x W``, values of `Region`.
    """
    left, right = split_sides(mask)
    labels = np.zeros(mask.shape, dtype=np.uint8)
    for lung, zones in ((right, RIGHT_LUNG), (left, LEFT_LUNG)):
        box = lung_box(lung)
        if box is None:
            continue
        cuts = np.linspace(box.top, box.bottom + 1, 4).round().astype(int)
        for zone, top, bottom in zip(zones, cuts[:-1], cuts[1:], strict=True):
            labels[top:bottom][lung[top:bottom]] = zone
    labels[_between(left, right)] = Region.MEDIASTINUM
    if heart:
        labels[_shadowed(left, right)] = Region.BEHIND_HEART
    return labels


def behind_heart(mask: Mask) -> Mask:
    """Return the lung that the heart hides, guessed from the rest of the lungs.

    Some references and methods count it as lung, others do not; nothing in the image shows its
    border, so it is drawn by geometry alone: below the narrowest place of the mediastinum each
    lung goes on to a straight line from that place down to the level of the diaphragm.

    Args:
        mask: bool, ``H x W``, without this region.

    Returns:
        bool, ``H x W``, disjoint from ``mask``.
    """
    return _shadowed(*split_sides(mask))


# The narrowest place of the mediastinum is looked for in this part of the lungs' common height.
_HILUM = (0.15, 0.6)


def _shadowed(left: Mask, right: Mask) -> Mask:
    hidden = np.zeros_like(left)
    boxes = lung_box(left), lung_box(right)
    if boxes[0] is None or boxes[1] is None:
        return hidden
    top = max(boxes[0].top, boxes[1].top)
    bottom = min(boxes[0].bottom, boxes[1].bottom)
    first, last = (top + round(share * (bottom - top)) for share in _HILUM)
    if last <= first:
        return hidden
    far = left.shape[1] * 2
    columns = np.arange(left.shape[1])
    # Of the left lung the heart hides the part above the diaphragm too, so that its level is
    # taken from the right lung's dome.
    level = _dome_level(right, boxes[1])
    # The inner border is the first column of the left lung, and the last of the right one.
    for lung, box, sign in ((left, boxes[0], 1), (right, boxes[1], -1)):
        inner = np.where(lung, columns * sign, far).min(axis=1)
        row = first + int(np.argmin(inner[first:last]))
        end = min(level, box.bottom) + 1
        known = inner[row:end, None]
        inside = (columns[None] * sign >= inner[row]) & (columns[None] * sign < known)
        hidden[row:end] |= inside & (known < far)
    return hidden & ~left & ~right


def _between(left: Mask, right: Mask) -> Mask:
    """Pixels between the inner borders of the lungs, in rows that hold both."""
    columns = np.arange(left.shape[1])[None, :]
    inner_right = np.where(right, columns, -1).max(axis=1)
    inner_left = np.where(left, columns, left.shape[1]).min(axis=1)
    both = left.any(axis=1, keepdims=True) & right.any(axis=1, keepdims=True)
    between = (columns > inner_right[:, None]) & (columns < inner_left[:, None])
    return np.asarray(between & both & ~left & ~right)


def _middle_column(mask: Mask, box: Box) -> int:
    """Column with the fewest lung pixels in the middle third of the box; of equals the middle."""
    width = box.shape[1]
    start, stop = box.left + width // 3, box.right + 1 - width // 3
    if stop - start < 2:
        return box.left + width // 2
    counts = mask[:, start:stop].sum(axis=0)
    thinnest = np.flatnonzero(counts == counts.min())
    return start + int(thinnest[len(thinnest) // 2])


def _dome_level(right: Mask, box: Box) -> int:
    """Row where the inner half of the patient's right lung ends, at the median."""
    inner = right[:, box.right + 1 - max(1, box.shape[1] // 2) : box.right + 1]
    ends = [int(np.flatnonzero(column)[-1]) for column in inner.T if column.any()]
    return int(np.median(ends)) if ends else box.bottom
