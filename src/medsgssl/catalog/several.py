"""Several data sets in one pretraining: how each further one is read, and that nothing leaks."""

from __future__ import annotations

from collections.abc import Sequence

from medsgssl.catalog.catalog import Catalog
from medsgssl.config import DataSettings
from medsgssl.errors import ConfigError, LeakError
from medsgssl.sources import find_source


def further_sets(settings: DataSettings) -> list[DataSettings]:
    """Return the settings under which each folder of ``data.also`` is read.

    A set without NIH labels is all for training; of an NIH set only the training split is drawn.

    Raises:
        ConfigError: A folder is named twice, or is the data set itself.
        DataError: A folder holds no data set.
    """
    seen = {settings.root.expanduser().resolve()} if settings.root else set()
    found = []
    for folder in settings.also:
        root = folder.expanduser().resolve()
        if root in seen:
            raise ConfigError(f"data.also names {folder} again", "name every data set once")
        seen.add(root)
        kind = "auto" if find_source(root).name == "nih" else "train"
        changes = {"root": folder, "also": (), "labels": None, "split": kind}
        found.append(settings.model_copy(update=changes))
    return found


def check_apart(catalog: Catalog, further: Sequence[Catalog]) -> None:
    """Check that no further data set brings validation or test images into training.

    An image is the same where its name is; a patient where data sets of one kind, e.g. two parts
    of NIH, have one patient id.

    Raises:
        LeakError: Names the first ten images or patients, and the data set.
    """
    held = catalog.table[catalog.table["split"] != "train"]
    for other in further:
        train = other.table[other.table["split"] == "train"]
        shared = sorted(set(held["image_id"]) & set(train["image_id"]))
        what = "images"
        if not shared and catalog.facts["source"] == other.facts["source"] != "folder":
            shared = sorted(set(held["patient_id"]) & set(train["patient_id"]))
            what = "patients"
        if shared:
            shown = ", ".join(shared[:10]) + (" ..." if len(shared) > 10 else "")
            raise LeakError(
                f"{other.root} holds {len(shared)} {what} of the validation and test splits of "
                f"{catalog.root} for training: {shown}",
                "remove them from that folder, or leave the folder out of --also",
            )
