"""What the student is taught: the anatomic recipe's own masks of unlabeled images.

No mask drawn by a person, and no label, takes part.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from medsgssl.errors import ImageError
from medsgssl.images.isolated_reading import CrashCount
from medsgssl.images.reading import read_image
from medsgssl.masks.recipes.anatomic import recipe as anatomic
from medsgssl.masks.recipes.distilled.pixels import SIDE, to_square
from medsgssl.masks.types import Gray, Mask
from medsgssl.utils.worker_processes import map_surviving

# A mask teaches when it is ok and at least this good.
LEAST_QUALITY = 0.6

Item = tuple[str, Path]
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Lessons:
    """Images and the teacher's masks, on the student's square.

    Attributes:
        ids: Image ids, the readable images alone.
        images: uint8, ``N x SIDE x SIDE``.
        labels: uint8, ``N x SIDE x SIDE``: share of each pixel inside the teacher's mask, 255 = 1.
        good: bool, ``N``: the mask is ``ok`` with a quality of at least `LEAST_QUALITY`.
    """

    ids: list[str]
    images: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    good: NDArray[np.bool_]


def soft_square(mask: Mask, shape: tuple[int, int]) -> Gray:
    """Return the share of every pixel of the student's square inside a mask, 255 = all of it.

    Args:
        mask: bool, with the aspect ratio of the image.
        shape: Height and width of the part of the square that holds the image.
    """
    square = np.zeros((SIDE, SIDE), np.uint8)
    share = cv2.resize(mask.astype(np.uint8) * 255, shape[::-1], interpolation=cv2.INTER_AREA)
    square[: shape[0], : shape[1]] = share
    return square


_Lesson = tuple[Gray, Gray, bool]
_BATCH = 16


def _lessons(items: Sequence[Item]) -> list[_Lesson | None]:
    return [_lesson(item) for item in items]


def _lesson(item: Item) -> _Lesson | None:
    cv2.setNumThreads(1)
    try:
        gray = read_image(item[1])
    except ImageError:
        return None
    lungs = anatomic.draw(gray)
    square, placement = to_square(gray)
    label = soft_square(lungs.mask, (placement.height, placement.width))
    return square, label, lungs.status == "ok" and lungs.quality >= LEAST_QUALITY


def prepare_lessons(
    items: Sequence[Item], workers: int = 1, progress: Progress | None = None
) -> Lessons:
    """Draw the teacher's masks of all images; unreadable images are left out.

    Args:
        items: ``(image_id, path)``.
        workers: Number of processes; 1 works in this process.
        progress: Called with images done and images in all.
    """
    crashes = CrashCount()

    def crashed(item: Item, signal: str) -> None:
        crashes.error(item[1], signal)

    batches = [items[start : start + _BATCH] for start in range(0, len(items), _BATCH)]
    made = (
        map_surviving(_lessons, batches, crashed, workers)
        if workers > 1
        else map(_lessons, batches)
    )
    kept: list[tuple[str, _Lesson]] = []
    done = 0
    for batch, lessons in zip(batches, made, strict=True):
        kept += [(item[0], one) for item, one in zip(batch, lessons, strict=True) if one]
        done += len(batch)
        if progress is not None:
            progress(done, len(items))
    images = np.zeros((len(kept), SIDE, SIDE), np.uint8)
    labels = np.zeros_like(images)
    good = np.zeros(len(kept), bool)
    for row, (_, lesson) in enumerate(kept):
        images[row], labels[row], good[row] = lesson
    return Lessons([image_id for image_id, _ in kept], images, labels, good)
