"""The patient bootstrap of AUC beside a loop over scikit-learn's ``roc_auc_score``."""

from __future__ import annotations

import statistics

import numpy as np
from sklearn.metrics import roc_auc_score

from benchmarks.speed.figures import Figure, in_turn, median_ratio
from medsgssl.evaluation.resampled_auc import RankedScores, patient_counts

NOTE = (
    "Both on the same made-up predictions of the size of the NIH test list. The loop is timed on "
    "a few resamples and scaled to all, as it would take minutes. Wall time, in turn."
)
#: Images, patients, resamples, and resamples of the loop.
FULL = (25_596, 2_797, 2_000, 5)
# Images with each finding in the official NIH test split, rounded to tens.
POSITIVES = (3280, 1070, 4660, 6110, 1750, 1620, 560, 2670, 1820, 930, 1090, 440, 1140, 90)


def predictions(images: int, patients: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    labels = random.random((images, 14)) < np.array(POSITIVES) / 25_596
    scores = 1 / (1 + np.exp(-(1.2 * labels + random.normal(size=labels.shape))))
    owners = np.concatenate([np.arange(patients), random.integers(patients, size=images)])[:images]
    return labels, scores.astype(np.float32).astype(np.float64), owners


def measure(quick: bool) -> list[Figure]:
    """Return seconds of the whole bootstrap; the loop's are scaled from a few resamples."""
    images, patients, resamples, looped = (2000, 300, 100, 1) if quick else FULL
    labels, scores, owners = predictions(images, patients)
    counts = patient_counts(patients, resamples, seed=0)
    found = np.empty((looped, 14))

    def ours() -> None:
        counts = patient_counts(patients, resamples, seed=0)
        aucs[...] = RankedScores(labels, scores, owners).auc(counts)[:looped]

    def loop() -> None:
        for r in range(looped):
            rows = np.repeat(np.arange(images), counts[r][owners])
            for d in range(14):
                found[r, d] = roc_auc_score(labels[rows, d], scores[rows, d])

    aucs = np.empty_like(found)
    own, few = in_turn([ours, loop], 1 if quick else 3)
    other = [seconds * resamples / looped for seconds in few]
    both = in_turn([lambda: RankedScores(labels, scores, owners).auc_and_ap(counts)], 1)[0]
    return [
        Figure(
            name=f"AUC of 14 diseases, {resamples:,} resamples of {images:,} images",
            value=statistics.median(own),
            unit="s",
            beside="scikit-learn in a loop, scaled",
            other=statistics.median(other),
            ratio=median_ratio(own, other),
        ),
        Figure(
            name="largest difference between the two",
            value=float(np.abs(aucs - found).max()),
            unit="AUC",
        ),
        Figure(name="AUC and average precision together", value=both[0], unit="s"),
    ]
