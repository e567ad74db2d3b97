"""The audit as it is printed."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from medsgssl.runs.data_summary import CatalogSummary, DuplicateCounts, FileCounts

#: Reasons that are listed by name.
_SHOWN = 8


def audit_view(facts: CatalogSummary) -> RenderableType:
    """Render a catalog's facts: where the labels come from, counts, warnings.

    Args:
        facts: ``Catalog.facts``.
    """
    parts: list[RenderableType] = [_summary(facts), _splits(facts)]
    parts += [Text(f"Warning: {line}", style="yellow") for line in facts["warnings"]]
    return Group(*parts)


def _summary(facts: CatalogSummary) -> Table:
    files, split, duplicates = facts["files"], facts["split"], facts["duplicates"]
    shown = Table(show_header=False, box=None, pad_edge=False)
    rows = {
        "Data set": facts["source"],
        "Labels": f"{facts['label_revision']} ({facts.get('labels_file', 'no table')})",
        **_understood(facts),
        "Images": f"{files['rows']:,} ({files['usable']:,} usable, {files['missing']:,} missing, "
        f"{files['unreadable']:,} unreadable, {files['lateral']:,} lateral)",
        "Read as": _formats(files),
        **({"Set aside": _counted(files["set_aside"])} if files.get("set_aside") else {}),
        "Rotation tags": f"{files.get('rotation_tags', 0):,} images (not followed)",
        "Not in the table": f"{files['not_in_table']:,} files",
        "Ages set missing": f"{facts.get('ages_set_missing', 0):,}",
        "Split": split["kind"] + ("" if split["seed"] is None else f", seed {split['seed']}"),
        "Validation": split["validation"],
        "Duplicates": "not looked for (--hash)" if duplicates is None else _duplicates(duplicates),
    }
    for name, value in rows.items():
        shown.add_row(f"[bold]{name}[/]", escape(value))
    return shown


def _formats(files: FileCounts) -> str:
    """Return the formats of the files, with what to install where a decoder is missing."""
    rows = [
        f"{row['files']:,} {row['format']}"
        + ("" if row["readable"] else f", which cannot be decoded here: {row['install']}")
        for row in files.get("formats", [])
    ]
    return "; ".join(rows) or "nothing"


def _counted(reasons: dict[str, int]) -> str:
    shown = [f"{count:,}: {reason}" for reason, count in list(reasons.items())[:_SHOWN]]
    return "; ".join(shown) + ("; ..." if len(reasons) > _SHOWN else "")


def _understood(facts: CatalogSummary) -> dict[str, str]:
    """Return what was understood of patients, columns and files, where the reader tells."""
    rows = {}
    if "patients" in facts:
        known = facts["patients"]
        rows["Patients"] = (
            f"{known['patients']:,} of {known['images']:,} images, by {known['rule']} "
            f"({known['example']})"
        )
    if "columns" in facts:
        columns = facts["columns"]
        rows["Columns"] = ", ".join(f"{kind}: {name}" for kind, name in columns["found"].items())
        rows["No column for"] = ", ".join(columns["absent"]) or "nothing"
        if columns["not_used"]:
            rows["Columns not used"] = ", ".join(columns["not_used"])
    others = facts["files"].get("other_files", {})
    rows["Other files"] = ", ".join(f"{n:,} {suffix}" for suffix, n in others.items()) or "none"
    return rows


def _duplicates(numbers: DuplicateCounts) -> str:
    return f"{numbers['images']:,} images, {numbers['groups_across_splits']:,} across splits"


def _splits(facts: CatalogSummary) -> Table:
    splits = facts["splits"]
    shown = Table()
    shown.add_column("")
    for name in splits:
        shown.add_column(name, justify="right")
    shown.add_row("patients", *(f"{n['patients']:,}" for n in splits.values()))
    shown.add_row("images", *(f"{n['images']:,}" for n in splits.values()))
    shown.add_row("usable", *(f"{n['usable']:,}" for n in splits.values()))
    classes = facts.get("classes", [])
    if classes:
        shown.add_section()
        for name in classes:
            shown.add_row(escape(name), *(f"{n['positives'][name]:,}" for n in splits.values()))
        rest = [name for name in facts["labels"] if name not in classes]
        lines = [f"{name}: {facts['labels'][name]:,} images" for name in rest]
        unknown = sum(facts.get("unknown_labels", {}).values())
        lines += [f"Unknown labels: {unknown:,}"] if unknown else []
        shown.caption = escape("\n".join(lines))
    return shown
