"""Joins the shards of several machines into one store, and checks that nothing is missing."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from medsgssl.errors import MaskError
from medsgssl.files import atomic_path, write_json
from medsgssl.masks.store import STORE_FILE, MaskStore


def merge_shards(folders: Sequence[Path], out: Path) -> MaskStore:
    """Join the complete shards of one data set.

    Args:
        folders: One store per shard, in any order.
        out: Folder of the joined store; it must not hold a store yet.

    Returns:
        The joined store.

    Raises:
        MaskError: A shard is missing, incomplete, given twice or of other masks.
    """
    if not folders:
        raise MaskError("there are no shards to merge", "name the folders of all shards")
    if (out / STORE_FILE).exists() or any(out.glob("part-*.parquet")):
        raise MaskError(f"{out} already holds masks", "choose a new folder")
    stores = [MaskStore.open(folder) for folder in folders]
    whole = replace(stores[0].header, shard=(1, 1))
    for store in stores:
        if replace(store.header, shard=(1, 1)) != whole:
            raise MaskError(
                f"{store.folder} was made by another recipe or for other images than "
                f"{stores[0].folder}",
                "make all shards with the same recipe, version and data set",
            )
        if not store.complete:
            raise MaskError(
                f"{store.folder} holds {len(store)} of {store.header.expected} images",
                "finish this shard by running its command again",
            )
    _check_all_present(stores)
    for store in stores:
        for part in sorted(store.folder.glob("part-*.parquet")):
            with atomic_path(out / part.name) as temporary:
                shutil.copyfile(part, temporary)
    write_json(out / STORE_FILE, whole.as_json())
    return MaskStore.open(out)


def _check_all_present(stores: Sequence[MaskStore]) -> None:
    count = stores[0].header.shard[1]
    given = sorted(store.header.shard for store in stores)
    expected = [(i, count) for i in range(1, count + 1)]
    if given != expected:
        missing = [f"{i}/{n}" for i, n in expected if (i, n) not in given]
        said = f"missing: {', '.join(missing)}" if missing else "a shard is given twice"
        raise MaskError(
            f"the {len(stores)} folders are not the {count} shards of one data set ({said})",
            "name the folder of every shard exactly once",
        )
