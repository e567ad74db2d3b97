"""Small synthetic predictions."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from medsgssl.data.labels import DISEASES

MakeTable = Callable[..., pd.DataFrame]


@pytest.fixture
def make_table() -> MakeTable:
    """Return a maker of valid prediction tables."""

    def make(
        patients: int = 60, per_patient: int = 4, seed: int = 0, prevalence: float = 0.25
    ) -> pd.DataFrame:
        random = np.random.default_rng(seed)
        n = patients * per_patient
        owner = np.repeat(np.arange(patients), per_patient)
        rows = {
            "image_id": [f"{p:08d}_{i % per_patient:03d}.png" for i, p in enumerate(owner)],
            "patient_id": [str(p) for p in owner],
            "split": np.where(owner % 3 == 0, "val", "test"),
            "view_position": random.choice(["PA", "AP"], n),
            "sex": np.where(owner % 2, "F", "M"),
            "age": pd.array(random.integers(1, 95, n), dtype="Int16"),
        }
        for name in DISEASES:
            labels = random.random(n) < prevalence
            logits = 1.5 * labels + random.normal(size=n) - 1
            rows[f"label_{name}"] = labels.astype(np.uint8)
            rows[f"score_{name}"] = (1 / (1 + np.exp(-logits))).astype(np.float32)
        return pd.DataFrame(rows)

    return make
