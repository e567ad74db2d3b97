"""The parquet parts of a mask store: rows, packed bits, and writing them atomically."""

from __future__ import annotations

import dataclasses
import hashlib
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from medsgssl.errors import MaskError
from medsgssl.files import atomic_path
from medsgssl.masks.geometry import grid_shape, resize_mask
from medsgssl.masks.types import LungMask, Mask, Status


@dataclass(frozen=True, slots=True)
class Row:
    """One image of a store; the fields are the columns of a part."""

    image_id: str
    height: int
    width: int
    grid_height: int
    grid_width: int
    bits: bytes
    quality: float
    status: Status
    reason: str
    area: float
    digest: str


COLUMNS = [field.name for field in dataclasses.fields(Row)]
_INTEGERS = ("height", "width", "grid_height", "grid_width")
TYPES = {**dict.fromkeys(_INTEGERS, "int32"), "quality": "float32", "area": "float32"}


def pack_row(image_id: str, shape: tuple[int, int], lungs: LungMask, grid: int) -> Row:
    """Bring a mask to the grid of the store and pack it.

    Args:
        image_id: The image's key.
        shape: Height and width of the image in pixels.
        lungs: Its mask, of any size with the aspect ratio of the image.
        grid: Longer side of the grid in pixels; smaller images keep their size.
    """
    size = grid_shape(shape, min(grid, max(shape)))
    mask = resize_mask(lungs.mask, size)
    bits = zlib.compress(np.packbits(mask).tobytes(), 6)
    said = repr((shape, size, round(lungs.quality, 4), lungs.status, lungs.reason)).encode()
    digest = hashlib.blake2b(said + np.packbits(mask).tobytes(), digest_size=8).hexdigest()
    return Row(
        image_id,
        *shape,
        *size,
        bits,
        lungs.quality,
        lungs.status,
        lungs.reason,
        float(mask.mean()),
        digest,
    )


def unpack_mask(bits: bytes, shape: tuple[int, int]) -> Mask:
    """Return the bool mask of ``shape`` that `pack_row` packed."""
    packed = np.frombuffer(zlib.decompress(bits), dtype=np.uint8)
    return np.unpackbits(packed, count=shape[0] * shape[1]).astype(bool).reshape(shape)


def write_part(target: Path, rows: Sequence[Row]) -> None:
    """Write rows as one parquet file; a killed process leaves nothing under ``target``."""
    frame = pd.DataFrame([dataclasses.astuple(row) for row in rows], columns=COLUMNS)
    with atomic_path(target) as temporary:
        frame.astype(TYPES).to_parquet(temporary, index=False)


def read_part(source: Path, columns: Sequence[str]) -> pd.DataFrame:
    """Read columns of one part.

    Raises:
        MaskError: The file is damaged.
    """
    try:
        return pd.read_parquet(source, columns=list(columns))
    except (ValueError, OSError) as error:
        raise MaskError(
            f"{source} is not a readable part of a mask store: {error}",
            "delete this file and run `medsgssl masks` again; only its images are done anew",
        ) from error
