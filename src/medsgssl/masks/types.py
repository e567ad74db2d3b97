"""The one type that every mask recipe, store and reader agrees on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

Gray: TypeAlias = NDArray[np.uint8]
Mask: TypeAlias = NDArray[np.bool_]
Status: TypeAlias = Literal["ok", "doubtful", "failed"]

STATUSES: tuple[Status, ...] = ("ok", "doubtful", "failed")


def require_mask(mask: Mask) -> Mask:
    """Refuse everything but a two-dimensional bool array.

    A ``uint8`` mask may hold 0/1 or 0/255, and code that guesses wrong fails silently; so no
    function of this package accepts one.

    Args:
        mask: The array to check, ``H x W``.

    Returns:
        The same array.

    Raises:
        TypeError: The array is not bool.
        ValueError: The array is not two-dimensional or is empty.
    """
    if mask.dtype != np.bool_:
        raise TypeError(
            f"a mask must be a bool array, not {mask.dtype}; convert it once, e.g. `mask > 127`"
        )
    if mask.ndim != 2 or mask.size == 0:
        raise ValueError(f"a mask must be H x W with at least one pixel, not {mask.shape}")
    return mask


@dataclass(frozen=True, slots=True, eq=False)
class LungMask:
    """Both lung fields of one image, and how far they can be trusted.

    Attributes:
        mask: bool, ``H x W``, True inside either lung.
        quality: Trust in the mask, from 0 (none) to 1.
        status: ``ok``; ``doubtful``: use with care; ``failed``: the mask is empty.
        reason: Why the status is not ``ok``, or what was corrected (``""`` when nothing was).
    """

    mask: Mask
    quality: float
    status: Status
    reason: str = ""

    def __post_init__(self) -> None:
        require_mask(self.mask)
        if not 0.0 <= self.quality <= 1.0:
            raise ValueError(f"quality {self.quality} is outside [0, 1]")
        if self.status not in STATUSES:
            raise ValueError(f"status {self.status!r} is none of {STATUSES}")
        if self.status == "failed" and (self.quality or self.mask.any()):
            raise ValueError("a failed mask is all False with quality 0")

    @classmethod
    def failed(cls, shape: tuple[int, int], reason: str) -> Self:
        """Return the empty mask of an image without a usable one.

        Args:
            shape: Height and width in pixels.
            reason: What went wrong, for people.
        """
        return cls(np.zeros(shape, dtype=bool), 0.0, "failed", reason)

    @property
    def area(self) -> float:
        """Share of the image inside the mask, in [0, 1]."""
        return float(self.mask.mean())
