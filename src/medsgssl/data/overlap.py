"""Several data sets in one pretraining: how each further one is read, and that nothing leaks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from medsgssl.config.schema import DataSettings
from medsgssl.data.catalog import Catalog
from medsgssl.data.readers.registry import WITHOUT_LABELS
from medsgssl.errors import ConfigError
from medsgssl.runs.data_summary import Overlap

_SUFFIX = r"\.[^.]*$"
# 00000013_005, also with more before or after it.
_NIH_PATIENTS = 30_805
_NIH_NAME = r"(?:^|_)(\d{8})_\d{3}(?!\d)"


def extra_datasets(settings: DataSettings) -> list[DataSettings]:
    """Return the settings under which each folder of ``data.extra_roots`` is read.

    All of their images are for training.

    Raises:
        ConfigError: A folder is named twice, or is the data set itself.
    """
    seen = {settings.root.expanduser().resolve()} if settings.root else set()
    settings_of_each = []
    for folder in settings.extra_roots:
        root = folder.expanduser().resolve()
        if root in seen:
            raise ConfigError(f"data.extra_roots names {folder} again", "name every data set once")
        seen.add(root)
        changes = {
            "root": folder,
            "extra_roots": (),
            "labels": WITHOUT_LABELS,
            "split": "train",
            "folds": None,
            "fold": None,
            "classes": (),
            "image_column": None,
            "patient_column": None,
            "patient_pattern": None,
        }
        settings_of_each.append(settings.model_copy(update=changes))
    return settings_of_each


def image_identity_keys(table: pd.DataFrame) -> pd.DataFrame:
    """Return what an image is known by across folders, one row per row of a catalog's table.

    Returns:
        ``name``: the file name without folders and suffix, or the image id where the data set
        calls several files alike; ``patient``: ``nih 00000013`` where the name is one of NIH,
        ``chexpert patient00001`` of CheXpert, else empty, because patient ids of other folders
        mean nothing elsewhere; ``source``.
    """
    file = table["path"].where(table["path"] != "", table["image_id"]).astype("str")
    name = file.str.replace(r"^.*/", "", regex=True).str.replace(_SUFFIX, "", regex=True)
    if name.duplicated().any():
        name = table["image_id"].astype("str").str.replace(_SUFFIX, "", regex=True)
    numbers = name.str.extract(_NIH_NAME, expand=False)
    # Eight digits that are no patient of NIH, such as a date, mean nothing.
    real = (table["source"] == "nih") | (pd.to_numeric(numbers) <= _NIH_PATIENTS)
    patient = ("nih " + numbers.where(real)).fillna("")
    chexpert = table["source"] == "chexpert"
    patient = patient.where(~chexpert, "chexpert " + table["patient_id"])
    return pd.DataFrame({"name": name, "patient": patient, "source": table["source"]}).astype("str")


def held_out_rows(catalog: Catalog, others: pd.DataFrame) -> NDArray[np.bool_]:
    """Tell which images of another data set belong to validation or test here.

    Args:
        catalog: The data set with the splits.
        others: ``image_identity_keys`` of the others.

    Returns:
        (N,) bool: the image, or another one of its patient, is in validation or test here.
    """
    mine = image_identity_keys(catalog.table)
    held = mine[(catalog.table["split"] != "train").to_numpy()]
    patients = held.loc[held["patient"] != "", "patient"]
    same = others["name"].isin(held["name"]) | others["patient"].isin(patients)
    return np.asarray(same, dtype=bool)


def drop_overlap(first: Catalog, other: Catalog) -> tuple[Catalog, Overlap]:
    """Set aside what a further data set shares with the first one.

    Args:
        first: The data set with the splits.
        other: The further one.

    Returns:
        The further one with an empty split for images of the first and for patients of its
        validation and test; and how many usable images these are: ``held_out``,
        ``already_there`` (in the training split of the first).
    """
    known = image_identity_keys(other.table)
    held = held_out_rows(first, known)
    repeated = (
        np.asarray(known["name"].isin(image_identity_keys(first.table)["name"]), dtype=bool) & ~held
    )
    usable = (other.table["status"] == "ok").to_numpy()
    table = other.table.assign(split=other.table["split"].mask(held | repeated, ""))
    counts: Overlap = {
        "held_out": int((held & usable).sum()),
        "already_there": int((repeated & usable).sum()),
    }
    return replace(other, table=table), counts
