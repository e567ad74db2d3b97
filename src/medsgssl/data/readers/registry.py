"""Recognizes which data set a folder holds, by the readers of this package and of other ones."""

from __future__ import annotations

import functools
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path

from medsgssl.config.schema import DataSettings
from medsgssl.data.labels import NO_LABELS
from medsgssl.data.paths import require_folder
from medsgssl.data.readers.base import DataFolder, Reader, SourceRows
from medsgssl.data.readers.scan import Scan, scan_folder
from medsgssl.data.readers.text_table import KNOWN_COLUMNS, list_some, read_header
from medsgssl.errors import DataError
from medsgssl.runs.data_summary import LabelsSummary
from medsgssl.utils.plugins import import_files, load_entry_points, unusable

GROUP = "medsgssl.readers"

#: ``data.labels=none``: images without labels, whatever tables lie there.
WITHOUT_LABELS = "none"
_WITHOUT_TABLES = ("folder", "class-folders")
_TABLE_SUFFIXES = (".csv", ".tsv", ".csv.gz", ".xlsx", ".xls")


@functools.cache
def readers() -> tuple[type[Reader], ...]:
    """Return every reader in the order in which they are asked.

    Raises:
        ConfigError: An entry point is no reader.
    """
    package = "medsgssl.data.readers"
    import_files(package)
    known = {
        cls.name: cls for cls in Reader.__subclasses__() if cls.__module__.startswith(f"{package}.")
    }
    for name, cls in load_entry_points(GROUP):
        if not (isinstance(cls, type) and issubclass(cls, Reader)):
            raise unusable(GROUP, name, f"{cls!r} is no Reader class")
        known[cls.name] = cls
    return tuple(sorted(known.values(), key=lambda cls: (cls.rank, cls.name)))


def find_source(root: Path, settings: DataSettings | None = None) -> Reader:
    """Find the data set in a folder.

    Args:
        root: Folder of the data set.
        settings: ``labels`` (a table, ``folders``, ``none``) and the other data settings.

    Raises:
        DataError: The folder does not exist, holds no images, or holds a table that is not
            understood.
    """
    root, settings = root.absolute(), settings or DataSettings()
    require_folder(root)
    files = scan_folder(root)
    named = named_table(root, settings)
    folder = DataFolder(files, settings, named, _header_of(named))
    for reader in readers():
        if reader.name == "folder" and settings.labels != WITHOUT_LABELS:
            _refuse_tables(files)
        source = reader.detect(folder)
        if source is not None:
            return source
    raise DataError(
        f"{root} holds no images and no known label table"
        + (f"; it holds {_other_files(files)}" if files.others else ""),
        "unpack its archives" if files.archives() else "name the folder of its images and tables",
    )


def _header_of(table: Path | None) -> tuple[str, ...]:
    return tuple(read_header(table)) if table is not None and table.suffix != ".npz" else ()


def named_table(root: Path, settings: DataSettings) -> Path | None:
    """Return the table that ``data.labels`` names.

    Raises:
        DataError: It does not exist.
    """
    if settings.labels is None or settings.labels in (WITHOUT_LABELS, "folders"):
        return None
    path = root / Path(settings.labels).expanduser()  # an absolute path stays as it is
    if not path.is_file():
        tables = [other.name for other in root.iterdir() if _is_table(other)]
        near = get_close_matches(path.name, tables, n=1)
        hint = f"; did you mean data.labels={near[0]}?" if near else ""
        raise DataError(
            f"{path} does not exist{hint}",
            "let data.labels name a table by its path relative to the data folder or by its "
            "absolute path",
        )
    return path


def without_labels(rows: SourceRows) -> SourceRows:
    """Return rows with their labels left out."""
    summary: LabelsSummary = {**rows.summary, "label_revision": "none"}
    table = rows.table.drop(columns=list(rows.label_set.names))
    return replace(rows, table=table, summary=summary, label_set=NO_LABELS)


def _refuse_tables(files: Scan) -> None:
    """Refuse to read a folder as one without labels while a table lies there.

    Raises:
        DataError: A table is there.
    """
    tables = sorted(path.name for path in files.root.iterdir() if _is_table(path))
    if not tables:
        _refuse_set_below(files)
        return
    columns = read_header(files.root / tables[0])
    has = f" (its columns: {list_some(columns)})" if columns else ""
    raise DataError(
        f"{files.root} holds the table {tables[0]}{has}, which is not that of a known release",
        f"read it with data.labels={tables[0]}: it needs a column of images ("
        f"{list_some(KNOWN_COLUMNS['image'], 3)}), one of patients and one 0/1 column per class; "
        "or "
        f"read the images without labels with data.labels={WITHOUT_LABELS}",
    )


def _refuse_set_below(files: Scan) -> None:
    """Refuse a folder whose one known data set, with its tables, lies in a folder below it.

    Raises:
        DataError: There is such a folder.
    """
    folders = {path.parent for path in files.root.glob("*/*") if _is_table(path)}
    for folder in sorted(folders):
        below = DataFolder(scan_folder(folder), DataSettings(), None, ())
        tabular = (reader for reader in readers() if reader.name not in _WITHOUT_TABLES)
        known = next((reader for reader in tabular if reader.detect(below) is not None), None)
        if known is not None:
            raise DataError(
                f"{files.root} holds no table itself, and {folder.name} below it holds the tables "
                f"of {known.name}",
                f"give {folder} as the data folder; or read the images without labels with "
                f"data.labels={WITHOUT_LABELS}",
            )


def _is_table(path: Path) -> bool:
    name = path.name.lower()
    return name.endswith(_TABLE_SUFFIXES) and not name.startswith(".") and path.is_file()


def _other_files(files: Scan) -> str:
    return ", ".join(f"{count:,} {suffix}" for suffix, count in sorted(files.others.items()))
