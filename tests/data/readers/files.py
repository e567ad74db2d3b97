"""Small images and tables, written where a test wants them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np


def write_images(root: Path, *names: str, side: int = 24) -> None:
    """Write images of differing content, by path below ``root``."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(sum(name.encode())).integers(0, 256, (side, side))
        known = (".png", ".jpg", ".jpeg", ".tif", ".bmp", ".webp")
        suffix = Path(name).suffix if Path(name).suffix in known else ".png"
        written, content = cv2.imencode(suffix, pixels.astype(np.uint8))
        assert written
        (root / name).write_bytes(content.tobytes())


def write_lines(path: Path, lines: Iterable[str]) -> Path:
    """Write a text file of lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")
    return path
