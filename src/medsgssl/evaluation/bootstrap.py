"""The patient bootstrap: patients drawn with replacement, the same ones for all that is compared.

It tells which epochs of fine-tuning are equal within noise. The intervals that are reported leave
patients out in turn instead: ``intervals.py`` for a run, ``effects.py`` for a study.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from medsgssl.utils.rng import generator


def patient_counts(
    patients: int, resamples: int, seed: int, purpose: str = "evaluation.bootstrap"
) -> NDArray[np.uint16]:
    """Draw how often each patient occurs in each resample.

    Resample ``r`` depends on (seed, purpose, r) alone, so asking for more resamples keeps the
    first ones, and two runs on the same patients are resampled alike.

    Returns:
        ``(resamples, patients)`` uint16; each row sums to ``patients``.
    """
    counts = np.empty((resamples, patients), dtype=np.uint16)
    for r in range(resamples):
        drawn = generator(seed, purpose, r).integers(patients, size=patients)
        counts[r] = np.bincount(drawn, minlength=patients)
    return counts
