"""AUC per class and its mean: a class without positives or without negatives has no AUC.

Such a class is NaN, never 0.5, and is left out when the classes of a mean are chosen. Once they are
chosen the list is fixed: where one of them is undefined (in a resample, a subgroup or another run)
the mean is undefined as well, because a mean over the remaining classes is another quantity.
Unknown labels (NaN) count neither as positives nor as negatives.

Metrics of your own are added beside these: ``metric_registry.py``.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata

Floats = NDArray[np.float64]

#: A class takes part in choosing an epoch or a penalty from so many positive patients on.
MIN_POSITIVE_PATIENTS = 10


def auc(labels: ArrayLike, scores: ArrayLike) -> float:
    """Return the area under the ROC curve of one class, ties counting one half.

    Args:
        labels: (N,) of 0 and 1, NaN where unknown.
        scores: (N,) finite, higher means more likely positive.

    Returns:
        A number in [0, 1]; NaN without known positives or without known negatives.
    """
    truth, values = np.asarray(labels, np.float64), np.asarray(scores, np.float64)
    positive, negative = values[truth == 1], values[truth == 0]
    pairs = len(positive) * len(negative)
    if not pairs:
        return float("nan")
    ranks = rankdata(np.concatenate([positive, negative]))[: len(positive)]
    return float((ranks.sum() - len(positive) * (len(positive) + 1) / 2) / pairs)


def auc_per_class(labels: ArrayLike, scores: ArrayLike) -> Floats:
    """Return the AUC of each class, (C,) float64, NaN where it is undefined.

    Args:
        labels: (N, C) of 0 and 1, NaN where unknown.
        scores: (N, C) finite.
    """
    truth, values = np.asarray(labels, np.float64), np.asarray(scores, np.float64)
    return np.array([auc(truth[:, c], values[:, c]) for c in range(truth.shape[1])])


def mean_over(values: Floats, classes: NDArray[np.bool_]) -> Floats:
    """Average a statistic over a fixed list of classes.

    Args:
        values: (R, C) statistics, e.g. AUCs of R resamples, NaN where undefined.
        classes: (C,) the classes of the mean.

    Returns:
        (R,); NaN where one of the classes is undefined, and everywhere for an empty list.
    """
    if not classes.any():
        return np.full(len(values), np.nan)
    mean: Floats = values[:, classes].mean(axis=1)
    return mean


def mean_auc(
    labels: ArrayLike, scores: ArrayLike, classes: NDArray[np.bool_] | None = None
) -> float:
    """Return the mean AUC over a list of classes.

    Args:
        labels: (N, C) of 0 and 1, NaN where unknown.
        scores: (N, C) finite.
        classes: (C,) the classes of the mean; those that the labels define when not given.

    Returns:
        A number in [0, 1]; NaN where the list is empty or one of its classes is undefined.
    """
    values = auc_per_class(labels, scores)
    chosen = np.isfinite(values) if classes is None else classes
    return float(mean_over(values[None], chosen)[0])


def positive_patients(
    labels: ArrayLike, patients: Sequence[str] | NDArray[np.str_]
) -> NDArray[np.int64]:
    """Return the number of patients with at least one positive image of each class, (C,) int64.

    Args:
        labels: (N, C) of 0 and 1, NaN where unknown.
        patients: (N,) the patient of each image.
    """
    truth, names = np.asarray(labels, np.float64), np.asarray(patients)
    counts = [len(np.unique(names[truth[:, c] == 1])) for c in range(truth.shape[1])]
    return np.array(counts, dtype=np.int64)


def classes_to_select_by(
    labels: ArrayLike,
    patients: Sequence[str] | NDArray[np.str_],
    least: int = MIN_POSITIVE_PATIENTS,
) -> NDArray[np.bool_]:
    """Return the classes whose AUC is steady enough to choose by, (C,) bool.

    The AUC of a class with one positive is the rank of one image: a mean over all classes would
    follow it and not the model. The list depends on the labels of the validation split alone, so
    all runs on one split choose by the same classes.

    Args:
        labels: (N, C) of 0 and 1 of the validation split, NaN where unknown.
        patients: (N,) the patient of each image.
        least: Smallest number of patients with a positive, and of patients with a negative.
    """
    truth = np.asarray(labels, np.float64)
    inverted = 1 - truth
    enough: NDArray[np.bool_] = (positive_patients(truth, patients) >= least) & (
        positive_patients(inverted, patients) >= least
    )
    return enough
