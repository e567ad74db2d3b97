"""From a data folder to its catalog, built once and reused while nothing has changed."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pandas as pd

from medsgssl.catalog.audit import audit
from medsgssl.catalog.catalog import FORMAT, Catalog, typed
from medsgssl.catalog.check import Progress, check_files, set_lateral_aside
from medsgssl.catalog.place import CATALOG_FILE, cache_place, data_root
from medsgssl.catalog.splits import assign_splits
from medsgssl.config import DataSettings
from medsgssl.errors import DataError, LeakError
from medsgssl.files import fingerprint
from medsgssl.sources import INTENSITY, Source, find_source


def build_catalog(
    settings: DataSettings,
    *,
    hash_content: bool = False,
    labels: str | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Catalog:
    """Read tables and lists, check every file, give splits, count everything.

    Args:
        settings: ``root`` and the split settings are used.
        hash_content: Read whole files, for duplicates and damage inside PNGs.
        labels: File name of the label table, where there are several.
        workers: Threads that check files.
        progress: Called with (files done, files in all).

    Raises:
        ConfigError: No data folder is named.
        DataError: Tables or lists are malformed, or a split would be empty.
        LeakError: A patient is in two splits.
    """
    source = find_source(data_root(settings), labels)
    return _build(source, settings, hash_content, workers, progress)


def load_or_build(
    settings: DataSettings,
    *,
    hash_content: bool = False,
    labels: str | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Catalog:
    """Return the saved catalog of a data set, built anew where anything has changed.

    The saved one stands while tables, lists and image files (by name, size and time), the split
    settings and the catalog's format are the same. Arguments and errors as ``build_catalog``.
    """
    source = find_source(data_root(settings), labels)
    saved = _saved(source, settings)
    if saved is not None:
        hashed = saved.facts.get("duplicates") is not None
        if hashed or not hash_content or not saved.facts["files"]["usable"]:
            return saved
    catalog = _build(source, settings, hash_content, workers, progress)
    catalog.save(saved_as(settings))
    return catalog


def current_catalog(settings: DataSettings, labels: str | None = None) -> Catalog:
    """Return the catalog as ``load_or_build`` does, without saving it."""
    source = find_source(data_root(settings), labels)
    return _saved(source, settings) or _build(source, settings, False, None, None)


def saved_as(settings: DataSettings) -> Path:
    """Return the file in the cache that ``load_or_build`` keeps the catalog in."""
    # A set that is pretrained on here and split there has two catalogs.
    whole = settings.split == "train"
    return cache_place(settings) / (f"all-{CATALOG_FILE}" if whole else CATALOG_FILE)


def _saved(source: Source, settings: DataSettings) -> Catalog | None:
    try:
        saved = Catalog.load(saved_as(settings))
    except LeakError:
        raise
    except DataError:
        return None  # missing, damaged or of an older format: the data set itself is at hand
    same = saved.facts.get("inputs_fingerprint") == _inputs(source, settings)
    return saved if same else None


def _build(
    source: Source,
    settings: DataSettings,
    hash_content: bool,
    workers: int | None,
    progress: Progress | None,
) -> Catalog:
    rows = source.rows()
    split, split_facts = assign_splits(rows.table, settings, rows.lists, source.name)
    checked = check_files(
        source.root,
        rows.table["path"],
        hash_content=hash_content,
        workers=workers,
        progress=progress,
    )
    checked = set_lateral_aside(checked, rows.table["view"])
    table = pd.concat([rows.table.assign(split=split, source=source.name), checked], axis=1)
    table = typed(table, source.root)
    facts: dict[str, Any] = {
        "source": source.name,
        **rows.facts,
        "intensity": INTENSITY,
        "split": split_facts,
        "files_fingerprint": _image_hash(source.images, "path", "size"),
        "inputs_fingerprint": _inputs(source, settings),
    }
    return Catalog(source.root, table, facts | audit(table, source.images, facts))


def _inputs(source: Source, settings: DataSettings) -> str:
    read = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in source.inputs]
    split = settings.model_dump(
        mode="json", include={"split", "split_seed", "val_share", "test_share"}
    )
    images = _image_hash(source.images, "path", "size", "changed")
    return fingerprint([FORMAT, INTENSITY, source.name, str(source.root), read, split, images])


def _image_hash(images: pd.DataFrame, *columns: str) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for name in columns:
        digest.update("\n".join(map(str, images[name].tolist())).encode())
    return digest.hexdigest()[:12]
