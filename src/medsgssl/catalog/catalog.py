"""The catalog: one table of every image, with the facts of how it was made."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from medsgssl.catalog.splits import SPLITS, check_leaks
from medsgssl.errors import DataError
from medsgssl.files import atomic_path
from medsgssl.sources import DISEASES

FORMAT = 2
"""Version of the saved form and of the rules that build it; another one is built anew."""

COLUMNS: dict[str, str] = {
    "image_id": "str",
    "path": "str",
    "patient_id": "str",
    "age": "Int16",
    "sex": "str",
    "view": "str",
    "follow_up": "Int16",
    **dict.fromkeys(DISEASES, "uint8"),
    "split": "str",
    "source": "str",
    "status": "str",
    "problem": "str",
    "content_hash": "str",
}
"""Name and pandas type of every column, in order."""

_KEY = b"medsgssl"
# What a problem is called and whether hashes were asked for changes no result.
_NO_IDENTITY = {"problem", "content_hash"}


@dataclass(frozen=True)
class Catalog:
    """One row per image; no row is ever dropped.

    Attributes:
        root: Absolute folder of the data set, which ``path`` is relative to.
        table: The rows, columns as ``COLUMNS``, numbered from 0.
        facts: JSON-like: ``source``, ``label_revision``, ``intensity``, ``split``, ``files``,
            ``splits``, ``warnings`` and how the catalog was made.
    """

    root: Path
    table: pd.DataFrame
    facts: dict[str, Any]

    def usable(self) -> pd.DataFrame:
        """Return the rows whose image is there and whole, with their row numbers as index."""
        return self.table[self.table["status"] == "ok"]

    def part(self, split: str) -> pd.DataFrame:
        """Return the usable rows of one split.

        Raises:
            DataError: There are none.
        """
        usable = self.usable()
        rows = usable[usable["split"] == split]
        if rows.empty:
            listed = int((self.table["split"] == split).sum())
            raise DataError(
                f"none of the {listed} images of the {split} split below {self.root} can be used",
                "look at `medsgssl catalog`; fetch the images or choose another data.split",
            )
        return rows

    @cached_property
    def fingerprint(self) -> str:
        """Hash of everything that decides a result: rows, labels, splits, status and file sizes.

        Where the folder lies and when its files were written does not change it.
        """
        digest = hashlib.blake2b(digest_size=16)
        for name, kind in COLUMNS.items():
            if name in _NO_IDENTITY:
                continue
            column = self.table[name]
            if kind == "str":
                digest.update("\0".join(column.tolist()).encode())
            else:
                digest.update(column.fillna(-1).to_numpy("int16").tobytes())
        digest.update(str(self.facts.get("files_fingerprint", "")).encode())
        return digest.hexdigest()[:12]

    def save(self, path: Path) -> None:
        """Write the catalog atomically as Parquet, the facts in its metadata."""
        described = {"format": FORMAT, "root": str(self.root), "facts": self.facts}
        table = pa.Table.from_pandas(self.table, preserve_index=False)
        metadata = {**(table.schema.metadata or {}), _KEY: json.dumps(described).encode()}
        with atomic_path(path) as temporary:
            pq.write_table(table.replace_schema_metadata(metadata), temporary)

    @classmethod
    def load(cls, path: Path) -> Catalog:
        """Read a saved catalog and check it.

        Raises:
            DataError: The file is missing, damaged or of another format.
            LeakError: A patient is in two splits.
        """
        try:
            stored = pq.read_table(path)
            described = json.loads((stored.schema.metadata or {})[_KEY])
            version = described["format"]
        except FileNotFoundError as error:
            raise DataError(f"{path} does not exist", "run `medsgssl catalog DATA`") from error
        except (OSError, pa.ArrowException, KeyError, ValueError) as error:
            raise DataError(f"{path} is no catalog: {error}", _ANEW) from error
        if version != FORMAT:
            raise DataError(f"{path} has format {version}, not {FORMAT}", _ANEW)
        table = typed(stored.to_pandas(), path)
        check_leaks(table["patient_id"], table["split"])
        return cls(Path(described["root"]), table, described["facts"])


_ANEW = "delete it and run `medsgssl catalog DATA` again"


def typed(table: pd.DataFrame, path: Path) -> pd.DataFrame:
    """Put columns into their order and types.

    Raises:
        DataError: A column is missing, an image occurs twice, or a split is unknown.
    """
    absent = [name for name in COLUMNS if name not in table.columns]
    if absent:
        raise DataError(f"{path} lacks the column {absent[0]}", _ANEW)
    ordered = table[list(COLUMNS)].astype(COLUMNS).reset_index(drop=True)
    if ordered["image_id"].duplicated().any() or not ordered["split"].isin(SPLITS).all():
        raise DataError(f"{path} has repeated images or unknown splits", _ANEW)
    return ordered
