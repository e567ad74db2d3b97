"""One folder per class, e.g. ``train/NORMAL`` and ``train/PNEUMONIA``, with or without splits."""

from __future__ import annotations

import re
from functools import cached_property
from typing import Self

import numpy as np
import pandas as pd

from medsgssl.data.labels import LabelSet
from medsgssl.data.readers.base import DataFolder, Reader, SourceRows, unknown_description
from medsgssl.data.readers.patients import patients_of_paths, summarize_patients
from medsgssl.data.readers.scan import image_frame, path_id
from medsgssl.errors import DataError
from medsgssl.runs.data_summary import LabelsSummary
from medsgssl.utils.formatting import plural

#: ``data.labels=folders`` says that folders are classes.
BY_FOLDER = "folders"

_SPLITS = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val",
    "test": "test", "testing": "test",
}  # fmt: skip
_NEGATIVE = re.compile(r"(?i)(normal|healthy|negative|no[ _-]?finding|controls?)")
_IMAGE_FOLDER = re.compile(r"(?i)(images?|imgs?)")
_MASK_FOLDER = re.compile(r"(?i).*masks?")
_MOST_CLASSES = 30


class ClassFolderReader(Reader):
    """Images in folders that are called like their class.

    Recognized where one of the folders is called like a negative class (``NORMAL``, ``healthy``,
    ``No Finding`` ...), or where ``data.labels=folders`` says so. The negative class is no output:
    its images are those without any finding. Folders of splits (``train``, ``val``, ``test``)
    above the classes are the data set's own split.
    """

    name = "class-folders"
    rank = 80

    @classmethod
    def detect(cls, folder: DataFolder) -> Self | None:
        """Recognize the layout by its folders."""
        asked = folder.settings.labels == BY_FOLDER
        if folder.table is not None or (folder.settings.labels and not asked):
            return None
        classes = {
            split_and_class[1]
            for file in folder.scan.images
            if (split_and_class := _split_and_class(file.path))
        }
        named = any(_NEGATIVE.fullmatch(name) for name in classes)
        if asked or (named and 2 <= len(classes) <= _MOST_CLASSES):
            if len(classes) < 2:
                raise DataError(
                    f"{folder.root} has no folders of classes, e.g. train/NORMAL, train/PNEUMONIA",
                    "put the images of each class into a folder of its own",
                )
            return cls(folder)
        return None

    @cached_property
    def images(self) -> pd.DataFrame:
        """The image files."""
        files = self.folder.scan.images
        return image_frame(files, [path_id(file.path) for file in files])

    def rows(self) -> SourceRows:
        """Give one row per image below a class."""
        labeled = [(file, split_and_class) for file in self.folder.scan.images
                  if (split_and_class := _split_and_class(file.path))]  # fmt: skip
        names = sorted({name for _, (_, name) in labeled})
        negative = next((name for name in names if _NEGATIVE.fullmatch(name)), "")
        classes = self.folder.settings.classes or tuple(n for n in names if n != negative)
        absent = [name for name in classes if name not in names]
        if absent:
            raise DataError(
                f"{self.root} has no folder of the class {absent[0]!r}",
                f"name some of: {', '.join(names)}",
            )
        paths = [file.path for file, _ in labeled]
        patients = patients_of_paths(
            [_below_class(path) for path in paths], self.folder.settings.patient_pattern
        )
        ids = patients.series()
        split = pd.Series([split for _, (split, _) in labeled], dtype="str")
        frame = pd.DataFrame(
            {"image_id": [path_id(path) for path in paths], "path": paths, "patient_id": ids}
        )
        frame = pd.concat([frame, unknown_description(ids.index)], axis=1)
        assigned = np.array([name for _, (_, name) in labeled])
        for name in classes:
            frame[name] = pd.Series((assigned == name).astype(np.int8), dtype="Int8")
        summary: LabelsSummary = {"label_revision": "folders", "labels_file": "names of folders"}
        has_split = {"train", "test"} <= set(split)
        if has_split and self.folder.settings.patient_pattern is None:
            frame["patient_id"], remark = _apart(frame["patient_id"], split)
            summary["remarks"] = [remark] if remark else []
        summary["patients"] = summarize_patients(
            frame["patient_id"], patients.rule, (paths[-1], frame["patient_id"].iloc[-1])
        )
        label_set = LabelSet(self.name, classes, negative=negative)
        return SourceRows(frame, summary, label_set, own_split=split if has_split else None)


def _split_and_class(path: str) -> tuple[str, str] | None:
    """Return split (or ``""``) and class of an image; None where it lies in no class."""
    folders = path.split("/")[:-1]
    if any(_MASK_FOLDER.fullmatch(folder) for folder in folders):
        return None
    # Archives hold a folder of their own around the splits.
    start = next((i for i, name in enumerate(folders) if name.lower() in _SPLITS), None)
    split = "" if start is None else _SPLITS[folders[start].lower()]
    rest = folders[0 if start is None else start + 1 :]
    rest = [name for name in rest if not _IMAGE_FOLDER.fullmatch(name)]
    return (split, rest[0]) if rest else None


def _below_class(path: str) -> str:
    return path.rpartition("/")[2]


def _apart(patients: pd.Series, split: pd.Series) -> tuple[pd.Series, str]:
    """Keep patients apart that only seem to be in several of the data set's own splits."""
    several = split.groupby(patients).nunique()
    shared = several.index[several > 1]
    if not len(shared):
        return patients, ""
    return (
        (split + "/" + patients).astype("str"),
        f"{len(shared):,} {plural(len(shared), 'patient by name is', 'patients by name are')} in "
        "more than one of the data set's own splits (for example "
        f"{shared[0]}): they are taken for different people, which cannot be checked here. "
        "Set data.patient_pattern where names do tell patients, or data.split=random",
    )
