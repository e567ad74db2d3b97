"""Which images of a data set a study tests, from its catalog alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from medsgssl.data.catalog import Catalog
from medsgssl.data.labels import label_array
from medsgssl.data.splits import fold_of_patients
from medsgssl.data.stratify import patient_labels
from medsgssl.evaluation.few_patients import MIN_PATIENTS, MIN_PATIENTS_PER_FOLD, count_patients


@dataclass(frozen=True)
class StudyImages:
    """The usable images of a data set, and the parts of them that are tested.

    Attributes:
        names: The ``D`` classes.
        labels: ``(N, D)`` of 0 and 1, NaN where unknown.
        patients: ``(N,)`` names of the patients.
        parts: ``(N,)`` masks: the test images of each fold, or the test list alone.
    """

    names: tuple[str, ...]
    labels: NDArray[np.float32]
    patients: pd.Series
    parts: tuple[NDArray[np.bool_], ...]

    @property
    def primary(self) -> NDArray[np.bool_]:
        """The ``(D,)`` diseases of the primary mean: enough patients, with folds in every one."""
        numbers, count, _ = patient_labels(self.patients, self.labels)

        def fewest(part: NDArray[np.bool_]) -> NDArray[np.int64]:
            return np.minimum(*count_patients(self.labels[part], numbers[part], count))

        enough = fewest(np.any(self.parts, axis=0)) >= MIN_PATIENTS
        if len(self.parts) > 1:
            for part in self.parts:
                enough &= fewest(part) >= MIN_PATIENTS_PER_FOLD
        return np.asarray(enough)


def study_images(catalog: Catalog, folds: int | None, split_seed: int) -> StudyImages:
    """Return what a study over seeds tests, or each of its folds.

    Args:
        catalog: The data set.
        folds: How many; None for a study over seeds, which tests the test list.
        split_seed: Seed of the draw of the folds.
    """
    table = catalog.usable()
    labels = label_array(table, catalog.label_set.names)
    if folds is None:
        parts = [(table["split"] == "test").to_numpy()]
    else:
        # Folds are dealt over every patient of the table, usable or not.
        everyone, _, positive = patient_labels(
            catalog.table["patient_id"], label_array(catalog.table, catalog.label_set.names)
        )
        fold = fold_of_patients(positive, folds, split_seed)[everyone]
        fold = fold[table.index.to_numpy()]
        parts = [fold == number for number in range(folds)]
    return StudyImages(catalog.label_set.names, labels, table["patient_id"], tuple(parts))
