"""The predictions of a run: one Parquet row per image, checked once and then trusted."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from medsgssl.data.labels import DISEASES
from medsgssl.errors import DataError, LeakError
from medsgssl.utils.io import atomic_path

LABELS: tuple[str, ...] = tuple(f"label_{name}" for name in DISEASES)
SCORES: tuple[str, ...] = tuple(f"score_{name}" for name in DISEASES)
COLUMNS: tuple[str, ...] = (
    "image_id",
    "patient_id",
    "split",
    "view",
    "sex",
    "age",
    *LABELS,
    *SCORES,
)
SPLITS = ("train", "val", "test")
VIEWS = ("PA", "AP", "LATERAL", "")
SEXES = ("M", "F", "")

_FIX = "predict again with the checkpoint, or mend the table that was written by hand"


@dataclass(frozen=True)
class Split:
    """The images of one split, in the order of the file.

    Attributes:
        labels: ``(N, D)`` bool, the diseases in the order of ``DISEASES``.
        scores: ``(N, D)`` float64 in [0, 1].
        patients: ``(N,)`` int64 codes 0..P-1 in the order of the names, whatever the order of rows.
        table: The ``N`` rows themselves, for views, sexes, ages and names.
    """

    labels: NDArray[np.bool_]
    scores: NDArray[np.float64]
    patients: NDArray[np.int64]
    table: pd.DataFrame

    @classmethod
    def of(cls, table: pd.DataFrame) -> Split:
        """Gather the arrays of the rows of a checked table."""
        codes, _ = pd.factorize(table["patient_id"], sort=True)
        return cls(
            labels=table[list(LABELS)].to_numpy(dtype=bool),
            scores=table[list(SCORES)].to_numpy(dtype=np.float64),
            patients=codes.astype(np.int64),
            table=table,
        )

    def where(self, keep: NDArray[np.bool_]) -> Split:
        """Return the images selected by a ``(N,)`` mask, patients coded anew."""
        return Split.of(self.table[keep].reset_index(drop=True))

    def __len__(self) -> int:
        return len(self.table)


class Predictions:
    """Checked predictions; see ``docs/architecture.md`` for the columns.

    Args:
        table: One row per image with exactly ``COLUMNS``, in any order.
        origin: What errors call the table, usually its path.

    Raises:
        DataError: A column is missing, unexpected or of the wrong kind, a score is not a
            probability, a label not 0 or 1, or an image occurs twice.
        LeakError: A patient has images in two splits.
    """

    def __init__(self, table: pd.DataFrame, origin: str = "the predictions") -> None:
        _check_columns(table, origin)
        table = table[list(COLUMNS)].reset_index(drop=True)
        _check_values(table, origin)
        _check_identity(table, origin)
        table[list(LABELS)] = table[list(LABELS)].astype(np.uint8)
        table[list(SCORES)] = table[list(SCORES)].astype(np.float32)
        table["age"] = table["age"].astype("Int16")
        self.table = table
        self.origin = origin

    @classmethod
    def read(cls, path: Path) -> Predictions:
        """Read and check a Parquet file.

        Raises:
            DataError: The file is missing, unreadable or malformed.
            LeakError: A patient has images in two splits.
        """
        if not path.is_file():
            raise DataError(f"{path} does not exist", "predict with a fine-tuned checkpoint first")
        try:
            table = pd.read_parquet(path)
        except (OSError, ValueError) as error:
            raise DataError(f"{path} is not a Parquet table: {error}", _FIX) from error
        return cls(table, str(path))

    def write(self, path: Path) -> None:
        """Write the table as Parquet, atomically."""
        with atomic_path(path) as temporary:
            self.table.to_parquet(temporary, index=False)

    def has(self, split: str) -> bool:
        """Whether any image belongs to the split."""
        return bool((self.table["split"] == split).any())

    def split(self, name: str) -> Split:
        """Return the images of one split.

        Args:
            name: ``"train"``, ``"val"`` or ``"test"``.

        Raises:
            DataError: No image belongs to it.
        """
        rows = (self.table["split"] == name).to_numpy(dtype=bool)
        if not rows.any():
            raise DataError(
                f"{self.origin} holds no image of the split {name!r}",
                f"predict the {name} split too",
            )
        return Split.of(self.table[rows].reset_index(drop=True))

    def __len__(self) -> int:
        return len(self.table)


def _examples(table: pd.DataFrame, bad: NDArray[np.bool_]) -> str:
    """Name up to three of the offending images."""
    names = [str(name) for name in table.loc[bad, "image_id"].head(3)]
    return ", ".join(names) + (", ..." if bad.sum() > 3 else "")


def _check_columns(table: pd.DataFrame, origin: str) -> None:
    missing = [name for name in COLUMNS if name not in table.columns]
    unexpected = [str(name) for name in table.columns if name not in COLUMNS]
    if missing or unexpected or len(table.columns) != len(COLUMNS):
        faults = [f"missing {missing}"] if missing else []
        faults += [f"unexpected {unexpected}"] if unexpected else []
        what = "; ".join(faults) or "a column occurs twice"
        raise DataError(f"{origin} has the wrong columns: {what}", _FIX)
    if table.empty:
        raise DataError(f"{origin} holds no image", _FIX)


def _check_values(table: pd.DataFrame, origin: str) -> None:
    for name in ("image_id", "patient_id"):
        text = np.array([isinstance(value, str) and value != "" for value in table[name]])
        if not text.all():
            raise DataError(f"{origin}: {name} is not text in {(~text).sum()} rows", _FIX)
    for name, allowed in (("split", SPLITS), ("view", VIEWS), ("sex", SEXES)):
        bad = ~table[name].isin(allowed).to_numpy(dtype=bool)
        if bad.any():
            raise DataError(
                f"{origin}: {name} is not one of {', '.join(map(repr, allowed))} "
                f"in {bad.sum()} rows ({_examples(table, bad)})",
                _FIX,
            )
    numbers = {name: _numbers(table, name, origin) for name in (*LABELS, *SCORES)}
    _numbers(table, "age", origin)
    for name, values in numbers.items():
        if name in SCORES:
            good, rule = (values >= 0) & (values <= 1), "a probability in [0, 1]"
        else:
            good, rule = (values == 0) | (values == 1), "0 or 1"
        # Comparisons with NaN are false, so NaN fails here too.
        if not good.all():
            raise DataError(
                f"{origin}: {name} is not {rule} in {(~good).sum()} rows "
                f"({_examples(table, ~good)})",
                _FIX,
            )


def _numbers(table: pd.DataFrame, name: str, origin: str) -> NDArray[np.float64]:
    column: Any = table[name]
    if not (pd.api.types.is_numeric_dtype(column) or pd.api.types.is_bool_dtype(column)):
        raise DataError(f"{origin}: {name} is {column.dtype}, not a number", _FIX)
    values: NDArray[np.float64] = column.to_numpy(dtype=np.float64, na_value=np.nan)
    return values


def _check_identity(table: pd.DataFrame, origin: str) -> None:
    twice = table["image_id"].duplicated().to_numpy(dtype=bool)
    if twice.any():
        raise DataError(
            f"{origin}: {twice.sum()} images occur more than once ({_examples(table, twice)})",
            _FIX,
        )
    pairs = table[["patient_id", "split"]].drop_duplicates()
    shared = pairs.loc[pairs["patient_id"].duplicated(), "patient_id"].unique()
    if len(shared):
        raise LeakError(
            f"{origin}: {len(shared)} patients have images in two splits "
            f"({', '.join(map(str, shared[:3]))})",
            "split by patient and train again; these results cannot be trusted",
        )
