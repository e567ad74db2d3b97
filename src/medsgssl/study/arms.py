"""Arms of a study: the same configuration under several seeds, and the means of their metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from medsgssl.data.mask_cache import CONTROLS
from medsgssl.study.collect import FinishedRun
from medsgssl.study.statistics import BootstrapDraws, Estimate, ResampledTestSet, each
from medsgssl.study.variants import left_out


@dataclass(frozen=True)
class Arm:
    """One configuration with its seeds.

    Attributes:
        label: Unique among the arms of one label fraction.
        method: Its method.
        no_pretrain: Whether it has no pretraining stage.
        masks: Mask source; empty for a method that looks at no mask.
        fraction: Label fraction.
        runs: One per seed, by seed.
        drawn: Their resampled statistics.
    """

    label: str
    method: str
    no_pretrain: bool
    masks: str
    fraction: float
    runs: tuple[FinishedRun, ...]
    drawn: tuple[BootstrapDraws, ...]

    @property
    def key(self) -> tuple[str, float]:
        """Label and fraction: unique in a study."""
        return self.label, self.fraction

    @property
    def is_mask_control(self) -> bool:
        """Whether its masks carry no anatomy."""
        return self.masks in CONTROLS

    @cached_property
    def without(self) -> str:
        """Name of the part of the method that is left out; empty for the whole method."""
        return left_out(self.settings)

    @cached_property
    def settings(self) -> dict[str, Any]:
        """The configuration by dotted key, without the seed."""
        return self.runs[0].identity()


def gather_arms(runs: Sequence[FinishedRun], bench: ResampledTestSet) -> list[Arm]:
    """Put runs that differ in the seed alone into one arm, and resample them.

    Arms of the same method, masks and fraction get the settings in which they differ into their
    label.
    """
    groups: dict[str, list[FinishedRun]] = {}
    for run in runs:
        key = repr(sorted((name, str(value)) for name, value in run.identity().items()))
        groups.setdefault(key, []).append(run)
    labels = _labels([found[0] for found in groups.values()])
    arms = []
    for label, found in zip(labels, groups.values(), strict=True):
        ordered = tuple(sorted(found, key=lambda run: run.seed))
        arms.append(
            Arm(
                label=label,
                method=str(ordered[0].settings.get("method_name")),
                no_pretrain=bool(ordered[0].settings.get("no_pretrain")),
                masks=ordered[0].masks,
                fraction=_fraction(ordered[0]),
                runs=ordered,
                drawn=tuple(bench.drawn(run.test.scores) for run in ordered),
            )
        )
    return sorted(arms, key=lambda arm: (arm.fraction, arm.label))


def _fraction(run: FinishedRun) -> float:
    return float(run.settings.get("data.label_fraction", 1.0))


def _labels(first: Sequence[FinishedRun]) -> list[str]:
    plain = [_label(run) for run in first]
    found = []
    for run, label in zip(first, plain, strict=True):
        like = [
            other.identity()
            for other, name in zip(first, plain, strict=True)
            if name == label and _fraction(other) == _fraction(run)
        ]
        own = run.identity()
        told = [f"{key}={own.get(key)}" for key in differing(like)]
        found.append(f"{label} ({', '.join(told)})" if told else label)
    return found


def _label(run: FinishedRun) -> str:
    label = str(run.settings.get("method_name"))
    if run.settings.get("no_pretrain") and label != "direct":
        label += " direct"
    elif without := left_out(run.settings):
        label += f" without {without}"
    if run.masks and run.masks != "rules":
        name = run.masks if run.masks in CONTROLS else Path(run.masks).name
        label += f", {name} masks" if name != "none" else ", no masks"
    return label


def differing(trees: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the keys whose values are not the same in all of the trees, sorted."""
    keys = sorted({key for tree in trees for key in tree})
    return [key for key in keys if len({str(tree.get(key)) for tree in trees}) > 1]


def arm_means(arm: Arm, bench: ResampledTestSet) -> dict[str, Estimate]:
    """Return the means of one arm: ``auc``, ``auc_20`` and ``ap``."""
    head, frequent = bench.headline, bench.frequent()
    return {
        "auc": bench.estimate(each(arm.drawn, lambda run: run.mean_auc(head))),
        "auc_20": bench.estimate(each(arm.drawn, lambda run: run.mean_auc(frequent))),
        "ap": bench.estimate(each(arm.drawn, lambda run: run.mean_ap(head))),
    }


_Averaged = Literal[
    "ece", "ece_calibrated", "brier", "brier_calibrated", "f1", "precision", "recall", "specificity"
]
CALIBRATION: tuple[_Averaged, ...] = ("ece", "ece_calibrated", "brier", "brier_calibrated")
DECISIONS: tuple[_Averaged, ...] = ("f1", "precision", "recall", "specificity")


def calibration(arm: Arm) -> dict[str, float | None]:
    """Return ECE and Brier score before and after scaling: over diseases, then over seeds."""
    return _averages(arm, CALIBRATION)


def decisions(arm: Arm) -> dict[str, float | None]:
    """Return F1, precision, recall and specificity at the thresholds found on validation."""
    return _averages(arm, DECISIONS)


def _averages(arm: Arm, keys: Sequence[_Averaged]) -> dict[str, float | None]:
    found: dict[str, float | None] = {}
    for key in keys:
        values = [
            float(value)
            for run in arm.runs
            if run.metrics is not None
            for disease in run.metrics["per_disease"].values()
            if disease["auc"] is not None and (value := disease[key]) is not None
        ]
        found[key] = float(np.mean(values)) if values else None
    return found
