"""What a data set holds and lacks, in numbers and in words: ``catalog`` and ``data.json`` show it.

The files were checked by ``file_checks.py``.
"""

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
from medsgssl.utils.formatting import join_names, plural

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
            f"{files['missing']:,} of {total:,} images {plural(files['missing'], 'is', 'are')} "
            f"missing: {some}: no file of that name or path lies below the data folder"
            f"{_why_missing(table, scan)}"
        )
    if files["unreadable"]:
        some = _some(table.loc[table["status"] == "unreadable", "problem"].tolist())
        warnings.append(f"{files['unreadable']:,} of {total:,} images cannot be read: {some}")
    warnings += [
        f"{row['files']:,} {plural(row['files'], 'file is', 'files are')} {row['format']}, "
        f"which nothing installed here decodes: {row['install']}"
        for row in files.get("formats", [])
        if not row["readable"]
    ]
    if files["lateral"]:
        are = plural(files["lateral"], "is a lateral view", "are lateral views")
        warnings.append(f"{files['lateral']:,} of {total:,} images {are} and not used")
    if files["not_in_table"]:
        some = _some(files["not_in_table_first"], files["not_in_table"])
        are = plural(files["not_in_table"], "image file is", "image files are")
        warnings.append(
            f"{files['not_in_table']:,} {are} not in the label table and not used: {some}"
        )
    if listed := origin["split"].get("listed_without_row"):
        are = plural(listed, "listed image is", "listed images are")
        warnings.append(f"{listed:,} {are} not in the label table")
    if origin.get("other_labels_files"):
        warnings.append(
            f"labels are read from {origin['labels_file']}; "
            f"{_some(origin['other_labels_files'])} "
            f"{plural(len(origin['other_labels_files']), 'is', 'are')} there too and not used"
        )
    if label_set.names and files["usable"] and origin["split"]["kind"] != "train":
        warnings += _rare(table, label_set)
    duplicates = numbers["duplicates"]
    if duplicates and duplicates["groups_across_splits"]:
        some = _some(duplicates["across_splits_first"], duplicates["groups_across_splits"])
        are = plural(duplicates["groups_across_splits"], "image is", "images are")
        warnings.append(
            f"LEAK: {duplicates['groups_across_splits']:,} identical {are} in more than one "
            f"split under different names: {some}. Test figures will be too good: remove them"
        )
    elif duplicates and duplicates["images"]:
        repeat = plural(duplicates["images"], "image repeats", "images repeat")
        warnings.append(f"{duplicates['images']:,} {repeat} the content of another one")
    if duplicates and (count := duplicates.get("groups_of_other_labels", 0)):
        some = _some(duplicates.get("other_labels_first", []), count)
        groups = f"{count:,} {plural(count, 'group')}"
        warnings.append(f"In {groups}, identical images have different labels: {some}")
    return warnings


def _why_missing(table: pd.DataFrame, scan: Scan) -> str:
    """Return a guess, as the end of a sentence, why files of the table are missing; or nothing."""
    if archives := scan.archives():
        return f"; packed archives lie there ({archives}): unpack them"
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
                f"no column for {', '.join(columns['absent'])}: {total:,} "
                f"{plural(total, 'value is', 'values are')} missing"
                + (" in each" if len(columns["absent"]) > 1 else "")
                + (f"; not used: {_some(columns['not_used'])}" if columns["not_used"] else "")
            )
        warnings += [
            f"{count:,} {plural(count, 'value')} of {columns['found'].get(kind, kind)} "
            f"{plural(count, 'is', 'are')} no {kind} and set missing"
            for kind, count in columns["not_understood"].items()
        ]
    warnings += [
        f"{len(paths):,} {plural(len(paths), 'file or folder was', 'files or folders were')} "
        f"passed over, {why}: {_some(paths)}"
        for why, paths in scan.skipped.items()
    ]
    unknown = {s: n for s, n in scan.others.items() if s not in EXPECTED_SUFFIXES}
    if unknown:
        listed = _some([f"{count:,} {suffix}" for suffix, count in sorted(unknown.items())])
        count = sum(unknown.values())
        are = plural(count, "file is of a kind that is", "files are of kinds that are")
        warnings.append(f"{count:,} {are} not read: {listed}")
    return warnings


def _rare(table: pd.DataFrame, label_set: LabelSet) -> list[str]:
    usable = table[table["status"] == "ok"]
    counts = (
        usable.groupby("split")[list(label_set.names)].sum().reindex(list(SPLITS), fill_value=0)
    )
    return [
        f"no usable {split} image shows {join_names(absent)}: no metrics are computed there"
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
