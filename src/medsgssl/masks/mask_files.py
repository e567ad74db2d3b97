"""A user's own mask files: how their pixel values are understood, and which file fits an image."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from medsgssl.errors import MaskError
from medsgssl.masks.types import Mask

LabelName = Literal["right", "left", "both", "outside"]
# Value in the file -> what it stands for; values that are not named lie outside the lungs.
Labels = Mapping[int, LabelName]

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
# Names of the mask of the image NAME, in the order in which they are tried.
PATTERNS = ("{}", "{}_mask", "{}-mask", "{}_lung", "{}_lungs", "mask_{}", "{}_seg")

# A file of two values that was saved with soft edges or as JPEG has most pixels near its ends.
_NEAR_END = 0.2
_MOST_BETWEEN = 0.05
_LEAST_SOFT_RANGE = 64
# Largest relative difference of a mask's aspect ratio from that of its image.
_MOST_SKEW = 0.02
_FIX_VALUES = (
    "save 0 outside and 255 inside the lungs, or name the values: "
    "masks.labels={1: right, 2: left} in a run, --labels 1=right,2=left in masks build"
)


def read_mask(source: Path, labels: Labels | None = None) -> Mask:
    """Read the lungs from a mask file.

    Two values in any coding (0/1, 0/255, 16-bit, alpha only, a color on black, JPEG) are
    understood: the greater one is lung. Files with more values are label maps, and say nothing
    until ``labels`` names their values.

    Args:
        source: An image file.
        labels: What the values of a label map stand for.

    Returns:
        bool, ``H x W``.

    Raises:
        MaskError: The file is no image, or its values cannot be understood.
    """
    values = _plane(source)
    if labels is not None:
        return _labeled(values, labels)
    low, high = int(values.min()), int(values.max())
    if low == high:
        return np.full(values.shape, low > 0, dtype=bool)
    middle = (low + high) / 2
    if not _has_two_values(values, low, high):
        raise MaskError(f"{source} holds the values {_listed(values)}", _FIX_VALUES)
    return np.asarray(values > middle)


def label_sides(source: Path, labels: Labels) -> tuple[Mask, Mask] | None:
    """Return the patient's right and left lung of a label map that labels them separately.

    Returns:
        Two bool masks ``H x W``, or None where ``labels`` or the file lacks a side.
    """
    values = _plane(source)
    sides = [
        np.isin(values, [value for value, name in labels.items() if name == side])
        for side in ("right", "left")
    ]
    return (sides[0], sides[1]) if sides[0].any() and sides[1].any() else None


def require_shape_of(image: tuple[int, int], mask: Mask, source: Path) -> None:
    """Check that a mask has the shape of its image; the number of pixels may differ.

    Args:
        image: Height and width of the image.
        mask: bool, ``H x W``.
        source: The mask's file.

    Raises:
        MaskError: The ratios of height and width differ by more than 2 %.
    """
    (height, width), wanted = mask.shape, image[0] / image[1]
    if abs(height / width - wanted) > _MOST_SKEW * wanted:
        raise MaskError(
            f"{source} is {width} x {height} pixels, but its image is {image[1]} x {image[0]}: "
            "another aspect ratio",
            "give masks of the shape of their images",
        )


def _plane(source: Path) -> NDArray[Any]:
    """Return the one plane of the file that holds the mask."""
    try:
        content = np.fromfile(source, np.uint8)
        pixels = cv2.imdecode(content, cv2.IMREAD_UNCHANGED) if content.size else None
    except (OSError, cv2.error):
        pixels = None
    if pixels is None:
        raise MaskError(f"{source} is not a readable image", "replace or delete this file")
    if pixels.ndim == 2:
        return np.asarray(pixels)
    planes = [np.asarray(pixels[..., i]) for i in range(pixels.shape[2])]
    if len(planes) in (2, 4):
        alpha = planes.pop()
        if all(np.ptp(plane) == 0 for plane in planes) and np.ptp(alpha):
            return alpha
    # The greatest channel: of gray pictures the gray value, of one color on black that color.
    brightest = np.max(planes, axis=0)
    if all((plane == planes[0]).all() for plane in planes):
        return np.asarray(brightest)
    colors = np.unique(np.stack(planes[::-1], axis=-1).reshape(-1, len(planes)), axis=0)
    if len(colors) > 2 and not _has_two_values(brightest, 0, int(brightest.max())):
        listed = ", ".join(str(tuple(color)) for color in colors[:6].tolist())
        raise MaskError(
            f"{source} holds {len(colors)} colors: {listed}{' ...' if len(colors) > 6 else ''}",
            "save one gray value per structure, e.g. 0 outside and 255 inside the lungs",
        )
    if len(colors) > 2:
        # One bright value, but several colors: a colored label map.
        saturated = colors[colors.max(axis=1) > brightest.max() / 2]
        if len(np.unique(saturated.argmax(axis=1))) > 1:
            raise MaskError(
                f"{source} holds {len(colors)} colors: the structures cannot be distinguished",
                "save one gray value per structure, e.g. 0 outside and 255 inside the lungs",
            )
    return np.asarray(brightest)


def _has_two_values(values: NDArray[Any], low: int, high: int) -> bool:
    """Whether a plane holds two values, or two values with soft edges."""
    if len(np.unique(values[::4, ::4])) <= 2 and len(np.unique(values)) <= 2:
        return True
    if high - low < _LEAST_SOFT_RANGE:
        return False
    margin = _NEAR_END * (high - low)
    between = (values > low + margin) & (values < high - margin)
    if float(between.mean()) > _MOST_BETWEEN:
        return False
    # Soft edges have many values of few pixels each; a structure has one value of many.
    counts = np.unique(values[between], return_counts=True)[1]
    return not len(counts) or bool(counts.max() < 0.5 * counts.sum() or counts.sum() < 64)


def _labeled(values: NDArray[Any], labels: Labels) -> Mask:
    inside = [value for value, name in labels.items() if name != "outside"]
    return np.asarray(np.isin(values, inside))


def _listed(values: NDArray[Any], most: int = 8) -> str:
    distinct, counts = np.unique(values, return_counts=True)
    shares = [
        f"{value} ({count / values.size:.0%})"
        for value, count in zip(distinct[:most].tolist(), counts[:most].tolist(), strict=True)
    ]
    more = f" and {len(distinct) - most} more" if len(distinct) > most else ""
    return ", ".join(shares) + more


@lru_cache(maxsize=4)
def mask_index(folder: Path) -> dict[str, Path]:
    """Return the mask files below a folder by their path without suffix, as ``a/b``.

    A file in a folder of its own can also be found by its name alone, unless two files share it.
    """
    files = sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()
    )
    by_name: dict[str, Path | None] = {}
    index: dict[str, Path] = {}
    for path in files:
        index.setdefault(path.relative_to(folder).with_suffix("").as_posix(), path)
        by_name[path.stem] = None if path.stem in by_name else path
    for name, single in by_name.items():
        if single is not None:
            index.setdefault(name, single)
    return index


def find_mask(folder: Path, image_id: str) -> Path | None:
    """Return the mask file of an image, by the name of the image and `PATTERNS`."""
    index = mask_index(folder)
    name = Path(image_id)
    for stem in (name.with_suffix(""), Path(name.stem)):
        for pattern in PATTERNS:
            path = index.get(stem.with_name(pattern.format(stem.name)).as_posix())
            if path is not None:
                return path
    return None


def check_mask_folder(folder: Path, image_ids: list[str], labels: Labels | None = None) -> int:
    """Check, before any work, that a folder holds masks of these images that are understood.

    Args:
        folder: Folder of mask files.
        image_ids: The images.
        labels: What the values of label maps stand for.

    Returns:
        How many images have a mask file.

    Raises:
        MaskError: The folder holds no mask of any image, or a file of the sample cannot be
            understood.
    """
    mask_index.cache_clear()
    files = [path for path in (find_mask(folder, image_id) for image_id in image_ids) if path]
    if not files:
        present = next(iter(mask_index(folder).values()), None)
        wanted = Path(image_ids[0]).stem if image_ids else "IMAGE"
        raise MaskError(
            f"{folder} holds no mask of any of the {len(image_ids)} images: wanted is e.g. "
            f"{wanted}.png, present is "
            f"{'no image file' if present is None else f'e.g. {present.name}'}",
            f"name masks like their images: {wanted}.png, {wanted}_mask.png or {wanted}-mask.png "
            "(also .jpg, .bmp, .tif)",
        )
    step = max(1, len(files) // _SAMPLE)
    for path in files[::step]:
        mask = read_mask(path, labels)
        if labels is not None and not mask.any():
            values = _plane(path)
            if values.any():
                raise MaskError(
                    f"{path} holds the values {_listed(values)}, none of them named as lung by "
                    f"masks.labels ({dict(labels)})",
                    _FIX_VALUES,
                )
    return len(files)


_SAMPLE = 40
