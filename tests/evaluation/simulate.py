"""Studies with a known AUC: several images per patient, labels and scores alike within one."""

from __future__ import annotations

import numpy as np
from scipy import stats

SHIFT = 1.0
PATIENT_SD = 1.0
NOISE_SD = 0.7


def true_auc(shift: float = SHIFT) -> float:
    """AUC of a positive and a negative of two different patients."""
    return float(stats.norm.cdf(shift / np.sqrt(2 * (PATIENT_SD**2 + NOISE_SD**2))))


def study(
    random: np.random.Generator, patients: int, diseases: int = 1, models: int = 1
) -> tuple[np.ndarray, list[np.ndarray], np.ndarray]:
    """Draw labels ``(N, D)``, scores ``(N, D)`` of each model and patients ``(N,)``.

    Patients have 1 to 8 images. A patient's own risk makes labels alike, a patient's own offset
    makes scores alike; models share half of the offset's variance and none of the noise.
    """
    owner = np.repeat(np.arange(patients), random.integers(1, 9, patients))
    risk = random.beta(0.6, 1.4, (patients, diseases))
    labels = random.random((len(owner), diseases)) < risk[owner]
    shared = random.normal(size=(patients, diseases))
    scores = []
    for _ in range(models):
        own = random.normal(size=(patients, diseases))
        offset = PATIENT_SD * (shared + own) / np.sqrt(2)
        noise = NOISE_SD * random.normal(size=labels.shape)
        scores.append(SHIFT * labels + offset[owner] + noise)
    return labels, scores, owner
