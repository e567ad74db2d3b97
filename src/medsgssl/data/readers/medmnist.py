"""MedMNIST's chest X-rays, e.g. ``chestmnist_224.npz``: pixels and labels in one NumPy archive.

Source: Yang et al., "MedMNIST v2: a large-scale lightweight benchmark for 2D and 3D biomedical
image classification", Scientific Data 10, 2023. The images of ChestMNIST are those of NIH.
"""

from __future__ import annotations

import shutil
import tempfile
import zipfile
from functools import cached_property
from pathlib import Path
from typing import Self

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from medsgssl.data.labels import NIH, NO_FINDING, LabelSet
from medsgssl.data.paths import dataset_cache
from medsgssl.data.readers.base import DataFolder, Reader, SourceRows, unknown_description
from medsgssl.data.readers.patients import summarize_patients
from medsgssl.errors import DataError
from medsgssl.runs.data_summary import LabelsSummary
from medsgssl.utils.io import file_hash, fingerprint

_PARTS = ("train", "val", "test")


class MedmnistReader(Reader):
    """A MedMNIST archive: ``train_images``, ``train_labels``, the same of ``val`` and ``test``.

    The pixels are written once as PNG files below the data set's place in the cache, so that masks,
    training and reports read them as they read any image. Patients are not published: every image
    counts as its own patient. Where several archives lie there, ``data.labels`` names one.
    """

    name = "medmnist"
    rank = 30

    @classmethod
    def detect(cls, folder: DataFolder) -> Self | None:
        """Recognize the layout by the arrays of an archive.

        Raises:
            DataError: Several archives are there and none is named.
        """
        if folder.table is not None:
            return cls(folder, (folder.table,)) if _is_archive(folder.table) else None
        archives = [path for path in sorted(folder.root.glob("*.npz")) if _is_archive(path)]
        if len(archives) > 1:
            names = ", ".join(path.name for path in archives)
            raise DataError(
                f"{folder.root} holds several archives: {names}",
                f"choose one with data.labels={archives[0].name}",
            )
        return cls(folder, tuple(archives)) if archives else None

    @cached_property
    def images(self) -> pd.DataFrame:
        """The image files that the pixels were written to; paths are absolute."""
        folder = self._unpacked()
        rows = []
        for part in _PARTS:
            for path in sorted((folder / part).glob("*.png")):
                status = path.stat()
                rows.append((f"{part}_{path.name}", str(path), status.st_size, 0))
        frame = pd.DataFrame(rows, columns=["image_id", "path", "size", "changed"])
        return frame.astype({"image_id": "str", "path": "str"}).set_index("image_id").sort_index()

    def rows(self) -> SourceRows:
        """Read the labels.

        Raises:
            DataError: The archive is damaged, or its classes have no names.
        """
        path = self.inputs[0]
        labels = [_array(path, f"{part}_labels") for part in _PARTS]
        values = np.concatenate(labels)
        counts = [len(part) for part in labels]
        names = self._names(values)
        digits = max(6, len(str(max(counts))))
        ids = pd.Series(
            [
                f"{part}_{number:0{digits}d}.png"
                for part, count in zip(_PARTS, counts, strict=True)
                for number in range(count)
            ],
            dtype="str",
        )
        frame = pd.concat([self.image_columns(ids, ids), unknown_description(ids.index)], axis=1)
        for index, name in enumerate(names):
            frame[name] = pd.Series(values[:, index].astype(np.int8), dtype="Int8")
        summary: LabelsSummary = {
            "label_revision": path.stem,
            "labels_file": path.name,
            "labels_hash": file_hash(path),
            "patients": summarize_patients(
                ids, "every image (patients are not published)", (ids.iloc[-1], ids.iloc[-1])
            ),
        }
        split = pd.Series(np.repeat(_PARTS, counts).tolist(), dtype="str")
        label_set = LabelSet(path.stem, names, negative=NO_FINDING)
        return SourceRows(frame, summary, label_set, own_split=split)

    def _names(self, values: NDArray[np.generic]) -> tuple[str, ...]:
        wanted = self.folder.settings.classes
        width = values.shape[1] if values.ndim == 2 else 0
        if not width or not np.isin(values, (0, 1)).all():
            raise DataError(
                f"{self.inputs[0]}: labels are not columns of 0 and 1",
                "give an archive with binary labels, such as chestmnist or pneumoniamnist",
            )
        if wanted and len(wanted) == width:
            return wanted
        if not wanted and width == len(NIH):
            return NIH.names
        if not wanted and self.inputs[0].stem.startswith("pneumoniamnist"):
            return ("Pneumonia",)
        raise DataError(
            f"{self.inputs[0]} has {width} columns of labels and no names for them",
            f"name all {width} with data.classes",
        )

    def _unpacked(self) -> Path:
        """Return the folder of the image files; write them where they are not there."""
        path = self.inputs[0]
        status = path.stat()
        settings = self.folder.settings.model_copy(update={"root": self.root})
        identity = fingerprint([path.name, status.st_size, status.st_mtime_ns])
        target = dataset_cache(settings) / f"images-{path.stem}-{identity}"
        if target.is_dir():
            return target
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=".unpacking-", dir=target.parent))
        try:
            for part in _PARTS:
                _write(_array(path, f"{part}_images"), temporary / part, path)
            if not target.is_dir():  # another process may have been faster
                temporary.rename(target)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        return target


def _is_archive(path: Path) -> bool:
    if path.suffix != ".npz":
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            return {f"{part}_images.npy" for part in _PARTS} <= set(archive.namelist())
    except (OSError, zipfile.BadZipFile):
        return False


def _array(path: Path, name: str) -> NDArray[np.generic]:
    try:
        with np.load(path) as archive:
            return np.asarray(archive[name])
    except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(
            f"{path}: {name} cannot be read: {error}", "fetch the file again"
        ) from error


def _write(images: NDArray[np.generic], folder: Path, path: Path) -> None:
    if images.dtype != np.uint8 or images.ndim not in (3, 4):
        raise DataError(
            f"{path}: images are {images.dtype} of shape {images.shape}",
            "give uint8 images, (N, H, W) or (N, H, W, 3)",
        )
    folder.mkdir()
    digits = max(6, len(str(len(images))))
    for number, image in enumerate(images):
        if not cv2.imwrite(str(folder / f"{number:0{digits}d}.png"), image):
            raise DataError(f"{folder} cannot be written to", "free disk space")
