"""Time the patient bootstrap of AUC against a loop over scikit-learn's roc_auc_score.

Both run in this process on the same synthetic predictions of the size of the NIH test split. The
loop is timed on a few resamples and scaled to the full number, as it would take minutes.

Run: python benchmarks/bootstrap.py
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from sklearn.metrics import roc_auc_score

from medsgssl.evaluation.bootstrap import patient_counts
from medsgssl.evaluation.resampled_auc import RankedScores

# Images with each finding in the official NIH test split, rounded to tens.
POSITIVES = (3280, 1070, 4660, 6110, 1750, 1620, 560, 2670, 1820, 930, 1090, 440, 1140, 90)


def predictions(images: int, patients: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    labels = random.random((images, 14)) < np.array(POSITIVES) / 25_596
    scores = 1 / (1 + np.exp(-(1.2 * labels + random.normal(size=labels.shape))))
    owners = np.concatenate([np.arange(patients), random.integers(patients, size=images)])[:images]
    return labels, scores.astype(np.float32).astype(np.float64), owners


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=25_596)
    parser.add_argument("--patients", type=int, default=2_797)
    parser.add_argument("--resamples", type=int, default=2_000)
    parser.add_argument("--loop", type=int, default=10, help="resamples of the timed loop")
    options = parser.parse_args()
    labels, scores, owners = predictions(options.images, options.patients)

    start = time.perf_counter()
    counts = patient_counts(options.patients, options.resamples, seed=0)
    drawn = time.perf_counter()
    aucs = RankedScores(labels, scores, owners).auc(counts)
    ranked = time.perf_counter()
    RankedScores(labels, scores, owners).auc_and_ap(counts)
    both = time.perf_counter()

    looped = np.empty((options.loop, 14))
    started = time.perf_counter()
    for r in range(options.loop):
        rows = np.repeat(np.arange(options.images), counts[r][owners])
        for d in range(14):
            looped[r, d] = roc_auc_score(labels[rows, d], scores[rows, d])
    loop = (time.perf_counter() - started) * options.resamples / options.loop

    mine = ranked - start
    print(f"{options.resamples} resamples, {options.images} images, 14 diseases")
    print(f"drawing patients       {drawn - start:8.2f} s")
    print(f"AUC, with drawing      {mine:8.2f} s")
    print(f"AUC and AP, no drawing {both - ranked:8.2f} s")
    print(f"scikit-learn loop      {loop:8.1f} s (measured on {options.loop}, scaled)")
    print(f"ratio                  {loop / mine:8.1f} x")
    print(f"largest difference     {np.abs(aucs[: options.loop] - looped).max():8.1e}")


if __name__ == "__main__":
    main()
