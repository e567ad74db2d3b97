"""Made-up scores on a real structure of patients and labels: for power, and to test the verdicts.

A score is the sum of normal parts: one that every method gives a patient, one of each method and
patient, the same for images, the noise of each run, and the separation of positives from negatives.
Methods are equal unless a gain is asked for; every run's separation varies by chance, as training
runs do, and of folds it varies alike where their training sets overlap.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import special

from medsgssl.evaluation.predictions import Split, label_columns, score_columns
from medsgssl.evaluation.resampled_auc import Floats


@dataclass(frozen=True)
class ScoreModel:
    """Variances of a score's parts, which add up to 1, and how good it is.

    Attributes:
        auc: Mean AUC of every method.
        patient: Of the patient, shared by all methods.
        method_patient: Of the patient, by method.
        image: Of the image, shared by all methods.
        method_image: Of the image, by method. What is left is the noise of each run.
        run_sd: Standard deviation of a run's mean AUC between seeds, patients apart.
        disease_sd: Likewise of one disease, on top.
    """

    auc: float = 0.68
    patient: float = 0.35
    method_patient: float = 0.2
    image: float = 0.2
    method_image: float = 0.1
    run_sd: float = 0.008
    disease_sd: float = 0.015


class DrawnRun(NamedTuple):
    """The scores of one simulated run.

    Attributes:
        fraction: Its label fraction.
        arm: 0 for the control, then the methods.
        repeat: Its seed or fold.
        scores: ``(N, D)`` in (0, 1) of the images that it is tested on.
    """

    fraction: float
    arm: int
    repeat: int
    scores: Floats


def unscored(names: Sequence[str], labels: NDArray[np.float32], patients: pd.Series) -> Split:
    """Return test images whose scores are yet to be drawn.

    Args:
        names: The ``D`` classes.
        labels: ``(N, D)`` of 0 and 1, NaN where unknown.
        patients: ``(N,)`` names of the patients.
    """
    table = pd.DataFrame(labels, columns=label_columns(names))
    table[score_columns(names)] = 0.0
    table["patient_id"] = patients.to_numpy()
    table["sex"], table["age"], table["view_position"] = "", np.nan, ""
    return Split.of(table)


def draw_runs(
    tests: Sequence[Split],
    model: ScoreModel,
    gains: Sequence[float],
    random: np.random.Generator,
    *,
    seeds: int = 3,
    folds: bool = False,
    fractions: Sequence[float] = (1.0,),
) -> Iterator[DrawnRun]:
    """Draw the scores of a control and of one method for each gain.

    Args:
        tests: The test images of each fold, or the common ones.
        model: How scores vary.
        gains: True gain in AUC of each method over the control.
        random: Source of randomness.
        seeds: Seeds of each arm, without folds.
        folds: Whether each of ``tests`` is a fold.
        fractions: Label fractions, which share patients and methods but no training.

    Yields:
        The runs, fraction by fraction and arm by arm.
    """
    repeats = len(tests) if folds else seeds
    everyone = tests[0] if len(tests) == 1 else Split.join(tests)
    patients, (count, diseases) = int(everyone.patients.max()) + 1, everyone.labels.shape
    ends = np.cumsum([0, *(len(test) for test in tests)])

    def draw(variance: float, size: tuple[int, ...]) -> NDArray[np.float64]:
        drawn: NDArray[np.float64] = np.sqrt(variance) * random.standard_normal(size)
        return drawn

    def place(variance_patient: float, variance_image: float) -> NDArray[np.float64]:
        by_patient = draw(variance_patient, (patients, diseases))[everyone.patients]
        return by_patient + draw(variance_image, (count, diseases))

    shared = place(model.patient, model.image)
    noise = 1 - model.patient - model.image - model.method_patient - model.method_image
    slope = _auc_slope(model.auc)
    for fraction in fractions:
        for number, gain in enumerate([0.0, *gains]):
            expected = shared + place(model.method_patient, model.method_image)
            level = _separation(model.auc + gain)
            overlap = 1 / repeats if folds else 0.0
            common = np.sqrt(overlap) * _training(model, diseases, random)
            for repeat in range(repeats):
                training = common + np.sqrt(1 - overlap) * _training(model, diseases, random)
                at = slice(ends[repeat], ends[repeat + 1]) if folds else slice(None)
                test = tests[repeat if folds else 0]
                scores = expected[at] + draw(noise, (len(test), diseases))
                scores += (level + training / slope) * (test.labels == 1)
                yield DrawnRun(fraction, number, repeat, special.ndtr(scores))


def _training(model: ScoreModel, diseases: int, random: np.random.Generator) -> NDArray[np.float64]:
    """Draw what training adds to the AUC of each disease."""
    every = model.run_sd * random.standard_normal()
    each: NDArray[np.float64] = every + model.disease_sd * random.standard_normal(diseases)
    return each


def _separation(auc: float) -> float:
    return float(np.sqrt(2) * special.ndtri(auc))


def _auc_slope(auc: float) -> float:
    """Change of the AUC with the separation."""
    at = _separation(auc) / np.sqrt(2)
    return float(np.exp(-(at**2) / 2) / np.sqrt(2 * np.pi) / np.sqrt(2))
