"""The predictions of a run: one Parquet row per image, checked once and then trusted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from medsgssl.data.labels import label_array
from medsgssl.errors import DataError, LeakError
from medsgssl.utils.formatting import plural
from medsgssl.utils.io import atomic_path

IMAGE_COLUMNS: tuple[str, ...] = ("image_id", "patient_id", "split", "view_position", "sex", "age")
"""What is known of an image besides its labels and scores."""

_LABEL, _SCORE = "label_", "score_"
SPLITS = ("train", "val", "test")
VIEW_POSITIONS = ("PA", "AP", "LATERAL", "")
SEXES = ("M", "F", "")

_FIX = "predict again with the checkpoint, or correct the table that was written by hand"


def label_columns(names: Sequence[str]) -> list[str]:
    """Return the columns that hold the labels of the classes."""
    return [_LABEL + name for name in names]


def score_columns(names: Sequence[str]) -> list[str]:
    """Return the columns that hold the scores of the classes."""
    return [_SCORE + name for name in names]


def class_names(table: pd.DataFrame) -> tuple[str, ...]:
    """Return the classes of a table of predictions, in the order of its label columns."""
    columns = map(str, table.columns)
    return tuple(name.removeprefix(_LABEL) for name in columns if name.startswith(_LABEL))


def differing_rows(left: pd.Series, right: pd.Series) -> int:
    """Count the rows in which two columns differ; two missing values are equal."""
    differs = (left.to_numpy() != right.to_numpy()) & ~(left.isna() & right.isna()).to_numpy()
    return int(differs.sum())


class ClassColumn(NamedTuple):
    """The ``n`` images of a split whose label of one class is known.

    Attributes:
        labels: ``(n,)`` bool.
        scores: ``(n,)`` float64 in [0, 1].
        patients: ``(n,)`` codes as in the split.
        known: ``(N,)`` which images of the split these are.
    """

    labels: NDArray[np.bool_]
    scores: NDArray[np.float64]
    patients: NDArray[np.int64]
    known: NDArray[np.bool_]


@dataclass(frozen=True)
class Split:
    """The images of one split, in the order of the file.

    Attributes:
        names: The ``D`` classes, in the order of the file.
        labels: ``(N, D)`` float32 of 0 and 1, NaN where a label is unknown.
        scores: ``(N, D)`` float64 in [0, 1].
        patients: ``(N,)`` int64 codes 0..P-1 in the order of the names, whatever the order of rows.
        table: The ``N`` rows themselves, for views, sexes, ages and names.
    """

    names: tuple[str, ...]
    labels: NDArray[np.float32]
    scores: NDArray[np.float64]
    patients: NDArray[np.int64]
    table: pd.DataFrame

    @classmethod
    def join(cls, parts: Sequence[Split]) -> Split:
        """Return the images of several splits as one, in their order."""
        return cls.of(pd.concat([part.table for part in parts], ignore_index=True))

    @classmethod
    def of(cls, table: pd.DataFrame) -> Split:
        """Gather the arrays of the rows of a checked table."""
        codes, _ = pd.factorize(table["patient_id"], sort=True)
        names = class_names(table)
        return cls(
            names=names,
            labels=label_array(table, label_columns(names)),
            scores=table[score_columns(names)].to_numpy(dtype=np.float64),
            patients=codes.astype(np.int64),
            table=table,
        )

    def where(self, keep: NDArray[np.bool_]) -> Split:
        """Return the images selected by a ``(N,)`` mask, patients numbered again from 0."""
        return Split.of(self.table[keep].reset_index(drop=True))

    def column(self, number: int) -> ClassColumn:
        """Return one class, without the images whose label is unknown."""
        labels = self.labels[:, number]
        known = np.isfinite(labels)
        return ClassColumn(
            labels[known] == 1, self.scores[known, number], self.patients[known], known
        )

    def positives(self) -> NDArray[np.int64]:
        """Count the positive images of each class, ``(D,)``."""
        return np.asarray((self.labels == 1).sum(axis=0), dtype=np.int64)

    def unknown(self) -> NDArray[np.int64]:
        """Count the images of each class whose label is unknown, ``(D,)``."""
        return np.asarray(np.isnan(self.labels).sum(axis=0), dtype=np.int64)

    def __len__(self) -> int:
        return len(self.table)


class Predictions:
    """Checked predictions; see ``docs/architecture.md`` for the columns.

    Args:
        table: One row per image with ``IMAGE_COLUMNS`` and, for each class ``X``, ``label_X`` and
            ``score_X``; nothing else, in any order.
        origin: What errors call the table, usually its path.

    Raises:
        DataError: A column is missing, unexpected or of the wrong kind, a score is not a
            probability, a label not 0, 1 or missing, or an image occurs twice.
        LeakError: A patient has images in two splits.
    """

    def __init__(self, table: pd.DataFrame, origin: str = "the predictions") -> None:
        _check_columns(table, origin)
        names = class_names(table)
        labels, scores = label_columns(names), score_columns(names)
        table = table[[*IMAGE_COLUMNS, *labels, *scores]].reset_index(drop=True)
        _check_values(table, labels, scores, origin)
        _check_identity(table, origin)
        unknown = table[labels].isna().any(axis=None)
        table[labels] = table[labels].astype(np.float32 if unknown else np.uint8)
        table[scores] = table[scores].astype(np.float32)
        table["age"] = table["age"].astype("Int16")
        self.names = names
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
        # In 0.1.0 the view position was the column ``view``.
        return cls(table.rename(columns={"view": "view_position"}), str(path))

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
    present = [str(name) for name in table.columns]
    scored = [name.removeprefix(_SCORE) for name in present if name.startswith(_SCORE)]
    names = list(dict.fromkeys([*class_names(table), *scored]))
    if not names:
        raise DataError(f"{origin} has no column label_... and score_...", _FIX)
    wanted = [*IMAGE_COLUMNS, *label_columns(names), *score_columns(names)]
    missing = [name for name in wanted if name not in present]
    unexpected = [name for name in present if name not in wanted]
    if missing or unexpected or len(present) != len(wanted):
        faults = [f"missing {missing}"] if missing else []
        faults += [f"unexpected {unexpected}"] if unexpected else []
        what = "; ".join(faults) or "a column occurs twice"
        raise DataError(f"{origin} has the wrong columns: {what}", _FIX)
    if table.empty:
        raise DataError(f"{origin} holds no image", _FIX)


def _check_values(
    table: pd.DataFrame, labels: Sequence[str], scores: Sequence[str], origin: str
) -> None:
    for name in ("image_id", "patient_id"):
        text = np.array([isinstance(value, str) and value != "" for value in table[name]])
        if not text.all():
            raise DataError(
                f"{origin}: {name} is not text in {(~text).sum()} {plural((~text).sum(), 'row')}",
                _FIX,
            )
    for name, allowed in (("split", SPLITS), ("view_position", VIEW_POSITIONS), ("sex", SEXES)):
        bad = ~table[name].isin(allowed).to_numpy(dtype=bool)
        if bad.any():
            raise DataError(
                f"{origin}: {name} is not one of {', '.join(map(repr, allowed))} "
                f"in {bad.sum()} {plural(bad.sum(), 'row')} ({_examples(table, bad)})",
                _FIX,
            )
    numbers = {name: _numbers(table, name, origin) for name in (*labels, *scores)}
    _numbers(table, "age", origin)
    for name, values in numbers.items():
        # Comparisons with NaN are false, so a missing score fails here too.
        if name in scores:
            good, rule = (values >= 0) & (values <= 1), "a probability in [0, 1]"
        else:
            good = (values == 0) | (values == 1) | np.isnan(values)
            rule = "0, 1 or missing"
        if not good.all():
            raise DataError(
                f"{origin}: {name} is not {rule} in {(~good).sum()} {plural((~good).sum(), 'row')} "
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
            f"{origin}: {twice.sum()} {plural(twice.sum(), 'row is', 'rows are')} of images that "
            f"occur more than once ({_examples(table, twice)})",
            _FIX,
        )
    pairs = table[["patient_id", "split"]].drop_duplicates()
    shared = pairs.loc[pairs["patient_id"].duplicated(), "patient_id"].unique()
    if len(shared):
        raise LeakError(
            f"{origin}: {len(shared)} {plural(len(shared), 'patient has', 'patients have')} images "
            f"in two splits ({', '.join(map(str, shared[:3]))})",
            "split by patient and train again; these results cannot be trusted",
        )
