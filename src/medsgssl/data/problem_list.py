"""The full lists behind the warnings of a catalog, which name only the first few."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from medsgssl.data.catalog import Catalog
from medsgssl.utils.io import atomic_path, csv_text

COLUMNS = ["what", "image_id", "path", "patient_id", "split", "reason"]


def list_problems(catalog: Catalog) -> pd.DataFrame:
    """Return one row per image that is not used or stands twice, in the order of the catalog.

    Args:
        catalog: With or without content hashes; without them no duplicates are known.

    Returns:
        ``what`` is ``missing``, ``unreadable``, ``lateral`` or ``duplicate``; ``reason`` the
        problem, or the images of the same content.
    """
    table = catalog.table
    unused = table[table["status"] != "ok"].assign(
        what=lambda rows: rows["status"], reason=lambda rows: rows["problem"]
    )
    hashed = table[table["content_hash"] != ""]
    same_content = hashed.groupby("content_hash")["image_id"].agg(" = ".join)
    twice = hashed[hashed["content_hash"].duplicated(keep=False)].assign(
        what="duplicate", reason=lambda rows: rows["content_hash"].map(same_content)
    )
    return pd.concat([unused, twice])[COLUMNS].reset_index(drop=True)


def write_problem_list(catalog: Catalog, path: Path) -> int:
    """Write `list_problems` as CSV; nothing is written where it is empty.

    Args:
        catalog: The catalog.
        path: The file.

    Returns:
        The number of rows.
    """
    rows = list_problems(catalog)
    if rows.empty:
        path.unlink(missing_ok=True)
        return 0
    with atomic_path(path) as temporary:
        temporary.write_text(csv_text(rows))
    return len(rows)
