"""Several data sets in one pretraining: how each further one is read, and that nothing leaks."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from medsgssl.catalog.catalog import Catalog
from medsgssl.config import DataSettings
from medsgssl.errors import ConfigError

# Patient ids of a plain folder are guesses from file names.
_WITHOUT_PATIENTS = "folder"


def further_sets(settings: DataSettings) -> list[DataSettings]:
    """Return the settings under which each folder of ``data.also`` is read: all for training.

    Raises:
        ConfigError: A folder is named twice, or is the data set itself.
    """
    seen = {settings.root.expanduser().resolve()} if settings.root else set()
    found = []
    for folder in settings.also:
        root = folder.expanduser().resolve()
        if root in seen:
            raise ConfigError(f"data.also names {folder} again", "name every data set once")
        seen.add(root)
        changes = {"root": folder, "also": (), "labels": None, "split": "train"}
        found.append(settings.model_copy(update=changes))
    return found


def identities(table: pd.DataFrame) -> pd.DataFrame:
    """Return what an image is known by across folders, one row per row of a catalog's table.

    Returns:
        ``name`` (file name without folders and suffix; of CheXpert, whose files are all called
        alike, the image id), ``patient_id`` and ``source``.
    """
    named = (table["path"] != "") & (table["source"] != "chexpert")
    file = table["path"].where(named, table["image_id"])
    name = file.str.replace(r"^.*/", "", regex=True).str.replace(r"\.[^.]*$", "", regex=True)
    return pd.DataFrame(
        {"name": name, "patient_id": table["patient_id"], "source": table["source"]}
    ).astype("str")


def held_out_rows(catalog: Catalog, others: pd.DataFrame) -> NDArray[np.bool_]:
    """Tell which images of another data set belong to validation or test here.

    An image is the same where its file name is, in whatever folder and format; so is a patient
    where both data sets are of one kind, e.g. two parts of NIH.

    Args:
        catalog: The data set with the splits.
        others: ``identities`` of the others.

    Returns:
        (N,) bool.
    """
    mine = identities(catalog.table)
    held = mine[(catalog.table["split"] != "train").to_numpy()]
    known = (others["source"] == catalog.facts["source"]) & (others["source"] != _WITHOUT_PATIENTS)
    same = others["name"].isin(held["name"]) | (
        known & others["patient_id"].isin(held["patient_id"])
    )
    return np.asarray(same, dtype=bool)


def repeated_rows(catalog: Catalog, others: pd.DataFrame) -> NDArray[np.bool_]:
    """Tell which images of another data set are in this one, by file name, whatever the split."""
    mine = identities(catalog.table)["name"]
    return np.asarray(others["name"].isin(mine), dtype=bool)
