"""Arms of a study, each the same configuration under several seeds, and their comparisons."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from medsgssl.cache import CONTROLS
from medsgssl.evaluation.delong import compare_aucs
from medsgssl.evaluation.multiplicity import holm
from medsgssl.sources import DISEASES
from medsgssl.study.collect import FinishedRun
from medsgssl.study.statistics import Bench, Drawn, Estimate, each
from medsgssl.study.variants import left_out

Kind = Literal["control", "twin", "direct", "masks", "part"]

#: What a comparison of each kind answers.
QUESTIONS: dict[Kind, str] = {
    "control": "the method against the control without masks",
    "twin": "pretraining against the same input path without it",
    "direct": "pretraining against plain supervised training",
    "masks": "lung masks against masks without anatomy",
    "part": "the whole method against the method without one of its parts",
}
# What a method is allowed to differ in from what it is compared with.
_OWN = ("name", "direct", "method.", "masks.", "data.label_fraction")


@dataclass(frozen=True)
class Arm:
    """One configuration with its seeds.

    Attributes:
        label: Unique among the arms of one label fraction.
        method: Its method.
        direct: Whether it goes without pretraining.
        masks: Mask source; empty for a method that looks at no mask.
        fraction: Label fraction.
        runs: One per seed, by seed.
        drawn: Their resampled statistics.
    """

    label: str
    method: str
    direct: bool
    masks: str
    fraction: float
    runs: tuple[FinishedRun, ...]
    drawn: tuple[Drawn, ...]

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


@dataclass(frozen=True)
class DiseaseDifference:
    """One disease in a comparison.

    Attributes:
        difference: Of the AUC, with interval and p value.
        holm: The p value after Holm's correction over the diseases.
        delong: p values of DeLong's test with patients as clusters, by seed, for seeds that both
            arms have.
        ap: Difference of the average precision.
        note: Why something is absent.
    """

    difference: Estimate
    holm: float | None
    delong: dict[int, float]
    ap: Estimate
    note: str = ""


@dataclass(frozen=True)
class Comparison:
    """One arm against another on the same test images.

    Attributes:
        kind: What is compared.
        arm: The first.
        against: The second; differences are the first minus the second.
        mean: Difference of the headline mean AUC.
        mean_20: Difference of the mean AUC over the diseases with enough positives.
        mean_ap: Difference of the headline mean average precision.
        diseases: By name.
        unlike: Settings in which they differ beyond what a method may choose.
    """

    kind: Kind
    arm: Arm
    against: Arm
    mean: Estimate
    mean_20: Estimate
    mean_ap: Estimate
    diseases: dict[str, DiseaseDifference]
    unlike: tuple[str, ...]


def gather_arms(runs: Sequence[FinishedRun], bench: Bench) -> list[Arm]:
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
                method=str(ordered[0].settings.get("name")),
                direct=bool(ordered[0].settings.get("direct")),
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
        told = [f"{key}={own.get(key)}" for key in _differing(like)]
        found.append(f"{label} ({', '.join(told)})" if told else label)
    return found


def _label(run: FinishedRun) -> str:
    label = str(run.settings.get("name"))
    if run.settings.get("direct") and label != "direct":
        label += " direct"
    elif without := left_out(run.settings):
        label += f" without {without}"
    if run.masks and run.masks != "rules":
        name = run.masks if run.masks in CONTROLS else Path(run.masks).name
        label += f", {name} masks" if name != "none" else ", no masks"
    return label


def _differing(trees: Sequence[Mapping[str, Any]]) -> list[str]:
    keys = sorted({key for tree in trees for key in tree})
    return [key for key in keys if len({str(tree.get(key)) for tree in trees}) > 1]


def compare_arms(arms: Sequence[Arm], control: str, bench: Bench) -> list[Comparison]:
    """Make every comparison that the arms allow, fraction by fraction."""
    return [
        _compare(kind, arm, against, bench)
        for arm in arms
        for kind, against in _opponents(arm, arms, control)
    ]


def _opponents(arm: Arm, arms: Sequence[Arm], control: str) -> Iterator[tuple[Kind, Arm]]:
    same = [other for other in arms if other.fraction == arm.fraction and other is not arm]
    for other in same:
        own = other.method == arm.method
        if other.label == control and not (arm.direct and arm.method == control):
            yield "control", other
        elif arm.direct or arm.without:
            continue
        elif own and other.without and other.masks == arm.masks:
            yield "part", other
        elif own and other.direct and not arm.is_mask_control:
            yield "twin", other
        elif other.method == "direct" and arm.method == control:
            yield "direct", other
        elif own and not other.direct and other.is_mask_control and not arm.is_mask_control:
            yield "masks", other


def _compare(kind: Kind, arm: Arm, against: Arm, bench: Bench) -> Comparison:
    a, b = arm.drawn, against.drawn
    head, frequent = bench.headline, bench.frequent()
    raw = [_disease(d, arm, against, bench) for d in range(len(DISEASES))]
    named = dict(zip(DISEASES, raw, strict=True))
    corrected = holm({name: found.difference.p for name, found in named.items()})
    return Comparison(
        kind=kind,
        arm=arm,
        against=against,
        mean=bench.difference(
            each(a, lambda run: run.mean_auc(head)), each(b, lambda run: run.mean_auc(head))
        ),
        mean_20=bench.difference(
            each(a, lambda run: run.mean_auc(frequent)), each(b, lambda run: run.mean_auc(frequent))
        ),
        mean_ap=bench.difference(
            each(a, lambda run: run.mean_ap(head)), each(b, lambda run: run.mean_ap(head))
        ),
        diseases={
            name: DiseaseDifference(
                found.difference, corrected[name], found.delong, found.ap, found.note
            )
            for name, found in named.items()
        },
        unlike=_unlike(arm, against),
    )


def _disease(d: int, arm: Arm, against: Arm, bench: Bench) -> DiseaseDifference:
    ap = bench.difference(
        each(arm.drawn, lambda run: run.disease_ap(d)),
        each(against.drawn, lambda run: run.disease_ap(d)),
    )
    difference = bench.difference(
        each(arm.drawn, lambda run: run.disease_auc(d)),
        each(against.drawn, lambda run: run.disease_auc(d)),
    )
    test, delong, note = bench.test, {}, ""
    others = {run.seed: run for run in against.runs}
    pairs = [(run, others[run.seed]) for run in arm.runs if run.seed in others]
    if len(arm.runs) == 1 and len(against.runs) == 1:
        pairs = [(arm.runs[0], against.runs[0])]
    for run, other in pairs:
        columns = test.labels[:, d], run.test.scores[:, d], other.test.scores[:, d]
        try:
            found = compare_aucs(*columns, clusters=test.patients)
        except ValueError as error:
            note = str(error)
            continue
        delong[run.seed] = found.p
        if len(arm.runs) == 1 and len(against.runs) == 1:
            # Of one run each, the closed form is exact where the bootstrap is rough.
            difference = Estimate(found.difference, found.interval(bench.confidence), None, found.p)
    return DiseaseDifference(difference, None, delong, ap, note)


def _unlike(arm: Arm, against: Arm) -> tuple[str, ...]:
    own, other = arm.settings, against.settings
    keys = [
        key
        for key in _differing([own, other])
        if not key.startswith(_OWN)
        and not (key.startswith("pretrain.") and _one_is_direct(arm, against))
    ]
    return tuple(f"{key}: {own.get(key)} against {other.get(key)}" for key in keys)


def _one_is_direct(arm: Arm, against: Arm) -> bool:
    return arm.direct or against.direct


def arm_means(arm: Arm, bench: Bench) -> dict[str, Estimate]:
    """Return the means of one arm: ``auc``, ``auc_20`` and ``ap``."""
    head, frequent = bench.headline, bench.frequent()
    return {
        "auc": bench.estimate(each(arm.drawn, lambda run: run.mean_auc(head))),
        "auc_20": bench.estimate(each(arm.drawn, lambda run: run.mean_auc(frequent))),
        "ap": bench.estimate(each(arm.drawn, lambda run: run.mean_ap(head))),
    }
