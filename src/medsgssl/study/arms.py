"""Arms of a study: the same configuration under several seeds or folds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from medsgssl.config.loading import FlatSettings
from medsgssl.data.mask_cache import CONTROLS
from medsgssl.evaluation.jackknife import JackknifedScores, Statistic
from medsgssl.runs.metrics_file import disease_metric
from medsgssl.study.collect import FinishedRun
from medsgssl.study.matching import TELLING, differing
from medsgssl.study.statistics import PointEstimate, ResampledTestSet
from medsgssl.study.variants import left_out
from medsgssl.utils.formatting import counted


@dataclass(frozen=True)
class Arm:
    """One configuration with its seeds or folds.

    Attributes:
        label: Unique among the arms of one label fraction.
        method: Its method.
        no_pretrain: Whether it has no pretraining stage.
        masks: Mask source; empty for a method that looks at no mask.
        fraction: Label fraction.
        runs: One per seed or fold, in order.
        jackknifed: Their scores, each patient left out in turn.
    """

    label: str
    method: str
    no_pretrain: bool
    masks: str
    fraction: float
    runs: tuple[FinishedRun, ...]
    jackknifed: tuple[JackknifedScores, ...]

    @property
    def key(self) -> tuple[str, float]:
        """Label and fraction: unique in a study."""
        return self.label, self.fraction

    @property
    def planned(self) -> str:
        """Name of the arm in the plan of its study; empty outside of a study."""
        return self.runs[0].arm

    @property
    def is_mask_control(self) -> bool:
        """Whether its masks carry no anatomy."""
        return self.masks in CONTROLS

    @cached_property
    def without(self) -> str:
        """Name of the component of the method that is left out; empty for the whole method."""
        return left_out(self.settings)

    @cached_property
    def settings(self) -> FlatSettings:
        """The configuration by dotted key, without seed and fold."""
        return self.runs[0].identity()

    def metric_mean(self, key: str) -> float | None:
        """Mean of a metric of ``metrics.json`` over runs and the diseases with both classes."""
        values: list[float] = []
        for run in self.runs:
            for disease in run.metrics["per_disease"].values() if run.metrics else ():
                value = disease_metric(disease, key)
                if disease["auc"] is not None and value is not None:
                    values.append(float(value))
        return float(np.mean(values)) if values else None

    def each(self, pick: Callable[[JackknifedScores], Statistic]) -> dict[int, Statistic]:
        """Pick the same statistic of every run, by seed or fold."""
        return {
            run.repeat: pick(scores) for run, scores in zip(self.runs, self.jackknifed, strict=True)
        }


def gather_arms(runs: Sequence[FinishedRun], bench: ResampledTestSet) -> list[Arm]:
    """Put runs that differ in seed or fold alone into one arm.

    Arms of the same method, masks and fraction get the settings in which they differ into their
    label.
    """
    groups: dict[str, list[FinishedRun]] = {}
    for run in runs:
        key = repr(sorted((name, str(value)) for name, value in run.identity().items()))
        groups.setdefault(key, []).append(run)
    labels = _labels([group[0] for group in groups.values()])
    arms = []
    for label, group in zip(labels, groups.values(), strict=True):
        ordered = tuple(sorted(group, key=lambda run: run.repeat))
        arms.append(
            Arm(
                label=label,
                method=str(ordered[0].settings.get("method_name")),
                no_pretrain=bool(ordered[0].settings.get("no_pretrain")),
                masks=ordered[0].masks,
                fraction=_fraction(ordered[0]),
                runs=ordered,
                jackknifed=tuple(bench.jackknife(run.test.scores, run.fold) for run in ordered),
            )
        )
    return sorted(arms, key=lambda arm: (arm.fraction, arm.label))


def _fraction(run: FinishedRun) -> float:
    return float(run.settings.get("data.label_fraction", 1.0))


def _labels(first: Sequence[FinishedRun]) -> list[str]:
    plain = [_label(run) for run in first]
    labels = []
    for run, label in zip(first, plain, strict=True):
        like = [
            other.identity()
            for other, name in zip(first, plain, strict=True)
            if name == label and _fraction(other) == _fraction(run)
        ]
        own = run.identity()
        told_apart_by = [_setting(key, own.get(key)) for key in _telling(like)]
        labels.append(f"{label} ({', '.join(told_apart_by)})" if told_apart_by else label)
    return labels


def _telling(like: Sequence[FlatSettings]) -> list[str]:
    """Return the fewest settings that tell arms of the same name apart."""
    keys = differing(like)
    chosen = [key for key in TELLING if key in keys]
    for count in range(1, len(chosen) + 1):
        if len({repr([tree.get(key) for key in chosen[:count]]) for tree in like}) == len(like):
            return chosen[:count]
    return chosen + [key for key in keys if key not in chosen]


def _setting(key: str, value: Any) -> str:
    if key == "pretrain.epochs":
        return counted(int(value), "epoch")
    return str(value) if key in ("encoder.name", "views.frame") else f"{key}={value}"


def _label(run: FinishedRun) -> str:
    label = str(run.settings.get("method_name"))
    if run.settings.get("no_pretrain") and label != "direct":
        label += " without pretraining"
    elif without := left_out(run.settings):
        label += f" without {without}"
    if run.masks and run.masks != "rules":
        name = run.masks if run.masks in CONTROLS else Path(run.masks).name
        label += f", {name} masks" if name != "none" else ", no masks"
    return label


@dataclass(frozen=True)
class ArmMeans:
    """Means over the diseases of one arm.

    Attributes:
        auc: Of the AUC over the diseases that are judged on.
        ap: Of the average precision over the same.
        auc_all: Of the AUC over every disease with both classes; without an interval where one
            of them has too few patients.
    """

    auc: PointEstimate
    ap: PointEstimate
    auc_all: PointEstimate


def arm_means(arm: Arm, bench: ResampledTestSet) -> ArmMeans:
    """Return the means of one arm."""
    judged, defined = bench.judged_on, bench.defined()
    frequent = bench.frequent()

    def with_interval(point: PointEstimate, among: Any) -> PointEstimate:
        return point if not (among & ~frequent).any() else point.bare()

    return ArmMeans(
        auc=with_interval(bench.estimate(arm.each(lambda run: run.mean_auc(judged))), judged),
        ap=with_interval(bench.estimate(arm.each(lambda run: run.mean_ap(judged))), judged),
        auc_all=with_interval(bench.estimate(arm.each(lambda run: run.mean_auc(defined))), defined),
    )
