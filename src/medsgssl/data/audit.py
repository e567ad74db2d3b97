"""What a data set holds and lacks, in numbers and in words."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import PurePosixPath

import pandas as pd

from medsgssl.data.file_checks import file_formats, note_warnings, set_aside_reasons
from medsgssl.data.labels import LabelSet, label_array
from medsgssl.data.readers.base import Reader
from medsgssl.data.readers.patients import patient_warning
from medsgssl.data.readers.scan import EXPECTED_SUFFIXES, Scan
from medsgssl.data.splits import SPLITS
from medsgssl.runs.data_summary import Audit, CatalogOrigin, DuplicateCounts, SplitCounts
from medsgssl.utils.formatting import join_names

_SHOWN = 5


def audit_catalog(
    table: pd.DataFrame,
    checked: pd.DataFrame,
    source: Reader,
    label_set: LabelSet,
    origin: CatalogOrigin,
) -> Audit:
    """Count files, labels, splits and duplicates.

    Args:
        table: The catalog's table.
        checked: What ``check_files`` showed of the files.
        source: Its files.
        label_set: Names the columns of the labels.
        origin: What the catalog is made from.

    Returns:
        The counts, and warnings as sentences. Labels are counted over all rows, also those whose
        image is missing.
    """
    scan = source.folder.scan
    used = set(table["path"])
    names = {path.rpartition("/")[2] for path in used}
    # Files of one name, such as masks beside images, are no images that a table forgot.
    extra = [f.path for f in scan.images if f.path not in used
             and f.path.rpartition("/")[2] not in names]  # fmt: skip
    status = table["status"].value_counts()
    numbers: Audit = {
        "files": {
            "rows": len(table),
            "usable": int(status.get("ok", 0)),
            "missing": int(status.get("missing", 0)),
            "unreadable": int(status.get("unreadable", 0)),
            "lateral": int(status.get("lateral", 0)),
            "not_in_table": len(extra),
            "not_in_table_first": extra[:_SHOWN],
            "other_files": scan.others,
            "passed_over": {why: len(names) for why, names in scan.skipped.items()},
            "links": len(scan.links),
            "links_first": list(scan.links[:_SHOWN]),
            "formats": file_formats(checked),
            "set_aside": set_aside_reasons(checked),
            "rotation_tags": int(checked["rotated"].sum()),
        },
        "labels": _label_counts(table, label_set),
        "unknown_labels": _unknown_counts(table, label_set),
        "splits": {name: _split_counts(table, name, label_set) for name in SPLITS},
        "duplicates": _duplicates(table, label_set),
        "warnings": [],
    }
    numbers["warnings"] = [
        *_reading_warnings(len(table), scan, origin),
        *_warnings(table, numbers, label_set, origin, scan),
        *note_warnings(checked),
    ]
    return numbers


def _label_counts(table: pd.DataFrame, label_set: LabelSet) -> dict[str, int]:
    counts = {name: int(table[name].sum()) for name in label_set.names}
    if not label_set.negative:
        return counts
    none = (label_array(table, label_set.names) == 0).all(axis=1)
    return counts | {label_set.negative: int(none.sum())}


def _unknown_counts(table: pd.DataFrame, label_set: LabelSet) -> dict[str, int]:
    counts = {name: int(table[name].isna().sum()) for name in label_set.names}
    return {name: count for name, count in counts.items() if count}


def _split_counts(table: pd.DataFrame, name: str, label_set: LabelSet) -> SplitCounts:
    rows = table[table["split"] == name]
    positives = {label: int(rows[label].sum()) for label in label_set.names}
    return {
        "patients": int(rows["patient_id"].nunique()),
        "images": len(rows),
        "usable": int((rows["status"] == "ok").sum()),
        "positives": positives,
    }


def _duplicates(table: pd.DataFrame, label_set: LabelSet) -> DuplicateCounts | None:
    hashed = table[table["content_hash"] != ""]
    if hashed.empty:
        return None
    groups = hashed[hashed["content_hash"].duplicated(keep=False)].groupby("content_hash")
    splits, patients = groups["split"].nunique(), groups["patient_id"].nunique()
    names = groups["image_id"].agg(list)
    across, differing = names[splits > 1], names.iloc[:0]
    if label_set.names:
        differ = groups[list(label_set.names)].nunique(dropna=False).max(axis=1) > 1
        differing = names[differ]
    return {
        "images": int(hashed["content_hash"].duplicated().sum()),
        "groups": int(groups.ngroups),
        "groups_across_patients": int((patients > 1).sum()),
        "groups_across_splits": len(across),
        "groups_of_other_labels": len(differing),
        "across_splits_first": [same_images(same) for same in across.iloc[:_SHOWN]],
        "other_labels_first": [same_images(same) for same in differing.iloc[:_SHOWN]],
    }


def _warnings(
    table: pd.DataFrame, numbers: Audit, label_set: LabelSet, origin: CatalogOrigin, scan: Scan
) -> list[str]:
    files, total = numbers["files"], len(table)
    warnings = []
    if files["missing"]:
        some = _some(table.loc[table["status"] == "missing", "image_id"].tolist())
        warnings.append(
            f"{files['missing']:,} of {total:,} images are missing: {some}: no file of that "
            f"name or path lies below the data folder{_why_missing(table, scan)}"
        )
    if files["unreadable"]:
        some = _some(table.loc[table["status"] == "unreadable", "problem"].tolist())
        warnings.append(f"{files['unreadable']:,} of {total:,} images cannot be read: {some}")
    warnings += [
        f"{row['files']:,} files are {row['format']}, which nothing installed here decodes: "
        f"{row['install']}"
        for row in files.get("formats", [])
        if not row["readable"]
    ]
    if files["lateral"]:
        warnings.append(f"{files['lateral']:,} of {total:,} images are lateral views and not used")
    if files["not_in_table"]:
        some = _some(files["not_in_table_first"], files["not_in_table"])
        warnings.append(
            f"{files['not_in_table']:,} image files are not in the label table and are not used: "
            f"{some}"
        )
    if origin["split"].get("listed_without_row"):
        warnings.append(
            f"{origin['split']['listed_without_row']:,} listed images are not in the label table"
        )
    if origin.get("other_labels_files"):
        warnings.append(
            f"labels are read from {origin['labels_file']}; "
            f"{_some(origin['other_labels_files'])} is there too and not used"
        )
    if label_set.names and files["usable"] and origin["split"]["kind"] != "train":
        warnings += _rare(table, label_set)
    duplicates = numbers["duplicates"]
    if duplicates and duplicates["groups_across_splits"]:
        some = _some(duplicates["across_splits_first"], duplicates["groups_across_splits"])
        warnings.append(
            f"LEAK: {duplicates['groups_across_splits']:,} identical images are in more than one "
            f"split under different names: {some}. Test figures will be too good: remove them"
        )
    elif duplicates and duplicates["images"]:
        warnings.append(f"{duplicates['images']:,} images repeat the content of another one")
    if duplicates and (count := duplicates.get("groups_of_other_labels", 0)):
        some = _some(duplicates.get("other_labels_first", []), count)
        groups = f"{count:,} group{'s' if count > 1 else ''}"
        warnings.append(f"In {groups}, identical images have different labels: {some}")
    return warnings


def _why_missing(table: pd.DataFrame, scan: Scan) -> str:
    """Return a guess, as the end of a sentence, why files of the table are missing; or nothing."""
    if archives := scan.archives():
        return f"; {archives} lie there: unpack them"
    without_zeros = {stem.lstrip("0"): stem for stem in scan.by_stem if stem.startswith("0")}
    names = table.loc[table["status"] == "missing", "image_id"]
    for stem in (PurePosixPath(name).stem for name in names):
        if stem.isdigit() and stem in without_zeros:
            file = scan.by_stem[without_zeros[stem]][0].path
            return f"; {file} is there: the table's names may have lost their leading zeros"
    return ""


def _reading_warnings(total: int, scan: Scan, origin: CatalogOrigin) -> list[str]:
    """Say what was not understood of the tables, the folders and the patients."""
    warnings = list(origin.get("remarks", []))
    if "patients" in origin and (question := patient_warning(origin["patients"])):
        warnings.append(question)
    if "columns" in origin:
        columns = origin["columns"]
        if columns["absent"]:
            warnings.append(
                f"no column for {', '.join(columns['absent'])}: {total:,} values are missing"
                + (" in each" if len(columns["absent"]) > 1 else "")
                + (f"; not used: {_some(columns['not_used'])}" if columns["not_used"] else "")
            )
        warnings += [
            f"{count:,} values of {columns['found'].get(kind, kind)} are no {kind} and set missing"
            for kind, count in columns["not_understood"].items()
        ]
    warnings += [
        f"{len(paths):,} files or folders were passed over, {why}: {_some(paths)}"
        for why, paths in scan.skipped.items()
    ]
    unknown = {s: n for s, n in scan.others.items() if s not in EXPECTED_SUFFIXES}
    if unknown:
        listed = _some([f"{count:,} {suffix}" for suffix, count in sorted(unknown.items())])
        warnings.append(f"{sum(unknown.values()):,} files are of kinds that are not read: {listed}")
    return warnings


def _rare(table: pd.DataFrame, label_set: LabelSet) -> list[str]:
    usable = table[table["status"] == "ok"]
    counts = (
        usable.groupby("split")[list(label_set.names)].sum().reindex(list(SPLITS), fill_value=0)
    )
    return [
        f"no usable {split} image shows {join_names(absent)}: no figure can be given there"
        for split in SPLITS
        if (absent := [name for name in label_set.names if not counts.loc[split, name]])
    ]


def same_images(names: Iterable[str]) -> str:
    """Name the images of one content; of many, e.g. all blank ones of a set, some and the count."""
    listed = sorted(names)
    rest = len(listed) - _SHOWN
    return " = ".join(listed[:_SHOWN]) + (f" and {rest:,} more" if rest > 0 else "")


def _some(names: list[str], total: int | None = None) -> str:
    rest = (len(names) if total is None else total) - min(len(names), _SHOWN)
    return "; ".join(names[:_SHOWN]) + (f" and {rest:,} more" if rest else "")
