"""Cross-validation by patient: every patient outside the selection group is tested once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from medsgssl.data.stratify import stratified_parts

#: Share of the patients that are never tested: every choice of settings is made on them.
SELECTION_SHARE = 0.1
#: What ``fold_of_patients`` gives the patients of the selection group.
SELECTION = -1


def fold_of_patients(labels: NDArray[np.bool_], folds: int, seed: int) -> NDArray[np.int64]:
    """Deal patients into folds so that rare diseases are spread over them.

    Args:
        labels: ``(P, L)`` bool, positive where any image of the patient is.
        folds: How many.
        seed: Seed of the draw.

    Returns:
        ``(P,)`` the fold that tests each patient, or ``SELECTION``.
    """
    group = stratified_parts(labels, (1 - SELECTION_SHARE, SELECTION_SHARE), seed, "selection")
    fold = np.full(len(labels), SELECTION, dtype=np.int64)
    tested = group == 0
    fold[tested] = stratified_parts(labels[tested], (1 / folds,) * folds, seed, "folds")
    return fold
