"""The student's weights file: safetensors with a card of how it was taught and what it saw.

Reading the card needs no torch.
"""

from __future__ import annotations

import base64
import json
import math
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from importlib.resources import files
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

import pandas as pd
from safetensors import SafetensorError, safe_open

from medsgssl.errors import MaskError
from medsgssl.utils.io import atomic_path

if TYPE_CHECKING:
    from torch import Tensor

SHIPPED = Path(str(files("medsgssl.masks.recipes.distilled") / "student.safetensors"))
KIND = "medsgssl lung mask student"
SEEN_COLUMNS = ("name", "patient", "source")


class StudentEpoch(TypedDict):
    """What one epoch of a student came to: its mean loss, agreement and stability (Dice)."""

    round: int
    epoch: int
    images: int
    loss: float
    agreement: float
    stability: float


@dataclass(frozen=True)
class StudentCard:
    """How a student was taught.

    Attributes:
        data: The data set, in words.
        images: Images it was given, and its validation on pseudo-labels included.
        patients: How many patients they show, where known.
        never_saw: What was kept away from it, in words.
        teacher: Recipe and version of the masks it learned from.
        seed: Where every draw came from.
        settings: Constants of the training.
        log: Every epoch.
    """

    data: str
    images: int
    patients: int
    never_saw: str
    teacher: str
    seed: int
    settings: dict[str, object]
    log: list[StudentEpoch]

    def as_text(self) -> str:
        """Return the card for people, one fact a line."""
        agreement = self.log[-1]["agreement"] if self.log else math.nan
        stability = self.log[-1]["stability"] if self.log else math.nan
        return "\n".join(
            [
                f"data       {self.data}: {self.images} images, {self.patients} patients",
                f"never saw  {self.never_saw}",
                f"teacher    {self.teacher}; no label and no mask drawn by a person",
                f"seed       {self.seed}",
                f"agreement  {agreement:.3f} (Dice with held-out masks of the teacher), "
                f"stability {stability:.3f}",
            ]
        )


def save_student(
    path: Path, weights: Mapping[str, Tensor], card: StudentCard, seen: pd.DataFrame
) -> None:
    """Write weights in half precision, the card and what the student saw, atomically.

    Args:
        path: The safetensors file.
        weights: State of the network.
        card: How it was taught.
        seen: One row per image: name, patient, source (`medsgssl.data.overlap`'s keys).
    """
    from safetensors.torch import save_file

    rows = seen[list(SEEN_COLUMNS)].sort_values(list(SEEN_COLUMNS)).to_csv(index=False)
    packed = base64.b64encode(zlib.compress(rows.encode(), 9)).decode()
    metadata = {"kind": KIND, "card": json.dumps(asdict(card), sort_keys=True), "seen": packed}
    halves = {
        name: (value.half() if value.is_floating_point() else value).contiguous()
        for name, value in weights.items()
    }
    with atomic_path(path) as temporary:
        save_file(halves, temporary, metadata)


def read_card(path: Path) -> StudentCard:
    """Read the card of a weights file.

    Raises:
        MaskError: The file is missing, damaged or no student.
    """
    values = json.loads(_metadata(path)["card"])
    return StudentCard(**{field.name: values[field.name] for field in fields(StudentCard)})


def read_seen(path: Path) -> pd.DataFrame:
    """Return what a student saw: one row per image with its name, patient (may be empty), source.

    Raises:
        MaskError: The file is missing, damaged or no student.
    """
    rows = zlib.decompress(base64.b64decode(_metadata(path)["seen"])).decode()
    return pd.read_csv(StringIO(rows), dtype=str, keep_default_na=False)


def _metadata(path: Path) -> dict[str, str]:
    fix = (
        "teach a student with `medsgssl masks train DATA --out WEIGHTS`, or use "
        "--set masks.recipe=anatomic"
    )
    if not path.is_file():
        raise MaskError(f"the weights of the student {path} are missing", fix)
    try:
        with safe_open(path, framework="np") as opened:
            metadata: dict[str, str] = opened.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise MaskError(f"{path} is not a readable safetensors file: {error}", fix) from error
    if metadata.get("kind") != KIND:
        raise MaskError(f"{path} holds no student of the lung masks", fix)
    return metadata
