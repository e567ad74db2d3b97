"""Images stored upside down, sideways or inverted: how to set them upright and back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medsgssl.masks.types import Gray, Mask


@dataclass(frozen=True)
class Turn:
    """One way an image may have been stored wrongly.

    Attributes:
        quarters: Quarter turns anticlockwise that set the image upright.
        inverted: Whether bright and dark are swapped.
        reason: What is wrong with the image as stored, for people.
    """

    quarters: int
    inverted: bool
    reason: str

    def upright(self, image: Gray) -> Gray:
        """Return the image as it should have been stored."""
        turned = np.rot90(image, self.quarters)
        return np.ascontiguousarray(255 - turned if self.inverted else turned)

    def undo(self, mask: Mask) -> Mask:
        """Return a mask of the upright image as a mask of the stored one."""
        return np.ascontiguousarray(np.rot90(mask, -self.quarters))

    def undo_map(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return a map of the upright image as a map of the stored one."""
        return np.ascontiguousarray(np.rot90(values, -self.quarters))


AS_STORED = Turn(0, False, "")
TURNS = (
    Turn(0, True, "bright and dark are swapped"),
    Turn(2, False, "the image is upside down"),
    Turn(1, False, "the image is turned by 90 degrees clockwise"),
    Turn(3, False, "the image is turned by 90 degrees anticlockwise"),
)
