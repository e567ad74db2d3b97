"""A plain CSV table with the user's own classes: an image column, a patient column, 0/1 columns."""

from __future__ import annotations

import re
from functools import cached_property
from pathlib import PurePosixPath
from typing import Self

import pandas as pd

from medsgssl.data.labels import LabelSet
from medsgssl.data.readers.base import DataFolder, Reader, SourceRows
from medsgssl.data.readers.columns import (
    binary_labels,
    check_names,
    describe_images,
    label_table_columns,
)
from medsgssl.data.readers.patients import patients_of_paths, summarize_patients
from medsgssl.data.readers.scan import ImageFile, image_frame, path_id
from medsgssl.data.readers.text_table import KNOWN_COLUMNS, TextTable, list_some, read_text_table
from medsgssl.errors import ConfigError, DataError
from medsgssl.runs.data_summary import LabelsSummary
from medsgssl.utils.io import file_hash

_MASK_FOLDER = re.compile(r"(?i)(^|/)[^/]*masks?[^/]*/")
_SPLITS = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validate": "val",
    "validation": "val", "test": "test", "testing": "test", "": "",
}  # fmt: skip


class TableReader(Reader):
    """Any table that ``data.labels`` names and no other reader knows.

    ``image`` is a file name, found anywhere below the data folder (also without its suffix), or a
    path relative to it. Other columns are found by the usual names (``patient_id``, ``Patient
    Sex``, ``age``, ``ViewPosition``, ``split`` ...), or named by ``data.image_column`` and
    ``data.patient_column``. Classes are ``data.classes``, or every other column of 0, 1, blank, -1
    and "uncertain".
    """

    name = "table"
    rank = 90

    @classmethod
    def detect(cls, folder: DataFolder) -> Self | None:
        """Take any table that is named."""
        return None if folder.table is None else cls(folder, (folder.table,))

    @cached_property
    def images(self) -> pd.DataFrame:
        """The image files by path."""
        files = self.folder.scan.images
        return image_frame(files, [path_id(file.path) for file in files])

    def rows(self) -> SourceRows:
        """Read the table.

        Raises:
            ConfigError: ``data.classes`` or a column setting names what is not there.
            DataError: The table is malformed; the message names the line.
        """
        table = read_text_table(self.inputs[0])
        settings = self.folder.settings
        image = self._column(table, "image", settings.image_column)
        if image is None:
            raise DataError(
                f"{table.path} has no column of images; it has {list_some(table.text.columns)}",
                f"call it one of {list_some(KNOWN_COLUMNS['image'])}, or set data.image_column",
            )
        columns = {
            kind: table.column(kind)
            for kind in ("age", "sex", "view_position", "follow_up", "split")
        }
        columns["patient"] = self._column(table, "patient", settings.patient_column)
        wanted = set(settings.classes)
        columns = {k: None if name in wanted else name for k, name in columns.items()}
        taken = [image, *(name for name in columns.values() if name)]
        if settings.classes:
            _require_classes(table, settings.classes)
            classes = list(settings.classes)
            rest = [n for n in table.text.columns if n not in {*classes, *taken}]
        else:
            classes, rest = label_table_columns(table, taken)
        if not classes:
            raise DataError(
                f"{table.path} has no column of labels (0, 1, blank, -1 or uncertain); it has "
                f"{list_some(table.text.columns)}",
                "add one 0/1 column per class, or name them with data.classes; a column of names "
                "becomes such columns with pandas: table['label'].str.get_dummies('|')",
            )
        files = [self._file(table, row, value) for row, value in enumerate(table.text[image])]
        paths = [file.path if file else "" for file in files]
        ids = pd.Series(
            [
                path_id(path or _relative(value))
                for path, value in zip(paths, table.text[image], strict=True)
            ],
            dtype="str",
        )
        check_names(ids, table)
        labels = binary_labels(table, classes, settings.uncertain)
        described, column_summary = describe_images(table, {"image": image, **columns}, rest)
        summary: LabelsSummary = {
            "label_revision": table.path.name,
            "labels_file": str(table.path),
            "labels_hash": file_hash(table.path),
            "ages_set_missing": column_summary["not_understood"].get("age", 0),
            "columns": column_summary,
        }
        patients = self._patients(table, columns["patient"], paths, ids, summary)
        frame = pd.DataFrame({"image_id": ids, "path": paths, "patient_id": patients})
        unknown = bool(labels.isna().any(axis=None))
        label_set = LabelSet(table.path.name, tuple(classes), unknown, negative="none of them")
        own_split = None if columns["split"] is None else _own_split(table, columns["split"])
        frame = pd.concat([frame, described, labels], axis=1)
        return SourceRows(frame, summary, label_set, own_split=own_split)

    def _column(self, table: TextTable, kind: str, wanted: str | None) -> str | None:
        if wanted is None:
            return table.column(kind)
        if wanted not in table.text.columns:
            raise ConfigError(
                f"data.{kind}_column={wanted!r} is not in {table.path}",
                f"name one of: {list_some(table.text.columns)}",
            )
        return wanted

    def _patients(
        self, table: TextTable, column: str | None, paths: list[str], ids: pd.Series,
        summary: LabelsSummary,
    ) -> pd.Series:  # fmt: skip
        pattern = self.folder.settings.patient_pattern
        if column is not None and (pattern is None or self.folder.settings.patient_column):
            patients = table.text[column].astype("str")
            blank = (patients == "").to_numpy()
            if blank.any():
                raise DataError(
                    f"{table.where(int(blank.argmax()))}: no patient in the column {column!r}",
                    "fill it in, or find patients by their paths with data.patient_pattern",
                )
            rule, example = f"the column {column}", (ids.iloc[-1], patients.iloc[-1])
        else:
            by_path = patients_of_paths(
                [path or name for path, name in zip(paths, ids, strict=True)], pattern
            )
            patients, rule, example = by_path.series(), by_path.rule, by_path.example
            if pattern is None:
                summary["remarks"] = [
                    f"{table.path.name} has no column of patients: they are guessed from paths, by "
                    f"{rule} (for example {example[0]} -> {example[1]}). Name the column with "
                    "data.patient_column, or set data.patient_pattern"
                ]
        summary["patients"] = summarize_patients(patients, rule, example)
        return patients

    def _file(self, table: TextTable, row: int, value: str) -> ImageFile | None:
        """Return the image file that a cell names."""
        scan = self.folder.scan
        name = _relative(value)
        base = name.rpartition("/")[2]
        if not base or ".." in PurePosixPath(name).parts:
            raise DataError(
                f"{table.where(row)}: {value!r} is not an image below the data folder",
                "write the file name, or the path relative to the data folder",
            )
        if name in scan.by_path:
            return scan.by_path[name]
        files = scan.named(base)
        if "/" in name:
            # Tables often begin their paths with the name of the release, or with the folder that
            # the set had on another machine: what lies below the data folder decides.
            parts = _parts(name)
            files = [f for f in files if _ends_alike(parts, _parts(f.path))]
        if len(files) > 1:
            files = [f for f in files if not _MASK_FOLDER.search(f.path)] or files
        if len(files) > 1:
            raise DataError(
                f"{table.where(row)}: {value!r} is the name of {len(files)} files: "
                f"{list_some((file.path for file in files), 3)}",
                "write paths relative to the data folder",
            )
        return files[0] if files else None


def _relative(value: str) -> str:
    return value.replace("\\", "/").removeprefix("./")


def _parts(path: str) -> list[str]:
    """Return the folders of a path from the file up, without an empty first one."""
    return [part for part in path.split("/")[-2::-1] if part]


def _ends_alike(one: list[str], other: list[str]) -> bool:
    """Whether the shorter one of two lists of folders is the beginning of the longer one."""
    return all(a == b for a, b in zip(one, other, strict=False))


def _require_classes(table: TextTable, classes: tuple[str, ...]) -> None:
    absent = [name for name in classes if name not in table.text.columns]
    if absent:
        raise ConfigError(
            f"data.classes names {list_some(absent)}, which {table.path} has no column for",
            f"name some of: {list_some(table.text.columns)}",
        )


def _own_split(table: TextTable, column: str) -> pd.Series | None:
    """Return the splits of a column, where its values are splits."""
    values = table.text[column].str.lower()
    if not values.isin(list(_SPLITS)).all() or (values == "").all():
        return None
    return values.map(_SPLITS).astype("str")
