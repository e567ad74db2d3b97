"""How many patients a number needs before it gets an interval or a word.

The unit is the patient, positive where any image is: 20 positive images of two patients tell as
little as two.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from medsgssl.evaluation.predictions import Split

#: Patients with a positive image, and with a negative one, below which nothing is judged.
MIN_PATIENTS = 20
#: Patients of either class that each fold must test, on top.
MIN_PATIENTS_PER_FOLD = 5
#: Positives in validation below which thresholds, temperatures and ECE carry a warning.
MIN_VALIDATION_POSITIVES = 10


def class_patients(
    split: Split, rows: NDArray[np.bool_] | None = None
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Count the patients with a positive and those with a negative image of each disease.

    Args:
        split: The images.
        rows: ``(N,)`` the images to look at; None for all.

    Returns:
        ``(D,)`` each.
    """
    count = int(split.patients.max()) + 1 if len(split) else 0
    if rows is None:
        return count_patients(split.labels, split.patients, count)
    return count_patients(split.labels[rows], split.patients[rows], count)


def count_patients(
    labels: NDArray[np.generic], patients: NDArray[np.int64], count: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Count the patients with a positive and those with a negative image of each class.

    Args:
        labels: ``(N, D)`` of 0 and 1, NaN where unknown.
        patients: ``(N,)`` codes in [0, count).
        count: Number of codes.

    Returns:
        ``(D,)`` each.
    """
    numbers = []
    for wanted in (labels == 1, labels == 0):
        hit = np.zeros((count, labels.shape[1]), bool)
        images, diseases = np.nonzero(wanted)
        hit[patients[images], diseases] = True
        numbers.append(hit.sum(axis=0))
    return numbers[0], numbers[1]


def enough_patients(
    split: Split, minimum: int = MIN_PATIENTS, rows: NDArray[np.bool_] | None = None
) -> NDArray[np.bool_]:
    """Return the ``(D,)`` diseases with ``minimum`` patients of either class among the images."""
    positive, negative = class_patients(split, rows)
    return np.asarray(np.minimum(positive, negative) >= minimum)
