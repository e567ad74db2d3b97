"""Model selection: which diseases validation averages, and which weights are kept.

The AUC of a disease with a handful of positives is the rank of a few images. A mean over all
diseases then follows them, and the "best" epoch is one in which a single image was ranked well.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from medsgssl.config.schema import Config
from medsgssl.data.dataset import ImageMaskDataset
from medsgssl.evaluation.metrics import (
    MIN_POSITIVE_PATIENTS,
    classes_to_select_by,
    positive_patients,
)

Keep = Literal["last", "best", "ema"]

#: What ``finetune.keep=auto`` stands for, decided by three seeds on NIH images: docs/defaults.md.
AUTO_KEEP: Keep = "last"


@dataclass(frozen=True)
class SelectionRule:
    """Which weights are kept, and what the validation mean AUC is a mean of.

    Attributes:
        keep: ``last`` epoch, ``best`` epoch by the validation mean AUC, or ``ema`` (averaged).
        classes: (C,) bool, the diseases of the validation mean AUC: one fixed list per split.
        class_names: What they are called.
        reason: One sentence for the log and the report.
    """

    keep: Keep
    classes: NDArray[np.bool_]
    class_names: list[str]
    reason: str


def validation_classes(source: ImageMaskDataset) -> NDArray[np.bool_]:
    """Return the diseases that validation means are taken over, (C,) bool.

    Those with enough positive patients to choose by. Where no disease has them, those with any
    positives and negatives, to be watched alone: nothing is chosen by them.
    """
    rows = np.flatnonzero(source.splits == "val")
    labels = source.labels[rows]
    classes = classes_to_select_by(labels, source.patients[rows])
    if classes.any():
        return classes
    positives, negatives = (labels == 1).any(axis=0), (labels == 0).any(axis=0)
    return np.asarray(positives & negatives, dtype=bool)


def selection_rule(config: Config, source: ImageMaskDataset) -> SelectionRule:
    """Return which weights fine-tuning keeps.

    The best epoch is chosen only where at least half of the diseases that the validation split
    shows have enough positive patients; with fewer the last epoch is kept, and the rule says so.
    """
    rows = np.flatnonzero(source.splits == "val")
    labels, patients = source.labels[rows], source.patients[rows]
    enough = classes_to_select_by(labels, patients)
    present = positive_patients(labels, patients) > 0
    asked = config.finetune.keep
    keep: Keep = AUTO_KEEP if asked == "auto" else asked
    counted = (
        f"{enough.sum()} of {present.sum()} diseases have at least {MIN_POSITIVE_PATIENTS} "
        "positive validation patients"
    )
    reason = f"finetune.keep={asked}: the {_NAMES[keep]} kept; {counted}"
    if keep == "best" and 2 * enough.sum() < max(present.sum(), 1):
        keep = "last"
        reason = f"finetune.keep={asked}, but only {counted}: the {_NAMES[keep]} kept instead"
    classes = validation_classes(source)
    names = [name for name, chosen in zip(source.label_set.names, classes, strict=True) if chosen]
    return SelectionRule(keep, classes, names, reason)


_NAMES = {
    "last": "last epoch is",
    "best": "epoch with the best validation mean AUC is",
    "ema": "average of the weights over about the last epoch is",
}
