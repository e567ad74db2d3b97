"""A catalog for people: the audit as a table, and a file of all images with a problem."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from medsgssl.data.audit import same_images
from medsgssl.data.catalog import Catalog
from medsgssl.runs.data_summary import CatalogSummary, DuplicateCounts, FileCounts
from medsgssl.utils.formatting import join_names, plural
from medsgssl.utils.io import atomic_path, csv_text

#: Reasons that are listed by name.
_SHOWN = 8
#: Columns of the file of problems.
PROBLEM_COLUMNS = ["what", "image_id", "path", "patient_id", "split", "reason"]


def audit_view(summary: CatalogSummary) -> RenderableType:
    """Render a catalog's facts: where the labels come from, counts, warnings.

    Args:
        summary: ``Catalog.summary``.
    """
    parts: list[RenderableType] = [_summary(summary), _splits(summary)]
    parts += [Text(f"Warning: {line}", style="yellow") for line in summary["warnings"]]
    return Group(*parts)


def _summary(summary: CatalogSummary) -> Table:
    files, split, duplicates = summary["files"], summary["split"], summary["duplicates"]
    table = Table(show_header=False, box=None, pad_edge=False)
    rotated, outside = files.get("rotation_tags", 0), files["not_in_table"]
    rows = {
        "Data set": summary["source"],
        "Labels": f"{summary['label_revision']} ({summary.get('labels_file', 'no table')})",
        **_understood(summary),
        "Images": f"{files['rows']:,} ({files['usable']:,} usable, {files['missing']:,} missing, "
        f"{files['unreadable']:,} unreadable, {files['lateral']:,} lateral)",
        "Read as": _formats(files),
        **({"Set aside": _counted(files["set_aside"])} if files.get("set_aside") else {}),
        "Rotation tags": f"{rotated:,} {plural(rotated, 'image')} (not followed)",
        "Not in the table": f"{outside:,} {plural(outside, 'file')}",
        "Ages set missing": f"{summary.get('ages_set_missing', 0):,}",
        "Split": split["kind"] + ("" if split["seed"] is None else f", seed {split['seed']}"),
        "Validation": split["validation"],
        "Duplicates": "not looked for (--hash)" if duplicates is None else _duplicates(duplicates),
    }
    for name, value in rows.items():
        table.add_row(f"[bold]{name}[/]", escape(value))
    return table


def _formats(files: FileCounts) -> str:
    """Return the formats of the files, with what to install where a decoder is missing."""
    rows = [
        f"{row['files']:,} {row['format']}"
        + ("" if row["readable"] else f", which cannot be decoded here: {row['install']}")
        for row in files.get("formats", [])
    ]
    return "; ".join(rows) or "nothing"


def _counted(reasons: dict[str, int]) -> str:
    listed = [f"{count:,}: {reason}" for reason, count in list(reasons.items())[:_SHOWN]]
    return "; ".join(listed) + ("; ..." if len(reasons) > _SHOWN else "")


def _understood(summary: CatalogSummary) -> dict[str, str]:
    """Return what was understood of patients, columns and files, where the reader tells."""
    rows = {}
    if "patients" in summary:
        known = summary["patients"]
        rows["Patients"] = (
            f"{known['patients']:,} of {known['images']:,} "
            f"{plural(known['images'], 'image')}, by {known['rule']} "
            f"({known['example']})"
        )
    if "columns" in summary:
        columns = summary["columns"]
        rows["Columns"] = ", ".join(f"{kind}: {name}" for kind, name in columns["found"].items())
        rows["No column for"] = ", ".join(columns["absent"]) or "nothing"
        if columns["not_used"]:
            rows["Columns not used"] = join_names(columns["not_used"])
    others = summary["files"].get("other_files", {})
    rows["Other files"] = ", ".join(f"{n:,} {suffix}" for suffix, n in others.items()) or "none"
    if links := summary["files"].get("links", 0):
        first = summary["files"].get("links_first", [])
        more = f" and {links - len(first):,} more" if links > len(first) else ""
        rows["Linked folders"] = ", ".join(first) + more
    return rows


def _duplicates(numbers: DuplicateCounts) -> str:
    images = numbers["images"]
    return (
        f"{images:,} {plural(images, 'image')}, {numbers['groups_across_splits']:,} across splits"
    )


def _splits(summary: CatalogSummary) -> Table:
    splits = summary["splits"]
    table = Table()
    table.add_column("")
    for name in splits:
        table.add_column(name, justify="right")
    table.add_row("patients", *(f"{n['patients']:,}" for n in splits.values()))
    table.add_row("images", *(f"{n['images']:,}" for n in splits.values()))
    table.add_row("usable", *(f"{n['usable']:,}" for n in splits.values()))
    classes = summary.get("classes", [])
    if classes:
        table.add_section()
        for name in classes:
            table.add_row(escape(name), *(f"{n['positives'][name]:,}" for n in splits.values()))
        rest = [name for name in summary["labels"] if name not in classes]
        counts = [(name, summary["labels"][name]) for name in rest]
        lines = [f"{name}: {count:,} {plural(count, 'image')}" for name, count in counts]
        unknown = sum(summary.get("unknown_labels", {}).values())
        lines += [f"Unknown labels: {unknown:,}"] if unknown else []
        if any(n["usable"] < n["images"] for n in splits.values()):
            lines.append("Labels are counted in all images, usable or not.")
        table.caption = escape("\n".join(lines))
    return table


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
    repeated = hashed[hashed["content_hash"].duplicated(keep=False)]
    same_content = repeated.groupby("content_hash")["image_id"].agg(same_images)
    twice = repeated.assign(
        what="duplicate", reason=lambda rows: rows["content_hash"].map(same_content)
    )
    return pd.concat([unused, twice])[PROBLEM_COLUMNS].reset_index(drop=True)


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
