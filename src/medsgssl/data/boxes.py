"""The boxes that radiologists drew around findings in 880 NIH images (all in the test list)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from medsgssl.data.labels import NIH
from medsgssl.errors import DataError

BOX_FRAME = 1024
"""Side of the square frame, in pixels, that box coordinates refer to."""

_NUMBERS = ["x", "y", "width", "height"]


def read_boxes(path: Path) -> pd.DataFrame:
    """Read ``BBox_List_2017.csv``.

    Its header is broken (one bracketed cell for four columns) and is skipped; its ``Infiltrate``
    is the label ``Infiltration``.

    Args:
        path: The file.

    Returns:
        One row per box: ``image_id``, ``disease``, and ``float64`` columns ``x``, ``y`` (upper left
        corner), ``width``, ``height`` in pixels of the 1024 x 1024 frame.

    Raises:
        DataError: The file is missing or malformed, a disease is unknown, or a box is empty or
            outside the frame.
    """
    try:
        boxes = pd.read_csv(
            path,
            header=None,
            skiprows=1,
            usecols=range(6),
            names=["image_id", "disease", *_NUMBERS],
            dtype={"image_id": str, "disease": str, **dict.fromkeys(_NUMBERS, np.float64)},
            encoding="utf-8-sig",
        )
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}", "fetch the box list again") from error
    boxes["disease"] = boxes["disease"].replace("Infiltrate", "Infiltration")
    corner, size = boxes[["x", "y"]].to_numpy(), boxes[["width", "height"]].to_numpy()
    # Half a pixel of slack: the published coordinates are rounded products.
    inside = (corner >= -0.5).all(1) & (corner + size <= BOX_FRAME + 0.5).all(1)
    good = boxes["disease"].isin(NIH.names).to_numpy() & inside & (size > 0).all(1)
    if not good.all():
        row = int(np.argmin(good))
        raise DataError(
            f"{path}, line {row + 2}: no valid box: {boxes.iloc[row].to_dict()}",
            "give a known disease and a box inside the 1024 x 1024 frame",
        )
    return boxes
