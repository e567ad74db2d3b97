"""The catalog: one table of every image, built once and reused while nothing has changed."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from medsgssl.config.schema import DataSettings
from medsgssl.data.audit import audit_catalog
from medsgssl.data.file_checks import Progress, check_files, decoders_changed, set_lateral_aside
from medsgssl.data.labels import NO_LABELS, LabelSet
from medsgssl.data.paths import data_root, dataset_cache
from medsgssl.data.readers.base import Reader
from medsgssl.data.readers.registry import WITHOUT_LABELS, find_source, without_labels
from medsgssl.data.splits import SPLITS, assign_splits, check_leaks
from medsgssl.errors import DataError, LeakError
from medsgssl.images.intensity import INTENSITY
from medsgssl.runs.data_summary import CatalogOrigin, CatalogSummary
from medsgssl.utils.io import atomic_path, fingerprint

CATALOG_FILE = "catalog.parquet"


FORMAT = 7
"""Version of the saved form and of the rules that build it; others are rebuilt."""

_LABEL_TYPE = "Int8"
_BEFORE_LABELS: dict[str, str] = {
    "image_id": "str",
    "path": "str",
    "patient_id": "str",
    "age": "Int16",
    "sex": "str",
    "view_position": "str",
    "follow_up": "Int16",
}
_AFTER_LABELS: dict[str, str] = {
    "split": "str",
    "source": "str",
    "status": "str",
    "problem": "str",
    "content_hash": "str",
}


def catalog_columns(label_set: LabelSet) -> dict[str, str]:
    """Return name and pandas type of every column of a catalog, in order.

    Raises:
        DataError: A class has the name of another column.
    """
    taken = [name for name in label_set.names if name in _BEFORE_LABELS | _AFTER_LABELS]
    if taken:
        raise DataError(
            f"the labels of {label_set.name} name a class {taken[0]!r}, which is the name of "
            "another column of the catalog",
            "give the class another name",
        )
    return {**_BEFORE_LABELS, **dict.fromkeys(label_set.names, _LABEL_TYPE), **_AFTER_LABELS}


# The settings that decide what a catalog holds.
_DECIDES = {
    "split", "split_seed", "val_fraction", "test_fraction", "max_pixels", "labels", "classes",
    "image_column", "patient_column", "patient_pattern", "uncertain", "folds", "fold",
}  # fmt: skip
_KEY = b"medsgssl"
# What a problem is called and whether hashes were asked for changes no result.
_NO_IDENTITY = {"problem", "content_hash"}


@dataclass(frozen=True)
class Catalog:
    """One row per image; no row is ever dropped.

    Attributes:
        root: Absolute folder of the data set, which ``path`` is relative to.
        table: The rows, columns as ``catalog_columns`` gives them, numbered from 0.
        summary: What it was made from, and its audit.
        label_set: Names the columns of the labels.
    """

    root: Path
    table: pd.DataFrame
    summary: CatalogSummary
    label_set: LabelSet = NO_LABELS

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
            in_split = int((self.table["split"] == split).sum())
            raise DataError(
                f"none of the {in_split} images of the {split} split below {self.root} can be used",
                "look at `medsgssl catalog`; fetch the images or choose another data.split",
            )
        return rows

    @cached_property
    def fingerprint(self) -> str:
        """Hash of everything that decides a result: rows, labels, splits, status and file sizes.

        Where the folder lies and when its files were written does not change it.
        """
        digest = hashlib.blake2b(digest_size=16)
        for name, kind in catalog_columns(self.label_set).items():
            if name in _NO_IDENTITY:
                continue
            column = self.table[name]
            if kind == "str":
                digest.update("\0".join(column.tolist()).encode())
            else:
                digest.update(column.fillna(-1).to_numpy("int16").tobytes())
        digest.update(str(self.summary.get("files_fingerprint", "")).encode())
        return digest.hexdigest()[:12]

    def save(self, path: Path) -> None:
        """Write the catalog atomically as Parquet, the summary in its metadata."""
        described = {"format": FORMAT, "root": str(self.root), "summary": self.summary}
        described["label_set"] = self.label_set.to_json()
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
            if version == FORMAT:
                label_set = LabelSet.from_json(described["label_set"])
                summary: CatalogSummary = described["summary"]
        except FileNotFoundError as error:
            raise DataError(f"{path} does not exist", "run `medsgssl catalog DATA`") from error
        except (OSError, pa.ArrowException, KeyError, ValueError) as error:
            raise DataError(f"{path} is not a catalog: {error}", _REBUILD) from error
        if version != FORMAT:
            raise DataError(f"{path} has format {version}, not {FORMAT}", _REBUILD)
        table = typed(stored.to_pandas(), label_set, path)
        check_leaks(table["patient_id"], table["split"])
        return cls(Path(described["root"]), table, summary, label_set)


_REBUILD = "delete it and run `medsgssl catalog DATA` again"


def typed(table: pd.DataFrame, label_set: LabelSet, path: Path) -> pd.DataFrame:
    """Put columns into their order and types.

    Raises:
        DataError: A column is missing, an image occurs twice, or a split is unknown.
    """
    columns = catalog_columns(label_set)
    absent = [name for name in columns if name not in table.columns]
    if absent:
        raise DataError(f"{path} lacks the column {absent[0]}", _REBUILD)
    ordered = table[list(columns)].astype(columns).reset_index(drop=True)
    if ordered["image_id"].duplicated().any() or not ordered["split"].isin((*SPLITS, "")).all():
        raise DataError(f"{path} has repeated images or unknown splits", _REBUILD)
    return ordered


def build_catalog(
    settings: DataSettings,
    *,
    hash_content: bool = False,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Catalog:
    """Read tables and lists, check every file, give splits, count everything.

    Args:
        settings: ``root`` and what says how tables, patients and splits are read.
        hash_content: Read whole files, for duplicates and damage inside PNGs.
        workers: Threads that check files.
        progress: Called with (files done, files in all).

    Raises:
        ConfigError: No data folder is named.
        DataError: Tables or lists are malformed, or a split would be empty.
        LeakError: A patient is in two splits.
    """
    source = find_source(data_root(settings), settings)
    return _build(source, settings, hash_content, workers, progress)


def load_or_build(
    settings: DataSettings,
    *,
    hash_content: bool = False,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Catalog:
    """Return the saved catalog of a data set, rebuilt where anything has changed.

    The saved one stands while tables, lists and image files (by name, size and time), the split
    settings and the catalog's format are the same. Arguments and errors as ``build_catalog``.
    """
    source = find_source(data_root(settings), settings)
    saved = _saved(source, settings)
    if saved is not None:
        hashed = saved.summary.get("duplicates") is not None
        if hashed or not hash_content or not saved.summary["files"]["usable"]:
            return saved
    catalog = _build(source, settings, hash_content, workers, progress)
    catalog.save(saved_as(settings))
    return catalog


def current_catalog(settings: DataSettings) -> Catalog:
    """Return the catalog as ``load_or_build`` does, without saving it."""
    source = find_source(data_root(settings), settings)
    return _saved(source, settings) or _build(source, settings, False, None, None)


def saved_as(settings: DataSettings) -> Path:
    """Return the file in the cache that ``load_or_build`` keeps the catalog in."""
    # A set that is pretrained on here and split there has two catalogs, and each fold its own.
    if settings.split == "train":
        return dataset_cache(settings) / f"all-{CATALOG_FILE}"
    if settings.fold is not None:
        return dataset_cache(settings) / f"fold-{settings.fold}-of-{settings.folds}-{CATALOG_FILE}"
    return dataset_cache(settings) / CATALOG_FILE


def _saved(source: Reader, settings: DataSettings) -> Catalog | None:
    try:
        saved = Catalog.load(saved_as(settings))
    except LeakError:
        raise
    except DataError:
        return None  # missing, damaged or of an older format: the data set itself is at hand
    same = saved.summary.get("inputs_fingerprint") == _inputs(source, settings)
    formats = saved.summary["files"].get("formats", [])
    return saved if same and not decoders_changed(formats) else None


def _build(
    source: Reader,
    settings: DataSettings,
    hash_content: bool,
    workers: int | None,
    progress: Progress | None,
) -> Catalog:
    rows = source.rows()
    if settings.labels == WITHOUT_LABELS:
        rows = without_labels(rows)
    split, split_summary = assign_splits(
        rows.table, settings, rows.lists, source.name, rows.label_set, rows.own_split
    )
    checked = check_files(
        source.root,
        rows.table["path"],
        hash_content=hash_content,
        workers=workers,
        progress=progress,
        max_pixels=settings.max_pixels,
    )
    checked = set_lateral_aside(checked, rows.table["view_position"])
    table = pd.concat([rows.table.assign(split=split, source=source.name), checked], axis=1)
    table = typed(table, rows.label_set, source.root)
    origin: CatalogOrigin = {
        "source": source.name,
        "labeled": bool(rows.label_set.names),
        "classes": list(rows.label_set.names),
        **rows.summary,
        "intensity": INTENSITY,
        "split": split_summary,
        "files_fingerprint": _content_hash(table) or _image_hash(source.images, "path", "size"),
        "inputs_fingerprint": _inputs(source, settings),
        "max_pixels": settings.max_pixels,
    }
    audited = audit_catalog(table, checked, source, rows.label_set, origin)
    return Catalog(source.root, table, {**origin, **audited}, rows.label_set)


def _inputs(source: Reader, settings: DataSettings) -> str:
    read = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in source.inputs]
    split = settings.model_dump(mode="json", include=_DECIDES)
    images = _image_hash(source.images, "path", "size", "changed")
    return fingerprint([FORMAT, INTENSITY, source.name, str(source.root), read, split, images])


def _content_hash(table: pd.DataFrame) -> str:
    """Return a hash of the content of all usable images; empty where they were not hashed."""
    usable = table[table["status"].isin(["ok", "lateral"])]
    if usable.empty or (usable["content_hash"] == "").any():
        return ""
    return _image_hash(usable, "path", "content_hash")


def _image_hash(images: pd.DataFrame, *columns: str) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for name in columns:
        digest.update("\n".join(map(str, images[name].tolist())).encode())
    return digest.hexdigest()[:12]
