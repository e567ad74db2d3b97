"""Who is in a phantom set: patients, their images, findings and part, without any pixels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medsgssl.data.labels import DISEASES
from medsgssl.data.synthetic.anatomy import draw_subject
from medsgssl.utils.rng import generator

PREVALENCE: dict[str, float] = {
    "Atelectasis": 0.11,
    "Cardiomegaly": 0.07,
    "Effusion": 0.12,
    "Infiltration": 0.14,
    "Mass": 0.07,
    "Nodule": 0.08,
    "Pneumonia": 0.06,
    "Pneumothorax": 0.07,
    "Consolidation": 0.07,
    "Edema": 0.06,
    "Emphysema": 0.06,
    "Fibrosis": 0.06,
    "Pleural_Thickening": 0.06,
    "Hernia": 0.05,
}
"""Share of the images with each disease: the order of NIH, but rare ones often enough to learn."""

_SICK = 0.5
_TEST_EVERY = 4


@dataclass(frozen=True)
class Entry:
    """One image of a phantom set."""

    index: int
    patient: int
    follow_up: int
    findings: tuple[str, ...]
    test: bool
    sex: str
    age: int

    @property
    def name(self) -> str:
        """File name in the style of NIH."""
        return f"{self.patient:08d}_{self.follow_up:03d}.png"


def draw_cohort(
    seed: int, count: int, patients: int, prevalence: Mapping[str, float]
) -> list[Entry]:
    """Draw a set, a pure function of its arguments.

    About half of the images have findings, a quarter of the patients are in test, and each
    disease has its share in train_val and in test (at least one image of each, where the part has
    a sick image at all).

    Args:
        seed: Seed of the set.
        count: Number of images.
        patients: Number of patients, at most ``count``.
        prevalence: Share of the images per disease.
    """
    random = generator(seed, "phantom cohort")
    extra = random.multinomial(count - patients, random.dirichlet(np.full(patients, 0.8)))
    owner = np.repeat(np.arange(1, patients + 1), 1 + extra)
    test_patients = _test_patients(patients, random)
    in_test = np.isin(owner, test_patients)
    findings: list[set[str]] = [set() for _ in range(count)]
    for part in (False, True):
        _assign(findings, np.flatnonzero(in_test == part), prevalence, random)
    entries = []
    follow_up = 0
    for index, patient in enumerate(owner.tolist()):
        follow_up = follow_up + 1 if index and owner[index - 1] == patient else 0
        subject = draw_subject(seed, patient)
        names = tuple(name for name in DISEASES if name in findings[index])
        test = bool(in_test[index])
        entries.append(Entry(index, patient, follow_up, names, test, subject.sex, subject.age))
    return entries


def _test_patients(patients: int, random: np.random.Generator) -> NDArray[np.int64]:
    """Draw one of every four patients, and one at least where there are two."""
    wanted = round(patients / _TEST_EVERY) if patients > 2 else patients - 1
    return random.permutation(np.arange(1, patients + 1))[: max(wanted, int(patients > 1))]


def _assign(
    findings: list[set[str]],
    rows: NDArray[np.int64],
    prevalence: Mapping[str, float],
    random: np.random.Generator,
) -> None:
    """Spread the diseases over the sick images of one part, in place."""
    sick = random.permutation(rows)[: round(_SICK * len(rows))]
    for disease in DISEASES:
        share = prevalence.get(disease, 0.0)
        wanted = max(1, round(share * len(rows))) if share > 0 else 0
        # Images with few findings come first, so that nearly every sick image gets one.
        load = np.array([len(findings[row]) for row in sick]) + random.uniform(0, 1.6, len(sick))
        for row in sick[np.argsort(load)][:wanted]:
            findings[row].add(disease)
