"""Synthetic chests on disk for the tests of the masks."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from medsgssl.data.synthetic.render import Phantom, render_phantom
from medsgssl.masks.build import Item


@pytest.fixture(scope="session")
def phantom() -> Phantom:
    return render_phantom(0, 1, 256, view_position="PA")


@pytest.fixture(scope="session")
def items(tmp_path_factory: pytest.TempPathFactory) -> list[Item]:
    """Ten small images; the fourth is no image at all."""
    folder = tmp_path_factory.mktemp("images")
    random = np.random.default_rng(0)
    found = []
    for number in range(10):
        path = folder / f"{number:04d}.png"
        height, width = 60 + number, 90 - number
        picture = random.integers(0, 255, (height, width), dtype=np.uint8)
        cv2.imwrite(str(path), cv2.GaussianBlur(picture, (0, 0), 8))
        found.append((path.name, path))
    Path(found[3][1]).write_bytes(b"no image")
    return found
