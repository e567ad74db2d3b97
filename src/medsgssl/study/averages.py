"""What the metrics files of an arm say, averaged over diseases and seeds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from medsgssl.study.arms import Arm

CALIBRATION = ("ece", "ece_calibrated", "brier", "brier_calibrated")
DECISIONS = ("f1", "precision", "recall", "specificity")


def calibration(arm: Arm) -> dict[str, float | None]:
    """Return ECE and Brier score before and after scaling: over diseases, then over seeds."""
    return _averages(arm, CALIBRATION)


def decisions(arm: Arm) -> dict[str, float | None]:
    """Return F1, precision, recall and specificity at the thresholds found on validation."""
    return _averages(arm, DECISIONS)


def _averages(arm: Arm, keys: Sequence[str]) -> dict[str, float | None]:
    found: dict[str, float | None] = {}
    for key in keys:
        values = [
            disease[key]
            for run in arm.runs
            for disease in (run.metrics or {}).get("per_disease", {}).values()
            if disease["auc"] is not None and disease[key] is not None
        ]
        found[key] = float(np.mean(values)) if values else None
    return found
